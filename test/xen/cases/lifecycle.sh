# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# What else happens to a guest: renamed, paused, other addresses, another vif, rebooted, shut down; a XenStore that is slow.
# limit: 600
dmesg_mark g1 g3
put_traffic g1 g2 g3
serve g1 g2 g3
assert_local g1 g3
OPS=-oob,-sockopt
LOAD='up down'
hold up g1 g3 31
hold down g3 g1 32

listed() { [ "$(json "[g['name'] for g in d['guests'] if g['domid'] == $(domid "$1")]" list)" = "['$1']" ]; }

# Megabytes of new connections from g3, 8 to 12 of them, that go to an address of g1's through shared memory. The load is less than one.
through() {	# ADDRESS
	local before after
	before=$(vmc_chan g3 tx_bytes)
	there g3 "vmc-traffic run $1 --port $PORT --connections 4 --parallel 2 --pattern both --ops none --min-bytes 2M --max-bytes 3M --timeout 60" >&2
	after=$(vmc_chan g3 tx_bytes)
	echo $(((after - before) / 1000000))
}

# Connections from g3 that end as TCP's do when nobody answers any more; to a server of their own, which loses them.
there g1 "vmc-traffic serve --port 7701 --family mapped --background --log /tmp/doomed.log"
doomed() {	# NAME ADDRESS
	LIMIT=200 background "$1" g3 "vmc-traffic hold $2 --port 7701 --seed 33 --connections 3 --pace 300 --style poll \
		--ops none --seconds 150 --timeout 190 --peer-dies --user-timeout 8000"
	wait_for 60 "grep -q holding $work/$1.out" "connections to $2 to be open"
	wait_for 20 "[ \"\$(vmc_chan g3 tx_streams)\" -ge 6 ]" "connections to $2 to be local"
}

still_local() {	# WHAT
	load_goes_on "$1"
	wait_for 20 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 3 ] && [ \"\$(vmc_chan g3 tx_streams)\" -ge 3 ]" "$1: connections to be local"
}

still_local "at first"

echo "== renamed"
dom0 "xl rename g1 renamed"
wait_for 15 "listed renamed" "vmcctl to know the new name"
dom0 "vmcctl prepare renamed --seconds 60 && vmcctl resume renamed && xl rename renamed g1"
wait_for 15 "listed g1" "vmcctl to know the old name"
still_local renamed

echo "== paused"
dom0 "xl pause g3; sleep 8; xl unpause g3"
still_local "after a pause"

echo "== another IP address"
g1 "ip addr add 10.77.0.111/24 dev eth0; ip addr add fd77::111/64 dev eth0 nodad"
assert_ge "$(through 10.77.0.111)" 4 "megabytes to a new address"
assert_ge "$(through fd77::111)" 4 "megabytes to a new IPv6 address"
doomed address 10.77.0.111
doomed address6 fd77::111
g1 "ip addr del 10.77.0.111/24 dev eth0; ip addr del fd77::111/64 dev eth0"
finish address 60
finish address6 60
still_local "an address is gone"

echo "== another MAC address, which Dom0 does not know"
set_mac() {	# ADDRESS
	g1 "sysctl -qw net.ipv4.conf.eth0.arp_notify=1 net.ipv6.conf.eth0.keep_addr_on_down=1
		ip link set eth0 down && ip link set eth0 address $1; ip link set eth0 up; grep -q $1 /sys/class/net/eth0/address"
	g3 "ip neigh flush dev eth0"
}
mac=$(g1 "cat /sys/class/net/eth0/address")
set_mac 00:16:3e:77:99:99
assert_le "$(through "$(addr g1)")" 2 "megabytes through shared memory to a MAC address that Dom0 did not give"
load_goes_on "another MAC address"
set_mac "$mac"
assert_ge "$(through "$(addr g1)")" 4 "megabytes to the old MAC address"
still_local "the old MAC address"

echo "== another vif"
dom0 "xl network-attach g1 bridge=xenbr0 mac=00:16:3e:77:01:01"
wait_for 20 "g1 'grep -q 00:16:3e:77:01:01 /sys/class/net/*/address'" "the vif in the guest"
nic=$(g1 "grep -l 00:16:3e:77:01:01 /sys/class/net/*/address | cut -d/ -f5")
g1 "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; ip link set $nic up; ip addr replace 10.78.0.11/24 dev $nic"
g3 "ip addr replace 10.78.0.13/24 dev eth0"
wait_for 20 "[ \"\$(through 10.78.0.11)\" -ge 4 ]" "connections over the new vif to be local"
doomed vif 10.78.0.11
dom0 "xl network-detach g1 1"
wait_for 20 "! g1 'ls -d /sys/class/net/$nic' 2>/dev/null" "the vif to be gone"
still_local "the vif is gone"
# what was on the vif's way ends as it does without VMC: nobody answers
finish vif 60
g3 "ip addr del 10.78.0.13/24 dev eth0"

echo "== a XenStore that is slow"
pid=$(vmcd_pid)
dom0 "pkill -STOP oxenstored || pkill -STOP xenstored; sleep 12; pkill -CONT oxenstored || pkill -CONT xenstored"
still_local "XenStore was slow"
dom0 "xl rename g1 renamed"
wait_for 15 "listed renamed" "vmcctl to know the new name"
dom0 "xl rename renamed g1"
assert_eq "$(vmcd_pid)" "$pid" "the process of vmcd, which XenStore holds up"

echo "== rebooted, without a word"
was=$(domid g2)
assert_local g1 g2
LIMIT=200 background reboot g1 "vmc-traffic hold $(addr g2) --port $PORT --seed 34 --connections 3 --pace 300 --style poll \
	--ops none --seconds 150 --timeout 190 --peer-dies --user-timeout 8000"
wait_for 60 "grep -q holding $work/reboot.out" "connections to be open"
there g2 "echo b >/proc/sysrq-trigger" >/dev/null 2>&1 || true
wait_for 60 "[ \"\$(domid g2)\" != $was ] && there g2 true 2>/dev/null" "g2 to boot again"
finish reboot 60
put_traffic g2
wait_for 60 "connected g2" "g2's link"
serve g2
assert_local g1 g2

echo "== shut down"
dom0 "xl shutdown -w g2"
wait_for 20 "[ -z \"\$(json \"[g for g in d['guests'] if g['name'] == 'g2']\" list | tr -d '[]')\" ]" "vmcctl to forget g2"
wait_for 30 no_zombies "the memory of domains that are gone to be free"
still_local "others are gone"
create g2

for guest in g1 g3; do stop_holding $guest; done
finish up 120
finish down 120
serve_clean g1 g3
dmesg_clean g1 g3
