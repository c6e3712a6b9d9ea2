# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv pvh
# A thousand connections at once, opened from both sides, all sizes, patterns and styles; then nothing is left.
# limit: 240
serve g1 g2
assert_local g1 g2
assert_local g2 g1
dmesg_mark g1 g2
baseline g1 g2
taken=$(vmc_chan g1 takeovers)
LIMIT=200 background up g1 "vmc-traffic run $(addr g2) --port $PORT --seed 101 --connections 500 --parallel 500 \
	--chunk 16k --max-bytes 256k --quiet 60 --timeout 180"
LIMIT=200 background down g2 "vmc-traffic run $(addr g1) --port $PORT --seed 202 --connections 500 --parallel 500 \
	--chunk 16k --max-bytes 256k --quiet 60 --timeout 180"
finish up 200
finish down 200
serve_clean g1 g2
echo "directions that went local in g1: $(($(vmc_chan g1 takeovers) - taken))"
assert_ge $(($(vmc_chan g1 takeovers) - taken)) 100 "directions that went local"
same_as_baseline g1 g2
dmesg_clean g1 g2
