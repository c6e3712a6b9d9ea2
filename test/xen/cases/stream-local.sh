# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# A bulk stream goes through shared memory, over IPv4, IPv6 and a v4-mapped server; vifs see next to nothing of it.
# limit: 400
serve g2
dmesg_mark g1 g2
assert_local g1 g2
g2 "iperf3 -s -D -p 5201 -B 0.0.0.0; iperf3 -s -D -p 5202"
wait_for 10 "g2 'ss -ltn | grep -q :5202'" "iperf3 to listen"
peer=$(domid g2)

stream() {	# NAME IPERF3-ARGUMENTS...
	local kind=$1 tx vif bytes through seen
	shift
	tx=$(vmc_chan g1 tx_bytes "$peer")
	vif=$(vif_bytes g1)
	g1 "iperf3 --json -t 4 -l 64K $*" >"$work/$kind.json"
	through=$(($(vmc_chan g1 tx_bytes "$peer") - tx))
	seen=$(($(vif_bytes g1) - vif))
	bytes=$(/usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["end"]["sum_sent"]["bytes"])' "$work/$kind.json")
	echo "$kind: $bytes bytes, $through through shared memory, $seen on the vif"
	assert_ge "$bytes" 5000000 "$kind: bytes sent"
	assert_ge "$((through * 100))" "$((bytes * 99))" "$kind: bytes through shared memory, in percent"
	assert_le "$((seen * 100))" "$bytes" "$kind: bytes on the vif, in percent"
}

stream ipv4 -c "$(addr g2)" -p 5201
stream ipv6 -c "$(addr6 g2)" -p 5202
stream mapped -c "$(addr g2)" -p 5202
stream parallel -c "$(addr g2)" -p 5201 -P 4
stream reverse-ok -c "$(addr g2)" -p 5201
g2 "pkill iperf3"
dmesg_clean g1 g2
