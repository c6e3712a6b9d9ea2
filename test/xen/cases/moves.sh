# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# What goes wrong while a guest is parted and saved: its peer is paused, crashes, is destroyed, vmcd is killed. Survivors lose nothing.
# limit: 900
FILE=/var/tmp/g1.save
dmesg_mark g1 g2
serve g1 g2 -- --moves
put_traffic g3
serve g3
assert_local g1 g2
# a guest may be away for longer than a TCP_USER_TIMEOUT that a program sets
OPS=-oob,-sockopt
LOAD='up down'
hold up g1 g2 81 --moves
hold down g2 g1 82 --moves

save() { LIMIT=150 dom0 "bash -lc 'xl save g1 $FILE' 2>&1" | tee "$work/said"; }

restore() {	# WHAT
	LIMIT=150 dom0 "bash -lc 'xl restore $FILE'; rm -f $FILE"
	local_again "$1"
	wait_for 30 no_zombies "$1: the old g1's memory to be free"
}

# g3 has a channel to g1 with connections in it, which end as TCP's do when a host disappears.
third() {	# NAME
	assert_local g1 g3
	LIMIT=600 background "$1" g1 "vmc-traffic hold $(addr g3) --port $PORT --seed 83 --connections 3 --pace 500 --style poll \
		--ops none --seconds 500 --timeout 590 --peer-dies --user-timeout 8000 --moves"
	wait_for 60 "grep -q holding $work/$1.out" "$1: connections to be open"
}

local_again "at first"

echo "== the peer is paused for a minute"
dom0 "xl pause g2"
began=$SECONDS
save
assert_match "$(cat "$work/said")" 'is parted from its peers' "the helper's words"
assert_le $((SECONDS - began)) 60 "seconds that a save took with its peer paused"
LIMIT=150 dom0 "bash -lc 'xl restore $FILE'; rm -f $FILE"
wait_for 30 "connected g1" "g1's link"
while [ $((SECONDS - began)) -lt 60 ]; do sleep 1; done
dom0 "xl unpause g2"
local_again "the peer runs again"
wait_for 30 no_zombies "the old g1's memory to be free"

echo "== the peer crashes while the guest is parted"
third crash
there g3 "echo c >/proc/sysrq-trigger" >/dev/null 2>&1 &
save
restore "g3 has crashed"
finish crash 200
wait $! || true

echo "== the peer is destroyed while the guest is parted"
create g3
serve g3
third destroy
dom0 "xl destroy g3" &
killer=$!
save
wait $killer
restore "g3 was destroyed"
finish destroy 200

echo "== vmcd is killed at some point of it"
for delay in 0.1 0.3 0.6 1 2; do
	dom0 "(sleep $delay; systemctl kill -s KILL vmcd) >/dev/null 2>&1 &"
	save
	wait_for 20 vmcd_active vmcd
	restore "vmcd was killed after $delay s"
done
dom0 "systemctl reset-failed vmcd || true"
create g3

for guest in g1 g2; do stop_holding $guest; done
finish up 120
finish down 120
serve_clean g1 g2
dmesg_clean g1 g2
