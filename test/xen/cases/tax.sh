# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv
# No tax: connections that stay with TCP, and new ones, are as fast as without the driver.
# limit: 600
ANSWER=7701

for guest in g1 g2; do
	there $guest "pkill -x vmc-traffic; vmc-traffic answer --port $ANSWER --family mapped --background --log /tmp/answer.log"
done

# A peer in remote mode: every connection is watched, none earns a ring. In turn with others that were given back to TCP.
set_earning 1000000000 1000000000
before=$(vmc_status g1 hooked)
taken=$(vmc_chan g1 takeovers)
for bytes in 64 64k 1M; do
	LIMIT=120 g1 "vmc-traffic pair $(addr g2) --port $ANSWER --bytes $bytes --seconds 30" | tee -a "$work/pairs"
done
assert_ge $(($(vmc_status g1 hooked) - before)) 30 "connections watched"
assert_eq "$(vmc_chan g1 takeovers)" "$taken" "streams that went local"
set_earning 4 16384

# One that has earned a ring and gets none costs no more: the link to vmcd has used up what may be granted.
there g1 "rmmod vmc && modprobe vmc max_grants=4"
wait_for 30 "connected g1" "g1 to connect again"
before=$(vmc_reason g1 no-channel)
LIMIT=120 g1 "vmc-traffic pair $(addr g2) --port $ANSWER --bytes 64 --seconds 30" | tee -a "$work/pairs"
assert_ge $(($(vmc_reason g1 no-channel) - before)) 100 "times that there was no channel"
there g1 "rmmod vmc && modprobe vmc"
wait_for 30 "connected g1" "g1 to connect again"

# per cent of the time that a request and its answer take
awk '{ if ($(NF - 7) > 1) { print "watching costs more than 1 %: " $0; bad = 1 } } END { exit bad || NR != 4 }' "$work/pairs" ||
	die "watched connections are slower"

# Someone who is no peer: Dom0. Its connections are not even looked at after they were set up.
before=$(vmc_status g1 sockets)
g1 "nc -w 5 10.77.0.1 22 </dev/null | head -c 3 | grep -q SSH"
assert_eq "$(vmc_status g1 sockets)" "$before" "sockets watched after a connection to Dom0"

# Connect, request, response, close: with the driver and without it in turn, to a peer and to Dom0.
"$lab" put dom0 "$traffic" /usr/local/bin/vmc-traffic
dom0 "pkill -x vmc-traffic; vmc-traffic answer --port $ANSWER --family 4 --background --log /tmp/answer.log"
cat >"$work/crr" <<'END'
one() { vmc-traffic crr $2 --port $3 --seconds 1 | sed "s/^.*, \(.*\) per second/$1 \1/"; }
vmc-traffic crr $1 --port $2 --seconds 1 >/dev/null
for round in $(seq 16); do
	one on $1 $2
	rmmod vmc
	one off $1 $2
	one off $1 $2
	modprobe vmc
	until grep -q '^peers [1-9]' /sys/kernel/debug/vmc/status; do sleep 0.1; done
	one on $1 $2
done
END
"$lab" put g1 "$work/crr" /tmp/crr
for to in "$(addr g2)" 10.77.0.1; do
	LIMIT=240 g1 "sh /tmp/crr $to $ANSWER" >"$work/crr.$to"
	python3 - "$work/crr.$to" "$to" <<'END' || die "connections to $to are slower with the driver"
import statistics, sys
rates = {"on": [], "off": []}
for line in open(sys.argv[1]):
    how, rate = line.split()
    rates[how].append(float(rate))
# on off off on: what the host does slowly meets both alike
ratios = sorted((rates["on"][i] + rates["on"][i + 1]) / (rates["off"][i] + rates["off"][i + 1])
                for i in range(0, len(rates["on"]), 2))
low, high = ratios[3], ratios[-4]  # of 16: the median lies between them with more than 95 % confidence
print(f"connections per second to {sys.argv[2]}: {statistics.median(rates['on']):.1f} with the driver, "
      f"{statistics.median(rates['off']):.1f} without, ratio {statistics.median(ratios):.3f} (95 % confidence: {low:.3f} to {high:.3f})")
sys.exit(len(ratios) != 16 or high < 1)
END
done
dom0 "pkill -x vmc-traffic"
for guest in g1 g2; do
	there $guest "pkill -x vmc-traffic; [ ! -s /tmp/answer.log ] || { cat /tmp/answer.log; exit 1; }"
done
