# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# A guest that boots loads the driver by itself, connects, and is shown.
# limit: 400
version=$(g1 "modinfo -F version vmc")
for guest in $(all_guests); do
	has_driver "$guest" || die "$guest has no driver"
	assert_eq "$(vmc_states "$guest")" "4 4" "xenbus states of $guest"
	assert_eq "$(there "$guest" "cat /sys/bus/xen/devices/vmc-0/modalias")" "xen:vmc" "modalias"
	assert_eq "$(vmc_status "$guest" peers)" $((guests - 1)) "peers of $guest"
	id=$(domid "$guest")
	assert_eq "$(json "[(g['state'], g['driver'], g['name'], g['error'], g['macs']) for g in d['guests'] if g['domid'] == $id]" list)" \
		"[('connected', '$version', '$guest', '', ['00:16:3e:77:00:0${guest#g}'])]" "vmcctl list on $guest"
done
assert_eq "$(json "d['guests']" status)" "$guests" "guests in vmcctl status"
text=$(dom0 "vmcctl list")
assert_match "$text" "g1 +[0-9a-f-]{36} +connected" "the table"
# since the host booted, unless cases before this one gave vmcd a reason to complain
[ "$cases_before" != 1 ] ||
	assert_eq "$(dom0 "journalctl -b -u vmcd -p warning --no-pager -q -o cat")" "" "warnings of vmcd"

# A guest made now is attached without anybody's doing.
last=g$guests
dom0 "xl destroy $last"
wait_for 15 "[ \"\$(json \"len(d['guests'])\" list)\" = $((guests - 1)) ]" "vmcctl to forget $last"
create "$last"
wait_for 20 "connected $last" "$last to connect"
