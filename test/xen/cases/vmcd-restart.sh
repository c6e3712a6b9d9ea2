# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh
# The daemon is restarted, killed, and away for a while: channels and connections go on, the next one finds them.
# limit: 450
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
hold hold g1 g2 21
wait_for 60 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 4 ]" "held connections to be local"
peer=$(domid g2)
pair="any({c['a']['domid'], c['b']['domid']} == {$(domid g1), $peer} for c in d['channels'])"
channel=$(there g1 "awk '\$1 == \"channel\" && \$4 == $peer { print \$2 }' /sys/kernel/debug/vmc/status")

goes_on() {	# WHAT
	local before
	running hold || { cat "$work/hold.out"; die "$1: connections ended"; }
	assert_eq "$(there g1 "awk '\$1 == \"channel\" && \$4 == $peer { print \$2 }' /sys/kernel/debug/vmc/status")" "$channel" "$1: the channel"
	before=$(vmc_chan g1 tx_bytes "$peer")
	wait_for 30 "[ \"\$(vmc_chan g1 tx_bytes $peer)\" -gt $((before + 20000)) ]" "$1: bytes through shared memory"
}

back() {	# WHAT
	wait_for 20 "vmcd_active" "$1: vmcd"
	wait_for 20 "[ \"\$(json \"d['guests']\" status)\" = $guests ]" "$1: all guests connected again"
	wait_for 10 "[ \"\$(json \"$pair\" channels)\" = True ]" "$1: vmcctl to list the channel"
	goes_on "$1"
	assert_local g1 g2
}

old=$(vmcd_pid)
dom0 "systemctl restart vmcd"
back restart
assert_eq "$([ "$(vmcd_pid)" != "$old" ] && echo new)" new "process"
dom0 "kill -9 $(vmcd_pid)"
back kill
dom0 "systemctl stop vmcd.socket vmcd"
goes_on stopped
status=0
said=$(dom0 "vmcctl list" 2>&1) || status=$?
assert_eq $status 3 "vmcctl's status without vmcd ($said)"
# what needs no new channel needs no vmcd
assert_local g1 g2
dom0 "systemctl start vmcd.socket vmcd"
back start
dom0 "systemctl stop vmcd"	# its socket stays, and who asks starts it
dom0 "vmcctl list"
vmcd_active || die "vmcctl did not start vmcd by its socket"
back "by its socket"
stop_holding g1
finish hold 60
serve_clean g2
dmesg_clean g1 g2
