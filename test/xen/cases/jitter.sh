# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# A driver that is held up at random where what others do meanwhile matters loses nothing.
# long: pv-smp
# limit: 300
"$cases/../../../guest-driver/build" --strip "$("$lab" kver)" "$work/driver" VMC_JITTER=y >"$work/build.log" 2>&1 ||
	{ cat "$work/build.log"; die "no driver"; }
for guest in g1 g2; do
	"$lab" put $guest "$work/driver/vmc.ko" /tmp/vmc-jitter.ko
	there $guest "rmmod vmc && insmod /tmp/vmc-jitter.ko"
done
for guest in g1 g2; do wait_for 30 "connected $guest" "$guest to connect"; done
serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
taken=$(vmc_chan g1 takeovers)
# many that end soon, at every place where the end and the last bytes can cross
small="--port $PORT --connections 80 --parallel 6 --pattern both,stream,half-close --style nonblocking,epoll-et,blocking \
	--ops none --min-bytes 10 --max-bytes 300 --chunk 20 --timeout 120"
# and some of everything
mixed="--port $PORT --connections 12 --parallel 6 --pattern stream,pingpong,both,half-close,rst,threads --chunk 8k --max-bytes 32k --quiet 60 --timeout 200"
LIMIT=130 background up g1 "vmc-traffic run $(addr g2) --seed 301 $small"
LIMIT=130 background down g2 "vmc-traffic run $(addr g1) --seed 302 $small"
finish up 130
finish down 130
LIMIT=210 background up g1 "vmc-traffic run $(addr g2) --seed 303 $mixed"
LIMIT=210 background down g2 "vmc-traffic run $(addr g1) --seed 304 $mixed"
finish up 210
finish down 210
serve_clean g1 g2
assert_ge $(($(vmc_chan g1 takeovers) - taken)) 60 "directions that went local"
assert_eq "$(vmc_reason g1 protocol) $(vmc_reason g2 protocol)" "0 0" "protocols broken"
same_as_baseline g1 g2
# rings go back by messages that cross, with nothing behind them that would wake whoever missed one
for round in 1 2 3 4 5 6; do
	warm_up g1 g2
	for guest in g1 g2; do wait_for 10 "in_use $guest | grep -qx 'rings 0'" "round $round: $guest without rings"; done
done
dmesg_clean g1 g2
for guest in g1 g2; do there $guest "rmmod vmc && modprobe vmc"; done
