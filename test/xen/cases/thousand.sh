# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv pvh
# long: pv-smp pv-6.12 pv-debug
# A thousand connections, opened from both sides at once, sizes, patterns and styles mixed; then nothing is left.
# limit: 450
serve g1 g2
assert_local g1 g2
assert_local g2 g1
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
taken=$(vmc_chan g1 takeovers)
limit=$((260 * soak))
mixed="--port $PORT --connections $((500 * soak)) --parallel 16 --chunk 8k --max-bytes 32k \
	--pattern stream,pingpong,both,half-close,rst --quiet 60 --timeout $((250 * soak))"
LIMIT=$limit background up g1 "vmc-traffic run $(addr g2) --seed 101 $mixed"
LIMIT=$limit background down g2 "vmc-traffic run $(addr g1) --seed 202 $mixed"
finish up $limit
finish down $limit
serve_clean g1 g2
echo "directions that went local in g1: $(($(vmc_chan g1 takeovers) - taken))"
# connections that are over before the first answer are the more, the faster the machine is
assert_ge $(($(vmc_chan g1 takeovers) - taken)) $((40 / slow)) "directions that went local"
same_as_baseline g1 g2
dmesg_clean g1 g2
