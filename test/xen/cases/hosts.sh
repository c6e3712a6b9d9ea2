# SPDX-License-Identifier: GPL-2.0-or-later
# long: pvh-hosts
# Two guests migrate live from one host to another, one after the other, and back, under load: nothing is lost; local whenever they meet.
# limit: 2400
there h2:dom0 "systemctl is-active vmcd"
dmesg_mark g1 g2
serve g1 g2 -- --moves
assert_local g1 g2
load
declare -A at=([g1]=h1 [g2]=h1)

together() {	# WHAT
	wait_for 60 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 3 ] && [ \"\$(vmc_chan g2 tx_streams)\" -ge 3 ]" "$1: connections to be local"
	load_goes_on "$1"
}

apart() {	# WHAT
	local guest before after
	for guest in g1 g2; do assert_eq "$(vmc_status $guest mapped)" 0 "$1: pages that $guest has mapped"; done
	before=$(g2 "cat /sys/class/net/eth0/statistics/rx_bytes")
	wait_for 60 "[ \"\$(g2 'cat /sys/class/net/eth0/statistics/rx_bytes')\" -gt $((before + 100000)) ]" "$1: traffic over the network"
	load_goes_on "$1"
}

move() {	# GUEST HOST
	local from=${at[$1]}
	LIMIT=600 there "$from:dom0" "bash -lc 'xl migrate $1 $2' 2>&1" >"$work/migrate" || { cat "$work/migrate"; die "$1 to $2: xl migrate"; }
	assert_match "$(cat "$work/migrate")" 'is parted from its peers' "the helper's words"
	at[$1]=$2
	wait_for 20 "! there $from:dom0 'xl list' | grep -qE '^\\(null\\)|-*d-* +[0-9.]+$'" "nothing to be left of $1 on $from"
	echo "$1 is on $2"
}

together "at first"
move g1 h2
apart "g1 on h2, g2 on h1"
move g2 h2
together "both on h2"
move g2 h1
apart "g1 on h2, g2 on h1 again"
move g1 h1
together "both on h1 again"

load_ends
serve_clean g1 g2
dmesg_clean g1 g2
