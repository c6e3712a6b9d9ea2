# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-6.12
# Random scripts of socket calls return over VMC, with forced switches, what they return over TCP.
# limit: 900
script=$work/vmc-script
"$cases/../script/build" "$script"
count=10000
[ "$config" = pv ] || count=3000

play() {	# OUT [OPTIONS]
	g2 "pkill -x vmc-script; sleep 0.2; vmc-script agent --background ${2-}"
	LIMIT=400 g1 "vmc-script play $(addr g2) --scripts $count --parallel 12 --out /tmp/$1 ${2-}" ||
		die "outcomes that are wrong by themselves"
	"$lab" get g1 "/tmp/$1" "$work/$1"
}

# One of them again, every call shown.
show() {	# SEED [OPTIONS]
	g2 "pkill -x vmc-script; sleep 0.2; vmc-script agent --background ${2-}"
	g1 "vmc-script play $(addr g2) --seed $1 --scripts 1 --verbose ${2-}" || true
}

set_earning() {	# CALLS BYTES
	local guest
	for guest in g1 g2; do
		there $guest "cd /sys/module/vmc/parameters && echo $1 >min_calls && echo $2 >min_bytes"
	done
}

for guest in g1 g2; do
	"$lab" put $guest "$script" /usr/local/bin/vmc-script
	there $guest "rmmod vmc"
done
play tcp.txt
for guest in g1 g2; do there $guest "modprobe vmc"; done
for guest in g1 g2; do wait_for 20 "connected $guest" "$guest to connect again"; done
serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
before=$(vmc_chan g1 takeovers)
play vmc.txt --switch
assert_ge $(($(vmc_chan g1 takeovers) - before)) $count "takeovers in g1, of $count scripts"
assert_ge "$(vmc_reason g1 operator)" $((count / 10)) "streams of g1 that were sent back to TCP"
there g1 "cat /sys/kernel/debug/vmc/status"
if ! cmp -s "$work/tcp.txt" "$work/vmc.txt"; then
	first=$(diff "$work/tcp.txt" "$work/vmc.txt" | awk '/^</ { print $2; exit }')
	echo "scripts that differ: $(diff "$work/tcp.txt" "$work/vmc.txt" | grep -c '^<')"
	show "$first" --switch
	for guest in g1 g2; do there $guest "rmmod vmc"; done
	show "$first"
	die "script $first returns something else over VMC, see above"
fi
g2 "pkill -x vmc-script"
same_as_baseline g1 g2
dmesg_clean g1 g2
set_earning 4 16384
