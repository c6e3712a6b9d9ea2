# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# A socket that kTLS, sockmap, KCM, TCP_REPAIR and others take while it is local is let go first; nbd uses it as it is.
# limit: 300
claim=$work/vmc-claim
"$cases/../claim/build" "$claim"
for guest in g1 g2; do
	"$lab" put $guest "$claim" /usr/local/bin/vmc-claim
	there $guest "modprobe -a tls kcm smc nbd && sysctl -qw net.mptcp.enabled=1"
done
serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
there g2 "vmc-claim agent --background --local"
# Nothing is left out: a guest's kernel has all of it. nbd takes its time, over TCP as well, and it does not care what is below.
play() {	# ADDRESS TEST...
	local address=$1
	shift
	LIMIT=120 there g1 "vmc-claim play $address --local $*" >"$work/out" || true
	cat "$work/out"
	assert_match "$(tail -n 1 "$work/out")" "^done $# failed 0 skipped 0$" "tests over $address"
}
mapfile -t tests < <("$claim" list)
play "$(addr g2)" "${tests[@]}"
# The debug kernel has no MPTCP over IPv6.
mapfile -t tests < <("$claim" list | grep -vxE "nbd$([ $slow -eq 1 ] || echo '|mptcp.*|.*-mptcp')")
play "$(addr6 g2)" "${tests[@]}"
there g2 "pkill -x vmc-claim"
# the last test has reloaded the driver, and a channel comes with the first connection
assert_local g1 g2
same_as_baseline g1 g2
dmesg_clean g1 g2
