# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv-debug
# Of all that the driver allocated nothing is left when it is unloaded, with connections and without.
# limit: 300
serve g1 g2
assert_local g1 g2
assert_local g2 g1
set_earning 1 1
g1 "vmc-traffic run $(addr g2) --port $PORT --seed 71 --connections 60 --parallel 6 --max-bytes 64k --timeout 120"
CONNECTIONS=6 hold hold g1 g2 72
wait_for 60 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 4 ]" "held connections to be local"
for guest in g1 g2; do LIMIT=30 there $guest "rmmod vmc"; done
stop_holding g1
finish hold 60
serve_clean g2
# What only the module's own data pointed to is what kmemleak finds now, see nothing_found().
