# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# Ten thousand connections that were busy and are silent hold no ring memory, and then work again.
# limit: 1900
ANSWER=7701
CONNECTIONS=${VMC_CONNECTIONS:-10000}
dmesg_mark g1 g2
serve g1 g2
warm_up g1 g2
wait_for 15 "in_use g1 | grep -qx 'rings 0' && in_use g2 | grep -qx 'rings 0'" "both guests idle"
stop_traffic g1
stop_traffic g2
baseline g1 g2

g2 "vmc-traffic answer --port $ANSWER --family 4 --background --log /tmp/answer.log"
# every connection is worth a ring at once
set_earning 1 1
before=$(vmc_reason g1 idle)
LIMIT=1890 background idle g1 "vmc-traffic idle $(addr g2) --port $ANSWER --connections $CONNECTIONS --parallel 50 \
	--bytes 64 --seconds 1450 --timeout 1880"
wait_for 1200 "grep -q 'are idle' $work/idle.out || ! running idle" "$CONNECTIONS connections to be open"
running idle || finish idle 1
g1 "cat /proc/net/sockstat /sys/kernel/debug/vmc/status"
assert_ge "$(vmc_status g1 sockets)" "$CONNECTIONS" "connections watched"
# idle_s is 5
wait_for 20 "in_use g1 | grep -qx 'rings 0' && in_use g2 | grep -qx 'rings 0'" "the rings to be given back"
for guest in g1 g2; do
	for what in bytes grants mapped; do
		assert_eq "$(vmc_status $guest $what)" "$(awk -v w=$what '$1 == w { print $2 }' "$work/baseline.$guest")" "$guest: $what"
	done
done
dom0 "vmcctl channels"
assert_ge $(($(vmc_reason g1 idle) - before)) $((CONNECTIONS / 2)) "rings given back by writers that are idle"

# and all of them are alive
g1 "pkill -TERM -x vmc-traffic"
finish idle 400
grep -qx "$CONNECTIONS connections were there all the time" "$work/idle.out"
g2 "pkill -x vmc-traffic; [ ! -s /tmp/answer.log ] || { cat /tmp/answer.log; exit 1; }"
same_as_baseline g1 g2
dmesg_clean g1 g2
