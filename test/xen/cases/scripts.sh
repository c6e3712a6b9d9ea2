# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# Random scripts of socket calls return over VMC, with forced switches, what they return over TCP.
# limit: 1600
script=$work/vmc-script
"$cases/../script/build" "$script"
count=$((10000 * soak / (slow * slow)))

# TCP's answers from here, where they come quickly.
port=$((20000 + RANDOM % 10000))
"$script" agent --port $port --background	# it listens when this returns
played=0
"$script" play 127.0.0.1 --port $port --scripts $count --out "$work/tcp.txt" || played=$?
pkill -f "^$script agent --port $port "
assert_eq $played 0 "playing over TCP here"
for guest in g1 g2; do
	"$lab" put $guest "$script" /usr/local/bin/vmc-script
	# a connection whose TIME_WAIT has no place answers the other's FIN with a reset
	there $guest "echo 65536 >/proc/sys/net/ipv4/tcp_max_tw_buckets; echo 3 >/proc/sys/net/ipv4/tcp_fastopen"
done
"$lab" put g1 "$work/tcp.txt" /tmp/tcp.txt

serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
before=$(vmc_chan g1 takeovers)
# connections that g2 accepted before they were established
fast_opens() { g2 "nstat -asz TcpExtTCPFastOpenPassive" | awk '/Passive/ { print $2 }'; }
opened=$(fast_opens)
there g2 "vmc-script agent --background --switch"
LIMIT=$((1400 * soak)) g1 "vmc-script play $(addr g2) --switch --scripts $count --parallel 12 --expect /tmp/tcp.txt --out /tmp/vmc.txt" \
	>"$work/played.txt" || true
cat "$work/played.txt"
there g2 "pkill -x vmc-script"
there g1 "cat /sys/kernel/debug/vmc/status"
assert_match "$(tail -n 1 "$work/played.txt")" "^scripts $count .* bad 0 " "outcomes that are wrong by themselves"
# Answers to offers take their time in a slow guest, and scripts are short: many have ended before, or have not read meanwhile.
assert_ge $(($(vmc_chan g1 takeovers) - before)) $((count / slow)) "takeovers in g1, of $count scripts"
assert_ge $(($(fast_opens) - opened)) $((count / 50)) "connections that g2 accepted before they were established"
assert_ge "$(vmc_reason g1 operator)" $((count / 10)) "streams of g1 that were sent back to TCP"

# Where kernels differ, the guests' own has the last word: within a guest TCP is TCP.
"$lab" get g1 /tmp/vmc.txt "$work/vmc.txt"
diff "$work/tcp.txt" "$work/vmc.txt" | awk '/^</ { print $2 }' >"$work/different"
assert_le "$(wc -l <"$work/different")" 20 "scripts that differ from TCP here"
there g1 "vmc-script agent --background"
while read -r seed; do
	g1 "vmc-script play 127.0.0.1 --seed $seed --scripts 1 --expect /tmp/vmc.txt" ||
		die "script $seed returns something else over VMC, above, than over TCP, here"
done <"$work/different"
there g1 "pkill -x vmc-script"
same_as_baseline g1 g2
dmesg_clean g1 g2
