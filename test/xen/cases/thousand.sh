# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv pvh
# long: pv-6.12 pv-debug
# A thousand connections, opened from both sides at once, sizes, patterns and styles mixed; then nothing is left.
# limit: 450
serve g1 g2
assert_local g1 g2
assert_local g2 g1
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
taken=$(vmc_chan g1 takeovers)
LIMIT=$((260 * soak)) background up g1 "vmc-traffic run $(addr g2) --port $PORT --seed 101 --connections $((500 * soak)) --parallel 16 \
	--chunk 8k --max-bytes 32k --pattern stream,pingpong,both,half-close,rst --quiet 60 --timeout $((250 * soak))"
LIMIT=$((260 * soak)) background down g2 "vmc-traffic run $(addr g1) --port $PORT --seed 202 --connections $((500 * soak)) --parallel 16 \
	--chunk 8k --max-bytes 32k --pattern stream,pingpong,both,half-close,rst --quiet 60 --timeout $((250 * soak))"
finish up $((260 * soak))
finish down $((260 * soak))
serve_clean g1 g2
echo "directions that went local in g1: $(($(vmc_chan g1 takeovers) - taken))"
assert_ge $(($(vmc_chan g1 takeovers) - taken)) 100 "directions that went local"
same_as_baseline g1 g2
dmesg_clean g1 g2
