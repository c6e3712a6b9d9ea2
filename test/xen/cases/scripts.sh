# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-6.12
# Random scripts of socket calls return over VMC, with forced switches, what they return over TCP.
# limit: 900
script=$work/vmc-script
"$cases/../script/build" "$script"
count=10000
[ "$config" = pv ] || count=3000

play() {	# WHERE-THE-AGENT-IS ADDRESS OPTIONS [AGENT'S OPTIONS]
	there "$1" "vmc-script agent --background ${4-}"
	LIMIT=600 g1 "vmc-script play $2 --scripts $count --parallel 12 $3" || die "calls return what they should not, see above"
	there "$1" "pkill -x vmc-script"
}

for guest in g1 g2; do
	"$lab" put $guest "$script" /usr/local/bin/vmc-script
done
# within a guest TCP is TCP
play g1 127.0.0.1 "--out /tmp/tcp.txt"
serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
before=$(vmc_chan g1 takeovers)
play g2 "$(addr g2)" "--expect /tmp/tcp.txt --switch" --switch
assert_ge $(($(vmc_chan g1 takeovers) - before)) $count "takeovers in g1, of $count scripts"
assert_ge "$(vmc_reason g1 operator)" $((count / 10)) "streams of g1 that were sent back to TCP"
there g1 "cat /sys/kernel/debug/vmc/status"
same_as_baseline g1 g2
dmesg_clean g1 g2
