# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv pvh pv-debug
# A guest is destroyed, and later panics, under load: its peer lets go of its memory, connections meet TCP's fate.
# limit: 450
serve g1 g2
assert_local g1 g2
others=$(vmc_chan g1 rings)

dies() {	# HOW COMMAND-IN-DOM0
	local id clean
	dmesg_mark g1
	id=$(domid g2)
	serve g2
	assert_local g1 g2
	CONNECTIONS=6 hold hold g1 g2 61 "--peer-dies --user-timeout 60000"
	wait_for 60 "[ \"\$(vmc_chan g1 tx_streams $id)\" -ge 4 ]" "$1: held connections to be local"
	$2
	wait_for 20 "there g1 \"! grep -q 'peer $id ' /sys/kernel/debug/vmc/status\"" "$1: g1 to end the channel"
	wait_for 40 "! dom0 'xl domid g2' >/dev/null 2>&1" "$1: g2 to be gone"
	wait_for 20 "no_zombies" "$1: no zombies"
	assert_eq "$(vmc_status g1 peers)" $((guests - 2)) "$1: peers of g1"
	running hold || { cat "$work/hold.out"; die "$1: connections ended although nobody told them"; }
	# The new guest knows nothing of them: a reset, as plain TCP would have it.
	create g2
	wait_for 20 "connected g2" "$1: g2 to connect"
	finish hold 70
	serve g2
	assert_local g1 g2
	assert_local g2 g1
	dmesg_clean g1
}

destroy() { dom0 "xl destroy g2"; }
# Xen tells a crash apart from a shutdown; xl would keep it if configured, here it destroys it.
panic() { g2 "echo 1 >/proc/sys/kernel/sysrq; (sleep 0.3; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 & exit 0"; }

dies "destroyed" destroy
dies "panicked" panic
