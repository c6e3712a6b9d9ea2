# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# Guests destroyed at any point of their start leave nothing behind and disturb nobody.
# limit: 900
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
hold hold g1 g2 51
dom0 "xl destroy g3"
pid=$(vmcd_pid)

# Runs in Dom0, where looking is quick: create, wait for a moment, destroy.
kill_at() {	# WHAT CONDITION-IN-DOM0
	local id
	id=$(LIMIT=150 dom0 "old=\$(xenstore-list /local/domain | sort -n | tail -n 1)
		xl create -q /etc/xen/lab/g3.cfg >/tmp/create.log 2>&1 &
		# with pauses: the toolstack needs Dom0's one CPU, too
		until id=\$(xenstore-list /local/domain | sort -n | tail -n 1) && [ \$id -gt \$old ]; do sleep 0.2; done
		front=/local/domain/\$id/device/vmc/0; back=/local/domain/0/backend/vmc/\$id/0
		until $2; do sleep 0.2; done
		wait; xl destroy \$id && echo \$id") || die "$1"
	wait_for 15 "! dom0 xenstore-exists /local/domain/0/backend/vmc/$id" "$1: the backend's directory to go"
	wait_for 15 "no_zombies" "$1: no zombies"
	wait_for 5 "[ \"\$(json \"len([g for g in d['guests'] if g['domid'] == $id])\" list)\" = 0 ]" "$1: vmcctl to forget it"
	assert_eq "$(vmcd_pid)" "$pid" "$1: vmcd's process"
	running hold || { cat "$work/hold.out"; die "$1: connections ended"; }
}

state() { echo "[ \"\$(xenstore-read $1 2>/dev/null)\" = $2 ]"; }

kill_at "when vmcd has made the device" "$(state '$back/state' 2)"
kill_at "when the driver is there" "xenstore-exists \$front/ring-ref0"
kill_at "when the driver says connected" "$(state '$front/state' 4)"
kill_at "when both are connected" "$(state '$back/state' 4)"
kill_at "half a second later" "$(state '$back/state' 4) && sleep 0.5"
kill_at "at some time" "sleep $((RANDOM % 6)).$((RANDOM % 10))"
wait_for 10 "[ \"\$(vmc_status g1 peers)\" = 1 ]" "g1 to have one peer"
assert_local g1 g2
stop_holding g1
finish hold 30
dmesg_clean g1 g2
