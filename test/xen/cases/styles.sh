# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv pvh pv-smp pv-6.12 pv-debug
# Every way to read and write a socket, in every pattern, checked byte for byte.
# limit: 400
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
baseline g1 g2
run() {	# SEED ARGUMENTS...
	local seed=$1
	shift
	g1 "vmc-traffic run --port $PORT --seed $seed --timeout 55 --min-bytes 1k $*" ||
		{ g2 "cat /tmp/serve.log" | head -n 5; die "seed $seed: $*"; }
}
a=$(addr g2)
for style in blocking nonblocking poll select epoll-lt epoll-et; do
	run 1 "$a" --style $style --connections 28 --parallel 4
done
for pattern in stream pingpong both half-close rst threads stall; do
	run 2 "$a" --pattern $pattern --connections 20 --parallel 4
done
run 3 "$(addr6 g2)" --connections 30 --parallel 6
run 4 "$a" --family mapped --connections 30 --parallel 6
run 5 "$a" --signals 5 --connections 30 --parallel 6
run 6 "$a" --ops none --pattern stream,pingpong,both,half-close --chunk 1 --min-bytes 200 --max-bytes 2000 --connections 10 --parallel 5
run 7 "$a" --chunk 1M --min-bytes 1M --max-bytes 4M --pattern both --connections 6 --parallel 2
run 8 "$a" --ops reuse,oob,iov --connections 40 --parallel 4 --max-bytes 200k
serve_clean g2
# bytes that come before accept()
serve g2 -- --accept-delay 30
run 9 "$a" --connections 40 --parallel 10 --max-bytes 200k
serve_clean g2
same_as_baseline g1
dmesg_clean g1 g2
