# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pv-debug
# Network namespaces: an address of its own on the guest's vif goes local, one behind NAT stays with TCP.
# limit: 150
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
inner=10.77.0.91
g1 "ip netns add inner && ip link add link eth0 name inner0 netns inner type ipvlan mode l2 &&
	ip -n inner link set lo up && ip -n inner link set inner0 up && ip -n inner addr add $inner/24 dev inner0 &&
	ip netns exec inner vmc-traffic serve --port $PORT --background --log /tmp/inner.log &&
	ip netns add nat && ip link add nat0 type veth peer name nat1 netns nat && ip link set nat0 up &&
	ip addr add 192.168.7.1/24 dev nat0 && ip -n nat link set nat1 up && ip -n nat addr add 192.168.7.2/24 dev nat1 &&
	ip -n nat route add default via 192.168.7.1 && sysctl -qw net.ipv4.ip_forward=1 &&
	nft 'table ip lab { chain out { type nat hook postrouting priority 100; ip saddr 192.168.7.0/24 masquerade; }; }'"

local_bytes() { echo $(($(vmc_chan g1 tx_bytes) + $(vmc_chan g1 rx_bytes))); }

# the pair has a channel; a direction is local after the first offer is answered
before=$(local_bytes)
g1 "ip netns exec inner vmc-traffic run $(addr g2) --port $PORT --seed 31 --connections 12 --parallel 4 --pattern both \
	--ops iov,peek,fionread --min-bytes 300k --max-bytes 600k --timeout 50"
serve_clean g2
assert_ge $(($(local_bytes) - before)) 1000000 "bytes in shared memory from a namespace"
before=$(local_bytes)
g2 "vmc-traffic run $inner --port $PORT --seed 32 --connections 12 --parallel 4 --pattern both \
	--ops iov,peek,fionread --min-bytes 300k --max-bytes 600k --timeout 50"
g1 "[ ! -s /tmp/inner.log ] || { head -n 20 /tmp/inner.log; exit 1; }"
assert_ge $(($(local_bytes) - before)) 1000000 "bytes in shared memory to a namespace"

# Behind NAT neither end's socket is known to the other under its address: the offer finds nobody.
before=$(local_bytes)
refused=$(vmc_reason g2 no-socket)
g1 "ip netns exec nat vmc-traffic run $(addr g2) --port $PORT --seed 33 --connections 4 --parallel 2 --pattern both \
	--ops none --min-bytes 300k --max-bytes 600k --timeout 50"
serve_clean g2
assert_eq "$(local_bytes)" "$before" "bytes in shared memory of connections behind NAT"
assert_ge $(($(vmc_reason g2 no-socket) - refused)) 1 "offers that found nobody"

g1 "nft delete table ip lab; ip netns pids inner | xargs kill; ip netns del inner; ip netns del nat; sysctl -qw net.ipv4.ip_forward=0"
wait_for 20 "in_use g1 | grep -qx 'sockets 0'" "sockets of the namespaces to be gone"
dmesg_clean g1 g2
