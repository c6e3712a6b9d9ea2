# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# A guest that speaks no common version, or writes rubbish into its nodes, is refused with a reason; nobody else notices.
# limit: 400
serve g1 g2
assert_local g1 g2
hold hold g1 g2 41
create g3 modprobe.blacklist=vmc
id=$(domid g3)
pid=$(vmcd_pid)
front=/local/domain/$id/device/vmc/0
back=/local/domain/0/backend/vmc/$id/0
wait_for 10 "[ \"\$(dom0 xenstore-read $back/state)\" = 2 ]" "vmcd to wait for g3"

# Says what a driver would, with one thing wrong; the driver itself is not loaded.
claim() {	# WHAT NODE=VALUE...
	local what=$1 node
	shift
	dom0 "xenstore-write $front/state 1"
	wait_for 10 "[ \"\$(dom0 xenstore-read $back/state)\" = 2 ]" "$what: vmcd to start afresh"
	dom0 "cd /; xenstore-write $front/protocol-min 1 $front/protocol-max 1 $front/driver-version test \
		$front/ring-ref0 8 $front/ring-ref1 9 $front/ring-ref2 10 $front/ring-ref3 11 $front/event-channel 20"
	for node; do
		if [ "${node#*=}" = - ]; then
			dom0 "xenstore-rm $front/${node%%=*}"
		else
			dom0 "xenstore-write -- $front/${node%%=*} '${node#*=}'"
		fi
	done
	dom0 "xenstore-write $front/state 4"
	wait_for 10 "[ \"\$(dom0 xenstore-read $back/state)\" = 6 ]" "$what: vmcd to refuse"
	said=$(dom0 "xenstore-read $back/error")
	echo "$what: $said"
	[ -n "$said" ] || die "$what: no reason"
	assert_eq "$(json "[g['state'] for g in d['guests'] if g['domid'] == $id]" list)" "['refused']" "$what: state of g3"
	assert_eq "$(json "[g['error'] for g in d['guests'] if g['domid'] == $id][0] != ''" list)" True "$what: the reason in vmcctl"
}

claim "old protocol" protocol-min=0 protocol-max=0
assert_match "$said" "[Vv]ersion|protocol" "the reason"
claim "new protocol" protocol-min=9 protocol-max=12
claim "no protocol" protocol-min=-
claim "a word for a number" ring-ref0=eight
claim "a huge number" ring-ref3=99999999999999999999999
claim "a negative number" event-channel=-1
claim "nothing" ring-ref2=
claim "references that nobody granted" ring-ref0=100000
claim "a long value" "driver-version=$(printf 'x%.0s' {1..900})" protocol-max=0
assert_eq "$(vmcd_pid)" "$pid" "vmcd's process"
assert_local g1 g2
running hold || die "connections ended"

# The driver that is loaded now does not suffer from it.
dom0 "xenstore-write $front/state 1"
wait_for 10 "[ \"\$(dom0 xenstore-read $back/state)\" = 2 ]" "vmcd to start afresh"
g3 "modprobe vmc"
wait_for 20 "connected g3" "g3 to connect"
stop_holding g1
finish hold 30
dmesg_clean g1 g2 g3
