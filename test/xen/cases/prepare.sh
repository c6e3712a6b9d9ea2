# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# What goes wrong while a guest is being prepared, or is prepared, step by step; its other connections lose nothing.
# limit: 800
"$cases/../../../guest-driver/build" --strip "$("$lab" kver)" "$work/driver" VMC_HOSTILE=y >"$work/build.log" 2>&1 ||
	{ cat "$work/build.log"; die "no driver"; }
dmesg_mark g1 g2
serve g1 g2 -- --moves
OPS=-oob,-sockopt
LOAD='up down'
hold up g1 g2 21 --moves
hold down g2 g1 22 --moves

# g3 has a channel with g1, with connections in it, and keeps it when it is told to close it.
stubborn() {
	"$lab" put g3 "$work/driver/vmc.ko" /tmp/vmc-hostile.ko
	there g3 "rmmod vmc; insmod /tmp/vmc-hostile.ko"
	wait_for 30 "connected g3" "g3 to connect"
	put_traffic g3
	serve g3
	assert_local g1 g3
	there g3 "echo 6 >/sys/module/vmc/parameters/hostile"
}

# Somebody waits for g1, which g3 does not let go.
begin() {
	LIMIT=60 background waits dom0 "vmcctl prepare g1 2>&1 && echo prepared"
	wait_for 10 "dom0 'vmcctl list' | grep -q preparing" "g1 to be preparing"
	sleep 1
	running waits || { cat "$work/waits.out"; die "it is prepared although g3 keeps its channel"; }
}

goes_on() {	# WHAT
	wait_for 20 vmcd_active "$1: vmcd"
	local_again "$1"
	assert_eq "$(json "[g['prepared'] for g in d['guests'] if g['name'] == 'g1']" list)" "['no']" "$1: what vmcctl list says of g1"
}

prepared() {	# WHAT
	finish waits 30
	assert_match "$(cat "$work/waits.out")" '^prepared$' "$1"
	assert_eq "$(vmc_status g1 mapped)" 0 "$1: pages that g1 has mapped"
	dom0 "vmcctl resume g1"
}

local_again "at first"

echo "== waiting: the peer never lets go"
stubborn
began=$SECONDS
begin
prepared "g3 was parted from it by force"
assert_le $((SECONDS - began)) 20 "seconds"
goes_on "the peer never lets go"
dom0 "vmcctl show g3" | sed -n 1,12p

echo "== waiting: who asked for it leaves"
create g3
stubborn
begin
dom0 "pkill -x vmcctl"
wait_for 10 "! running waits" "vmcctl to be gone"
goes_on "who asked for it leaves"

echo "== waiting: vmcd is killed"
create g3
stubborn
begin
dom0 "systemctl kill -s KILL vmcd"
wait_for 10 "! running waits" "vmcctl to notice"
assert_match "$(cat "$work/waits.out")" 'vmcd' "what vmcctl says"
goes_on "vmcd is killed"

echo "== waiting: the peer is paused"
create g3
stubborn
begin
dom0 "xl pause g3"
prepared "a peer that is paused is not waited for"
goes_on "the peer is paused"
dom0 "xl unpause g3"

echo "== waiting: the peer is destroyed"
create g3
stubborn
begin
dom0 "xl destroy g3"
prepared "the peer is destroyed"
goes_on "the peer is destroyed"

echo "== waiting: the peer crashes"
create g3
stubborn
begin
there g3 "echo c >/proc/sysrq-trigger" >/dev/null 2>&1 &
prepared "the peer crashes"
goes_on "the peer crashes"
wait $! || true

echo "== waiting: the guest is paused, and runs again"
create g3
stubborn
begin
dom0 "xl pause g1; sleep 3; xl unpause g1"
prepared "the guest was paused"
goes_on "the guest was paused"

echo "== suspended without a word, and the peer keeps its channel"
create g3
stubborn
LIMIT=150 dom0 "env -u LIBXL_SAVE_HELPER xl save g1 /var/tmp/g1.save && xl restore /var/tmp/g1.save; rm -f /var/tmp/g1.save" >"$work/saved" 2>&1
goes_on "restored"
wait_for 30 no_zombies "the old g1's memory to be free, as g3 has lost its link and with it all that it had mapped"

echo "== prepared: vmcd is killed"
create g3
LIMIT=60 background waits dom0 "vmcctl prepare g1 && echo prepared; sleep 1; systemctl kill -s KILL vmcd"
finish waits 30
goes_on "vmcd is killed while g1 is prepared"

echo "== prepared: a peer is destroyed, another comes"
dom0 "vmcctl prepare g1 && xl destroy g3"
create g3
wait_for 30 "connected g3" "g3 to connect"
assert_eq "$(vmc_status g1 peers)" 0 "peers of a guest that is prepared"
dom0 "vmcctl resume g1"
goes_on "resumed"
serve g3
assert_local g1 g3

wait_for 30 no_zombies "memory of domains that are gone to be free"
for guest in g1 g2; do stop_holding $guest; done
finish up 120
finish down 120
serve_clean g1 g2
dmesg_clean g1 g2
