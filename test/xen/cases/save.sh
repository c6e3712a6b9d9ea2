# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# A guest is saved and restored, or stays after all, under load, with vmcd's help and without: nothing is lost, and it is local again.
# limit: 600
FILE=/var/tmp/g1.save
journal_mark
dmesg_mark g1 g2
serve g1 g2 -- --moves
assert_local g1 g2
# a guest may be away for longer than a TCP_USER_TIMEOUT that a program sets
OPS=-oob,-sockopt
LOAD='up down'
hold up g1 g2 41 --moves
hold down g2 g1 42 --moves

# Nothing that g1 had of g2's is mapped, nor the other way round, as the two of them and Xen say.
parted() {	# WHAT
	wait_for 20 "[ \"\$(json \"[c for c in d['channels'] if c['mode'] != 'closing']\" channels)\" = [] ]" "$1: channels to be gone"
	assert_eq "$(vmc_status g2 mapped)" 0 "$1: pages that g2 has mapped"
	assert_eq "$(mapped_by "$g1")" 0 "$1: pages that g1 has mapped, says Xen"
}

xl() {	# as the administrator who logs in types it
	LIMIT=150 dom0 "bash -lc 'xl $*' 2>&1" </dev/null
}

restore() {	# WHAT
	xl "restore $FILE" >"$work/restore"
	dom0 "rm -f $FILE"
	g1=$(domid g1)
	local_again "$1"
	wait_for 20 no_zombies "$1: the old g1's memory to be free"
}

g1=$(domid g1)
local_again "at first"
assert_ge "$(mapped_by "$g1")" 1 "pages that g1 has mapped while it is local, says Xen"

echo "== saved, prepared by the helper"
xl "save g1 $FILE" | tee "$work/said"
assert_match "$(cat "$work/said")" 'vmc-save-helper: domain [0-9]+ is parted from its peers \([0-9]+ ms\)' "the helper's words"
parted saved
restore "restored"

echo "== saved, and nobody told vmcd"
LIMIT=150 dom0 "env -u LIBXL_SAVE_HELPER xl save g1 $FILE 2>&1" >"$work/said"
! grep -q vmc-save-helper "$work/said" || die "the helper has run"
parted "saved by itself"
restore "restored by itself"

echo "== a checkpoint: the suspend is called off"
for helper in '' 'env -u LIBXL_SAVE_HELPER '; do
	was=$(domid g1)
	LIMIT=150 dom0 "bash -lc '${helper}xl save -c g1 $FILE' 2>&1 && rm -f $FILE"
	assert_eq "$(domid g1)" "$was" "g1's domid after a checkpoint"
	local_again "${helper:+without the helper, }after a checkpoint"
done

echo "== a save that fails"
dom0 "mkdir -p /run/small && mount -t tmpfs -o size=30m none /run/small"
! xl "save g1 /run/small/g1" >"$work/said" || die "a save to where there is no room worked"
dom0 "umount /run/small"
assert_match "$(cat "$work/said")" 'is parted from its peers' "the helper's words"
local_again "after a save that failed"

echo "== prepared by hand"
assert_match "$(dom0 'vmcctl prepare g1')" 'g1 is prepared' "vmcctl prepare"
parted prepared
assert_eq "$(json "[g['prepared'] for g in d['guests'] if g['name'] == 'g1']" list)" "['prepared']" "what vmcctl list says of g1"
sleep 3
parted "still prepared"
dom0 "vmcctl resume g1"
local_again resumed
dom0 "vmcctl prepare g1 --seconds 4"
parted "prepared for a time"
local_again "when the time is over"

echo "== vmcd is away"
dom0 "systemctl stop vmcd.socket vmcd"
dom0 "mkdir -p /etc/vmc && echo 'on-failure = stop' >/etc/vmc/save-helper.conf"
! xl "save g1 $FILE" >"$work/said" || die "a save that was to be stopped went on"
assert_match "$(cat "$work/said")" 'vmcd is not running.*stopping' "why the save was stopped"
dom0 "echo 'on-failure: stop' >/etc/vmc/save-helper.conf"
! xl "save g1 $FILE" >"$work/said" || die "a save went on with a configuration that makes no sense"
assert_match "$(cat "$work/said")" 'save-helper.conf:1: ' "what is wrong with the configuration"
dom0 "rm -r /etc/vmc"
xl "save g1 $FILE" >"$work/said"
assert_match "$(cat "$work/said")" 'vmcd is not running.*going on' "that the save goes on"
dom0 "systemctl start vmcd.socket vmcd"
wait_for 20 vmcd_active vmcd
restore "restored after vmcd was away"

for guest in g1 g2; do stop_holding $guest; done
finish up 120
finish down 120
serve_clean g1 g2
dmesg_clean g1 g2
assert_eq "$(journal -p err)" "" "vmcd's errors"
