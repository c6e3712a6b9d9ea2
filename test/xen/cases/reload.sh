# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv pvh pv-smp pv-6.12 pv-debug
# The driver is unloaded and loaded on either side under load: nothing is lost, new connections become local again.
# limit: 600
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
hold up g1 g2 11
hold down g2 g1 12
# some of them are local before anything happens
wait_for 60 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 4 ]" "held connections to be local"

unload() {	# GUEST
	# as an administrator does it: not by force, and not for ever
	LIMIT=30 there "$1" "rmmod vmc" || die "rmmod in $1"
	! has_driver "$1" || die "$1 still has the driver"
	running up && running down || { cat "$work/up.out" "$work/down.out"; die "connections ended"; }
}

load() {	# GUEST
	there "$1" "modprobe vmc"
	wait_for 20 "connected $1" "$1 to connect again"
}

for round in 1 2; do
	for guest in g1 g2; do
		unload $guest
		warm_up g1 g2
		load $guest
		assert_local g1 g2
		assert_local g2 g1
	done
done
unload g1
unload g2
warm_up g2 g1
load g2
load g1
assert_local g1 g2
for guest in g1 g2; do stop_holding $guest; done
finish up 60
finish down 60
serve_clean g1 g2
dmesg_clean g1 g2
