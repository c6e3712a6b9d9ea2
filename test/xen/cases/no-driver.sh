# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# A guest without the driver: TCP to it works, it waits, and the others do not notice.
# limit: 400
dmesg_mark g1 g2
serve g1 g2
assert_local g1 g2
create g3 modprobe.blacklist=vmc
! has_driver g3 || die "g3 has the driver"
serve g3
tx=$(vmc_chan g1 tx_bytes)
g1 "vmc-traffic run $(addr g3) --port $PORT --seed 31 --connections 30 --parallel 5 --timeout 50"
g3 "vmc-traffic run $(addr g1) --port $PORT --seed 32 --connections 30 --parallel 5 --timeout 50"
assert_eq "$(vmc_chan g1 tx_bytes)" "$tx" "bytes through shared memory"
id=$(domid g3)
assert_eq "$(json "[g['state'] for g in d['guests'] if g['domid'] == $id]" list)" "['waiting']" "state of g3"
assert_eq "$(vmc_status g1 peers)" 1 "peers of g1"
assert_local g1 g2
# and loaded by hand later it joins
g3 "modprobe vmc"
wait_for 20 "connected g3" "g3 to connect"
serve g3
assert_local g1 g3
dmesg_clean g1 g2 g3
