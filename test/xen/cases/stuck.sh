# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pv-smp pv-debug
# Calls stuck in page faults that never end hold up their own connections, and neither the channel nor its end.
# limit: 300
ANSWER=7701
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
g2 "vmc-traffic answer --port $ANSWER --family 4 --background --log /tmp/answer.log"
LIMIT=290 background stuck g1 "vmc-traffic stuck $(addr g2) --port $ANSWER --seconds 280 --timeout 285"
wait_for 30 "grep -q 'are stuck' $work/stuck.out || ! running stuck" "calls to be stuck"
running stuck || finish stuck 1
g1 "cat /sys/kernel/debug/vmc/sockets"
assert_ge "$(g1 "grep -c 'tx 3 ring' /sys/kernel/debug/vmc/sockets")" 1 "stuck connections with a ring"

# new connections of the same pair are offered, accepted and local
assert_local g1 g2
assert_local g2 g1
serve_clean g1 g2

# the peer leaves: it needs what g1 has mapped of it
begin=$SECONDS
LIMIT=20 g2 "rmmod vmc"
assert_le $((SECONDS - begin)) 10 "seconds until the peer got its memory back"
wait_for 5 "[ \$(vmc_status g1 mapped) -le 1 ]" "g1 to have nothing of g2 mapped"
running stuck
g2 "modprobe vmc"

g1 "pkill -TERM -x vmc-traffic"
finish stuck 20
grep -qx '3 calls went on' "$work/stuck.out"
g2 "pkill -x vmc-traffic; [ ! -s /tmp/answer.log ] || { cat /tmp/answer.log; exit 1; }"
wait_for 30 "connected g2" "g2 connected"
serve g1 g2
assert_local g1 g2
dmesg_clean g1 g2
