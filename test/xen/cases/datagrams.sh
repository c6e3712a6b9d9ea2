# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# Datagrams go through shared memory, whole and in order, once each, while their way changes; a flood holds up nobody; all is given back.
# limit: 700
for tool in flow dgram; do "$cases/../$tool/build" "$work/vmc-$tool"; done
serve g1 g2
for guest in g1 g2; do
	for tool in flow dgram; do "$lab" put $guest "$work/vmc-$tool" /usr/local/bin/vmc-$tool; done
	there $guest "vmc-flow serve --background"
done
# no channels with others: they end when the drivers are loaded anew below
for guest in g1 g2; do there $guest "rmmod vmc && modprobe vmc"; done
for guest in g1 g2; do wait_for 30 "connected $guest" "$guest to connect"; done
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
WAY=/sys/module/vmc/parameters/packets

# Every call returns over the ring what it returns over the network.
g2 "vmc-dgram agent --background"
for way in off udp; do
	for guest in g1 g2; do there $guest "echo $way >$WAY"; done
	before=$(vmc_chan g1 tx_packets)
	for address in "$(addr g2)" "$(addr6 g2)"; do LIMIT=150 g1 "vmc-dgram check $address"; done >"$work/calls.$way"
	through=$(($(vmc_chan g1 tx_packets) - before))
	echo "$way: $(wc -l <"$work/calls.$way") lines, $through packets through shared memory"
	if [ $way = off ]; then assert_eq $through 0 "packets, switched off"; else assert_ge $through 2000 "packets"; fi
done
assert_ge "$(wc -l <"$work/calls.udp")" 800 "lines"
diff "$work/calls.off" "$work/calls.udp" || die "calls return something else over the ring"
g2 "pkill -x vmc-dgram"

# What vmc-flow said last: a number after a word.
said() { awk -v w="$2" '{ for (i = 1; i < NF; i++) if ($i == w) n = $(i + 1) } END { printf "%d\n", n }' "$work/$1.out"; }

# Nothing but vmc-flow sends datagrams from one to the other: most of its own go through the ring, the rest comes before it is there.
through() {	# NAME ADDRESS OPTIONS...
	local name=$1 sent before vif
	shift
	before=$(vmc_chan g1 tx_packets)
	vif=$(vif_bytes g1)
	g1 "vmc-flow flow $*" >"$work/$name.out"
	cat "$work/$name.out"
	sent=$(said "$name" sent)
	assert_ge "$sent" 100 "$name: datagrams"
	assert_eq "$(said "$name" lost)" 0 "$name: lost"
	assert_ge $(($(vmc_chan g1 tx_packets) - before)) $((sent * 8 / 10)) "$name: packets through shared memory, of $sent"
	echo "$name: $(($(vif_bytes g1) - vif)) bytes on the vif"
}
through short "$(addr g2)" --seconds 4 --rate 200 --size 16:1400
through long "$(addr g2)" --seconds 4 --rate 100 --size 1473:65000
through v6 "$(addr6 g2)" --seconds 4 --rate 100 --size 16:65000
assert_ge "$(json 'sum(e["tx_packets"] or 0 for c in d["channels"] for e in (c["a"], c["b"]))' channels)" 500 "packets that vmcctl tells of"

# fq_codel has fragments and whole datagrams of one flow in different queues: in a moment of backlog the network itself changes their order.
for guest in g1 g2; do there $guest "tc qdisc replace dev eth0 root pfifo_fast"; done

# Both ways at once, and each way out of a ring and back into it.
LIMIT=120 background up g1 "vmc-flow flow $(addr g2) --seconds 50 --rate 100 --size 16:20000"
LIMIT=120 background down g2 "vmc-flow flow $(addr6 g1) --seconds 50 --rate 100 --size 16:20000"
sleep 3
dom0 "systemctl restart vmcd"
for change in "echo tx >/sys/kernel/debug/vmc/switch" "echo rx >/sys/kernel/debug/vmc/switch" "echo off >$WAY; sleep 1; echo udp >$WAY" \
	"rmmod vmc && modprobe vmc"; do
	for guest in g1 g2; do
		sleep 2
		there $guest "$change"
		wait_for 20 "connected $guest" "$guest to be connected"
	done
done
finish up 90
finish down 90
for name in up down; do
	assert_ge "$(said $name sent)" 1000 "$name: datagrams"
	# a driver that goes may find the peer asleep
	assert_le "$(said $name lost)" $(($(said $name sent) / 50)) "$name: lost, of $(said $name sent)"
done
assert_local g1 g2	# the last to be reloaded has a channel again

# With `all`, whatever IP it is: echo requests, and TCP that stays TCP, in large segments.
for guest in g1 g2; do there $guest "echo all >$WAY"; done
set_earning 1 1
g1 "ping -c 3 -i 0.3 $(addr g2) >/dev/null"
before=$(vmc_chan g1 tx_packets)
g1 "ping -c 5 -i 0.3 $(addr g2) && ping -c 5 -i 0.3 $(addr6 g2)" >"$work/ping.out"
assert_ge $(($(vmc_chan g1 tx_packets) - before)) 5 "echo requests through shared memory"
assert_eq "$(grep -c ' 0% packet loss' "$work/ping.out")" 2 "pings without loss"
background pings g1 "ping -q -c 100 -i 0.2 $(addr g2)"	# keeps the ring, while no connection earns one
wait_for 10 "g1 'grep -q \"tx source.*10.77.0.11 local\" /sys/kernel/debug/vmc/packets'" "packets in a ring"
set_earning 4000000000 4000000000
before=$(vmc_chan g1 tx_packets)
g1 "vmc-traffic run $(addr g2) --port $PORT --connections 4 --pattern both,stream --ops none --min-bytes 500k --max-bytes 900k --timeout 40"
assert_ge $(($(vmc_chan g1 tx_packets) - before)) 100 "segments through shared memory"
finish pings 60
for guest in g1 g2; do there $guest "echo udp >$WAY"; done
set_earning 1 1

# A flood: in order, and others get through meanwhile.
LIMIT=60 background flood g1 "vmc-flow flood $(addr g2) --seconds 10 --size 1400"
g1 "vmc-traffic run $(addr g2) --port $PORT --connections 2 --pattern both --ops none --min-bytes 100k --max-bytes 200k --timeout 40"
g1 "vmc-flow pingpong $(addr g2) --seconds 1"
finish flood 60
assert_eq "$(said flood reordered)" 0 "reordered in the flood"
assert_ge "$(said flood received)" 1000 "received of the flood"
serve_clean g1 g2

# Without traffic the rings go back.
for guest in g1 g2; do wait_for 20 "there $guest 'cat /sys/kernel/debug/vmc/packets' | grep -qE '^ tx none'" "$guest without a packet ring"; done
stop_traffic g1
stop_traffic g2
same_as_baseline g1 g2
for guest in g1 g2; do there $guest "tc qdisc replace dev eth0 root fq_codel"; done
dmesg_clean g1 g2
