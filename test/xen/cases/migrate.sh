# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pvh
# A guest migrates live, to the host that it is on, and back, under load: nothing is lost; local, remote meanwhile, local again.
# limit: 500
dmesg_mark g1 g2
serve g1 g2 -- --moves
assert_local g1 g2
# a guest may be away for longer than a TCP_USER_TIMEOUT that a program sets
OPS=-oob,-sockopt
LOAD='up down'
hold up g1 g2 51 --moves
hold down g2 g1 52 --moves

migrate() {	# WHAT GUEST [COMMAND-BEFORE]
	local was
	was=$(domid $2)
	LIMIT=200 dom0 "bash -lc '${3-} xl migrate -s \"\" $2 \"xl migrate-receive\"' 2>&1" >"$work/migrate" || {
		cat "$work/migrate"; die "$1: xl migrate"; }
	grep vmc-save-helper "$work/migrate" || true
	[ "$(domid $2)" != "$was" ] || die "$1: $2 has its old domid"
	local_again "$1"
	wait_for 20 no_zombies "$1: the memory of the domain that was to be free"
}

local_again "at first"
migrate "g1 has moved" g1
assert_match "$(cat "$work/migrate")" 'is parted from its peers' "the helper's words"
migrate "g2 has moved" g2
migrate "g1 has moved, and nobody told vmcd" g1 'env -u LIBXL_SAVE_HELPER'

echo "== the receiver dies in the middle"
was=$(domid g1)
LIMIT=200 dom0 "bash -lc 'xl migrate -s \"\" g1 \"timeout -s KILL 10 xl migrate-receive\"' 2>&1 && echo it worked" >"$work/migrate" || true
cat "$work/migrate"
! grep -q 'it worked' "$work/migrate" || die "a migration to a receiver that dies worked"
assert_match "$(cat "$work/migrate")" 'is parted from its peers' "the helper's words"
dom0 "xl destroy g1--incoming 2>/dev/null || true"	# if it got that far
assert_eq "$(domid g1)" "$was" "g1's domid after a migration that failed"
local_again "after a migration that failed"

for guest in g1 g2; do stop_holding $guest; done
finish up 120
finish down 120
serve_clean g1 g2
dmesg_clean g1 g2
