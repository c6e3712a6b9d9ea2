# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv pv-smp pv-6.12 pv-debug
# A guest that lies in its packet ring loses its channel; the victim's kernel is clean, and its other traffic goes on.
# limit: 500
"$cases/../../../guest-driver/build" --strip "$("$lab" kver)" "$work/driver" VMC_HOSTILE=y >"$work/build.log" 2>&1 ||
	{ cat "$work/build.log"; die "no driver"; }
flow=$work/vmc-flow
"$cases/../flow/build" "$flow"
"$lab" put g1 "$work/driver/vmc.ko" /tmp/vmc-hostile.ko
serve g2
for guest in g1 g2 $([ "$guests" -le 2 ] || echo g3); do "$lab" put $guest "$flow" /usr/local/bin/vmc-flow; done
g2 "vmc-flow serve --background"
journal_mark
dmesg_mark g2

# The same traffic, with a driver that tells the truth at first.
hostile() {	# MODE
	g1 "rmmod vmc && insmod /tmp/vmc-hostile.ko min_calls=1 min_bytes=1"
	wait_for 30 "connected g1" "g1 to connect"
	assert_local g1 g2
	wait_for 20 "g1 'vmc-flow flow $(addr g2) --seconds 1 --rate 50 >&2; grep -q \"tx source.* local\" /sys/kernel/debug/vmc/packets'" "packets in a ring"
	g1 "echo $1 >/sys/module/vmc/parameters/hostile"
}

# After three violations the two have no channel, and a driver loaded anew does not change it; others have. A restart of vmcd forgets it.
quarantine() {
	dom0 "vmcctl show g1 --json" | grep -q '"quarantined": \["g2"\]' || die "the two are not in quarantine"
	g1 "rmmod vmc && modprobe vmc"
	wait_for 30 "connected g1" "g1 to connect"
	g1 "vmc-flow flow $(addr g2) --seconds 2 --rate 50" >"$work/parted.out"
	assert_match "$(cat "$work/parted.out")" " lost 0 duplicated 0 reordered 0 corrupt 0" "in quarantine"
	g1 "! grep '^channel' /sys/kernel/debug/vmc/status" || die "they have a channel"
	[ "$guests" -le 2 ] || assert_local g3 g2
	dom0 "systemctl restart vmcd"
	wait_for 30 "connected g2" "g2 to connect"
}

dom0 "systemctl restart vmcd"	# knows of no violations
for mode in 1 2 3 4; do
	before=$(vmc_reason g2 protocol)
	hostile $mode
	if [ "$guests" -gt 2 ]; then LIMIT=60 background others g3 "vmc-flow flow $(addr g2) --seconds 8 --rate 50"; fi
	g1 "vmc-flow flow $(addr g2) --seconds 3 --rate 50" || true
	wait_for 10 "[ \"\$(vmc_reason g2 protocol)\" -gt $before ]" "mode $mode: the victim to notice"
	g2 "! grep -q 'rx open' /sys/kernel/debug/vmc/packets" || [ "$guests" -gt 2 ] || die "mode $mode: the ring is still read"
	# what goes over the network now is untouched
	g1 "vmc-flow flow $(addr g2) --seconds 2 --rate 50" >"$work/after.out"
	assert_match "$(cat "$work/after.out")" " lost 0 duplicated 0 reordered 0 corrupt 0" "mode $mode: afterwards"
	if [ "$guests" -gt 2 ]; then
		finish others 60
		assert_match "$(tail -n 1 "$work/others.out")" " lost 0 duplicated 0 reordered 0 corrupt 0" "mode $mode: another guest's packets"
	fi
	[ $mode -ne 3 ] || quarantine
done

# vmcd hears of each
assert_ge "$(journal | grep -c protocol)" 4 "violations that vmcd tells of"

# Events without end cost the victim some time, nothing else.
hostile 5
g1 "vmc-flow flow $(addr g2) --seconds 4 --rate 20" >"$work/storm.out"
assert_match "$(cat "$work/storm.out")" " duplicated 0 reordered 0 corrupt 0" "a storm of events"

said=$(g2 "dmesg --color=never" | awk -v mark="== ${work##*/} ==" 'index($0, mark) { n = 0; next } { line[n++] = $0 }
	END { for (i = 0; i < n; i++) print line[i] }')
! grep -E "$COMPLAINTS" <<<"$said" || die "the kernel log of g2"
assert_ge "$(grep -c 'broke the protocol' <<<"$said")" 4 "violations in the log of g2"
g1 "rmmod vmc && modprobe vmc"
wait_for 30 "connected g1" "g1 to connect"
