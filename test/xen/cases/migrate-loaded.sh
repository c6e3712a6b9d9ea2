# SPDX-License-Identifier: GPL-2.0-or-later
# long: pvh
# Guests migrate live under a load of 16 streams, 64 connections with requests, datagrams and ssh: nothing is lost, and it is local again.
# limit: 1000
dmesg_mark g1 g2
serve g1 g2 -- --moves
assert_local g1 g2
load
local_again "at first"
for guest in g1 g2; do
	was=$(domid $guest)
	LIMIT=250 dom0 "bash -lc 'xl migrate -s \"\" $guest \"xl migrate-receive\"' 2>&1" >"$work/migrate.$guest" || {
		cat "$work/migrate.$guest"; die "$guest: xl migrate"; }
	assert_match "$(cat "$work/migrate.$guest")" 'is parted from its peers' "the helper's words"
	[ "$(domid $guest)" != "$was" ] || die "$guest has its old domid"
	local_again "$guest has moved"
	wait_for 30 no_zombies "the memory of the domain that was $guest to be free"
done
load_ends
serve_clean g1 g2
dmesg_clean g1 g2
