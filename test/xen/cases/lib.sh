# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154
#
# What the cases use. run-cases reads this, then the case, in a bash of its own with
#   lab    the lab command                   work   a directory for the case's files
#   config which lab it is                   guests how many guests it has
#   slow   how many times as long as written here things may take in it
# A case passes if it gets to its end: every command that fails ends it.

PORT=7700
CONFIG=/etc/vmc/vmcd.conf.d/case.conf	# that a case may write, in Dom0
FAILED_AT=

die() {
	echo "FAILED: $*" >&2
	exit 1
}

# ------------------------------------------------------------- where things run

# A command that never ends is a failure like another: every one of them is bounded.
there() {	# WHERE COMMAND...
	local where=$1
	shift
	"$lab" sh -n --connect-timeout $((30 * slow)) --timeout $((${LIMIT:-60} * slow)) "$where" -- "export VMC_SLOW=$slow; $*"
}

dom0() { there dom0 "$@"; }
g1() { there g1 "$@"; }
g2() { there g2 "$@"; }
g3() { there g3 "$@"; }

addr() { echo "10.77.0.1${1#g}"; }
addr6() { echo "fd77::1${1#g}"; }
domid() { dom0 "xl domid $1"; }

all_guests() {
	local n
	for n in $(seq "$guests"); do echo "g$n"; done
}

# Starts a command there. `finish NAME SECONDS` waits for its end and wants status 0.
declare -A background_pid=()
background() {	# NAME WHERE COMMAND...
	local name=$1 where=$2
	shift 2
	LIMIT=${LIMIT:-300} there "$where" "$@" >"$work/$name.out" 2>&1 &
	background_pid[$name]=$!
}

running() { kill -0 "${background_pid[$1]}" 2>/dev/null; }

finish() {	# NAME SECONDS
	local name=$1 status=0
	wait_for "$2" "! running $name" "$name to end"
	wait "${background_pid[$name]}" || status=$?
	[ $status -eq 0 ] || { cat "$work/$name.out"; die "$name ended with status $status"; }
	tail -n 3 "$work/$name.out"
}

# -------------------------------------------------------------------- assertions

# Polls a shell condition.
wait_for() {	# SECONDS CONDITION [WHAT]
	local deadline=$((SECONDS + $1 * slow))
	until eval "$2"; do
		[ $SECONDS -lt $deadline ] || die "not within $(($1 * slow)) s: ${3:-$2}"
		sleep 0.2
	done
}

assert_eq() {	# GOT WANT WHAT
	[ "$1" = "$2" ] || die "$3: '$1', not '$2'"
}

assert_ge() {	# GOT LEAST WHAT
	[ "$1" -ge "$2" ] || die "$3: $1 is less than $2"
}

assert_le() {	# GOT MOST WHAT
	[ "$1" -le "$2" ] || die "$3: $1 is more than $2"
}

assert_match() {	# TEXT PATTERN WHAT
	grep -qE -- "$2" <<<"$1" || die "$3: no /$2/ in: $1"
}

# ------------------------------------------------------- what driver and vmcd say

# A number from the driver: sockets, hooked, bytes, grants, mapped, peers.
vmc_status() {	# GUEST FIELD
	there "$1" "cat /sys/kernel/debug/vmc/status" | awk -v f="$2" '$1 == f { print $2; exit }'
}

# The sum over a guest's channels (to one peer): tx_bytes, rings, takeovers and so on.
vmc_chan() {	# GUEST FIELD [PEER-DOMID]
	there "$1" "cat /sys/kernel/debug/vmc/status" | awk -v f="$2" -v peer="${3-}" '
		$1 == "channel" && (peer == "" || $4 == peer) {
			for (i = 1; i < NF; i++) if ($i == f) sum += $(i + 1)
		}
		END { printf "%.0f\n", sum }'
}

# How often the driver fell back for a reason.
vmc_reason() {	# GUEST REASON
	there "$1" "cat /sys/kernel/debug/vmc/status" | awk -v r="$2" '$1 == "reason" && $2 == r { n = $3 } END { print n + 0 }'
}

has_driver() { there "$1" "[ -d /sys/module/vmc ]"; }

# xenbus states of a guest's device: front back.
vmc_states() {	# GUEST
	dom0 "d=\$(xl domid $1) && xenstore-read /local/domain/\$d/device/vmc/0/state /local/domain/0/backend/vmc/\$d/0/state" |
		tr '\n' ' ' | sed 's/ $//'
}

connected() { [ "$(vmc_states "$1" 2>/dev/null)" = "4 4" ]; }

vmcd_pid() { dom0 "systemctl show -P MainPID vmcd"; }
vmcd_active() { [ "$(dom0 'systemctl is-active vmcd' || true)" = active ]; }

# vmcctl's JSON through a filter: json 'PYTHON EXPRESSION WITH d' vmcctl-arguments
json() {
	local expression=$1
	shift
	dom0 "vmcctl --json $*" | /usr/bin/python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$expression"
}

# Domains that are dead but whose memory somebody still maps.
zombies() { dom0 "xl list" | awk 'NR > 1 && ($1 == "(null)" || $5 ~ /d/)'; }
no_zombies() { [ -z "$(zombies)" ]; }

# Pages of other domains that a domain has mapped, as Xen itself has it in its books.
mapped_by() {	# DOMID
	dom0 "xl dmesg -c >/dev/null; xl debug-keys g; sleep 1; xl dmesg" | awk -v by="$1" '
		/gnttab_usage_print_all \[/ { begun = 1 } /gnttab_usage_print_all \]/ { done = 1 } $2 ~ /^\[0x/ && $3 == by { n++ }
		END { if (!begun || !done) { print "not all of it" >"/dev/stderr"; exit 1 } print n + 0 }'
}

# Bytes that Dom0 saw on a guest's vif, both ways.
vif_bytes() {	# GUEST
	dom0 "d=\$(xl domid $1); cd /sys/class/net/vif\$d.0/statistics && echo \$((\$(cat rx_bytes) + \$(cat tx_bytes)))"
}

# ----------------------------------------------------------------------- guests

put_traffic() {	# GUEST...
	local guest
	for guest; do
		"$lab" put "$guest" "$traffic" /usr/local/bin/vmc-traffic
	done
}

# Starts the server on each of the guests, anew.
serve() {	# GUEST... [-- OPTIONS]
	local guest options= all="$*"
	case $all in *' -- '*) options=${all#* -- } ;; esac
	for guest; do
		[ "$guest" != -- ] || break
		stop_traffic "$guest"
		there "$guest" "rm -f /tmp/serve.log; vmc-traffic serve --port $PORT --family mapped --background \
			--log /tmp/serve.log $options" >/dev/null
	done
}

# The server had nothing to complain about.
serve_clean() {	# GUEST...
	local guest
	for guest; do
		there "$guest" "[ ! -s /tmp/serve.log ] || { head -n 20 /tmp/serve.log; exit 1; }" ||
			die "the server in $guest complains"
	done
}

# All at once: in an emulated guest it takes a while to look through /proc.
STOP_TRAFFIC='i=0; while killall -q -9 vmc-traffic vmc-hold vmc-flow vmc-dgram vmc-script vmc-claim iperf3 && [ $i -lt 50 ]; do
	sleep 0.1; i=$((i + 1)); done; true'
stop_traffic() { there "$1" "$STOP_TRAFFIC"; }	# GUEST

# Connections that stay, with little traffic: a guest with one emulated CPU has to have time for the rest of the case. No urgent
# data: a direction that sent some stays with TCP.
hold() {	# NAME FROM TO SEED [OPTIONS]
	LIMIT=900 background "$1" "$2" "vmc-traffic hold $(addr "$3") --port $PORT --seed $4 --connections ${CONNECTIONS:-$((slow > 1 ? 2 : 6))} --pace ${PACE:-1000} \
		--style blocking,poll,select,epoll-lt,epoll-et --ops ${OPS:--oob} --chunk 16k --seconds $((880 * slow)) --timeout 890 ${5-}"
	wait_for 60 "grep -q holding $work/$1.out" "$1: connections to be open"
}

# Ends them, properly.
stop_holding() { there "$1" "pkill -TERM -x vmc-hold"; }	# GUEST

# What a guest that moves has to bear, between g1 and g2: 16 streams and 64 connections with requests and answers, half of them
# from each side, numbered datagrams, and a session of ssh, of which every line has to come back.
LOAD='streams-up streams-down requests-up requests-down datagrams ssh'
load() {
	local way from to seed guest
	"$cases/../flow/build" "$work/vmc-flow"
	for guest in g1 g2; do "$lab" put $guest "$work/vmc-flow" /usr/local/bin/vmc-flow; done
	there g2 "vmc-flow serve --background"
	there g1 "rm -f /root/.ssh/load*; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/load; cat /root/.ssh/load.pub" |
		"$lab" sh g2 -- "cat >>/root/.ssh/authorized_keys"
	"$lab" sh g1 -- "cat >/tmp/session.py" <<'END'
import itertools, signal, subprocess, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
ssh = subprocess.Popen(["ssh", "-i", "/root/.ssh/load", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                        sys.argv[1], "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
for n in itertools.count():
    line = f"line {n}\n".encode()
    ssh.stdin.write(line)
    ssh.stdin.flush()
    got = ssh.stdout.readline()
    if got != line:
        sys.exit(f"line {n} came back as {got}")
    if stop:
        break
    time.sleep(0.5)
ssh.stdin.close()
print(f"{n} lines came back")
sys.exit(ssh.wait())
END
	LIMIT=900 background ssh g1 "python3 /tmp/session.py $(addr g2)"
	LIMIT=900 background datagrams g1 "vmc-flow flow $(addr g2) --flows 4 --rate 50 --size 16:1400 --seconds $((880 * slow))"
	OPS=-oob,-sockopt	# they may be away for longer than a TCP_USER_TIMEOUT that a program sets
	for way in up:g1:g2:1 down:g2:g1:2; do
		IFS=: read -r way from to seed <<<"$way"
		# TCP that has backed off while the network was away may be silent for as long again
		CONNECTIONS=8 PACE=2000 hold "streams-$way" "$from" "$to" "10$seed" "--moves --quiet 200"
		CONNECTIONS=32 PACE=4000 hold "requests-$way" "$from" "$to" "20$seed" "--moves --requests --quiet 200"
	done
}

load_goes_on() {	# WHAT
	local name
	for name in $LOAD; do running "$name" || { cat "$work/$name.out"; die "$1: $name ended"; }; done
}

# g1 and g2 have met: what goes on between them goes through shared memory.
local_again() {	# WHAT
	load_goes_on "$1"
	wait_for 30 "connected g1 && connected g2" "$1: links"
	wait_for 40 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 3 ] && [ \"\$(vmc_chan g2 tx_streams)\" -ge 3 ]" "$1: connections to be local again"
}

load_ends() {
	local name
	there g1 "pkill -TERM -x vmc-flow; pkill -TERM -f '^python3 /tmp/session.py'"
	for name in g1 g2; do stop_holding $name; done
	for name in $LOAD; do finish "$name" 120; done
}

# How soon a connection is worth a ring, for this case.
set_earning() {	# CALLS BYTES
	local guest
	for guest in g1 g2; do
		there $guest "cd /sys/module/vmc/parameters && echo $1 >min_calls && echo $2 >min_bytes"
	done
}

# Enough traffic that the pair has a channel, and afterwards no streams.
warm_up() {	# FROM TO
	there "$1" "vmc-traffic run $(addr "$2") --port $PORT --connections 4 --parallel 2 --pattern both --ops none \
		--min-bytes 200k --max-bytes 400k --timeout 40" || die "no connection from $1 to $2"
}

# New connections from one guest to the other go through shared memory: a good part of 1.3 MB, since a slow guest's TCP takes
# a lot before the first offer is answered.
assert_local() {	# FROM TO
	local before after tries
	# the first of them may bring the channel about
	for tries in 1 2 3 4 5; do
		before=$(vmc_chan "$1" tx_bytes "$(domid "$2")")
		warm_up "$1" "$2"
		after=$(vmc_chan "$1" tx_bytes "$(domid "$2")")
		[ $((after - before)) -lt 200000 ] || return 0
		sleep 1
	done
	there "$1" "cat /sys/kernel/debug/vmc/status"
	die "connections from $1 to $2 do not become local: $((after - before)) bytes"
}

# Destroys a guest if it is there and boots it anew, with more kernel arguments if given.
create() {	# GUEST [ARGUMENTS]
	dom0 "xl destroy $1 2>/dev/null; xl create -q /etc/xen/lab/$1.cfg 'extra=\"${2-}\"'" </dev/null || die "xl create $1"
	wait_for 90 "there $1 true 2>/dev/null" "$1 to boot"
	put_traffic "$1"
}

# Every guest is there, has its driver connected, and runs none of our programs.
all_ready() {
	local guest missing list
	dom0 "[ ! -e $CONFIG ] || { rm $CONFIG; systemctl reload vmcd; }"
	if ! vmcd_active; then dom0 "systemctl reset-failed vmcd; systemctl start vmcd"; fi
	for guest in $(all_guests); do
		if ! LIMIT=15 there "$guest" "! grep -q blacklist=vmc /proc/cmdline" 2>/dev/null; then
			echo "$guest: booting it"
			create "$guest"
		fi
		# and what an earlier case set is as it was
		missing=$(there "$guest" "$STOP_TRAFFIC; [ -d /sys/module/vmc ] || modprobe vmc; cd /sys/module/vmc/parameters &&
			echo 4 >min_calls && echo 16384 >min_bytes && echo 5 >idle_s && echo udp >packets || exit; [ -x /usr/local/bin/vmc-traffic ] || echo it")
		[ -z "$missing" ] || put_traffic "$guest"
	done
	# one that a case made break the protocol is not let in again, and one that it had prepared has no peers
	list=$(dom0 "vmcctl list")
	for guest in $(awk '/ refused / { print $2 }' <<<"$list"); do
		echo "$guest: was refused, booting it anew"
		create "$guest"
	done
	for guest in $(all_guests); do
		wait_for 30 "connected $guest" "$guest connected"
	done
	for guest in $(awk '/ prepar(ed|ing)/ { print $2 }' <<<"$list"); do dom0 "vmcctl resume $guest"; done
}

# -------------------------------------------------------- nothing left, nothing said

# What kernels say of what should not be: by themselves, and those that watch themselves through lockdep, RCU's checks, debug
# objects, SLUB's and pages' patterns, trackers of references, kmemleak and watchdogs.
COMPLAINTS='WARNING|BUG|Oops|Call Trace|general protection|INFO: |possible |refcount_t|soft lockup|Out of memory'
COMPLAINTS+='|ODEBUG|DEBUG_LOCKS|lockdep is turned off|suspicious|held lock|corruption|[Pp]oison overwritten|Redzone|Objects remaining'
COMPLAINTS+='|pagealloc: |ref_tracker|unregister_netdevice: waiting|kmemleak: .*(new suspected|disabled)|usercopy: |Invalid notifier'
COMPLAINTS+='|detected stall|blocked for more than|workqueue lockup|nobody cared'

# From here on the kernel log counts.
dmesg_mark() {	# GUEST...
	local guest
	for guest; do there "$guest" "echo '== ${work##*/} ==' >/dev/kmsg"; done
}

# No warnings of the kernel's, no lock report, nothing worse than notice from vmc.
dmesg_clean() {	# GUEST...
	local guest said
	for guest; do
		said=$(there "$guest" "dmesg --color=never -x" | awk -v mark="== ${work##*/} ==" '
			index($0, mark) { n = 0; next } { line[n++] = $0 }
			END { for (i = 0; i < n; i++) print line[i] }' |
			grep -E "$COMPLAINTS|(emerg|alert|crit|err|warn) *:.*vmc" |
			grep -vE 'loading out-of-tree module|module verification failed|taint' || true)
		[ -z "$said" ] || { echo "$said"; die "the kernel log of $guest"; }
	done
}

journal_mark() { journal_cursor=$(dom0 "journalctl -u vmcd -n 0 --show-cursor" | sed -n 's/^-- cursor: //p'); }
journal() { dom0 "journalctl -u vmcd --no-pager -o cat --after-cursor='$journal_cursor' $*"; }

# What a guest has in use now, of all that has to be given back. Ports are counted as interrupts.
in_use() {	# GUEST
	there "$1" "cat /sys/kernel/debug/vmc/status; grep -c vmc /proc/interrupts | sed 's/^/ports /'; \
		awk '/^TCP:/ { print \"tcp\", \$3, \"orphans\", \$5 }' /proc/net/sockstat" | awk '
		/^(sockets|bytes|grants|mapped|ports|tcp) / { print }
		$1 == "channel" { for (i = 1; i < NF; i++) if ($i ~ /^(tx_streams|rx_streams|rings)$/) sum[$i] += $(i + 1) }
		END { print "tx_streams", sum["tx_streams"] + 0; print "rx_streams", sum["rx_streams"] + 0; print "rings", sum["rings"] + 0 }'
}

available_kb() { there "$1" "echo 3 >/proc/sys/vm/drop_caches; awk '/^MemAvailable/ { print \$2 }' /proc/meminfo"; }

# Guests with a channel and no traffic: what they use then is what they may use.
baseline() {	# GUEST...
	local guest
	for guest; do
		wait_for 10 "in_use $guest | grep -qx 'rings 0' && in_use $guest | grep -qx 'sockets 0'" "$guest idle"
		in_use "$guest" >"$work/baseline.$guest"
		available_kb "$guest" >"$work/memory.$guest"
	done
}

# Of TCP's sockets there may be fewer: those that an earlier case left dying are gone some time.
like_baseline() {	# GUEST
	in_use "$1" >"$work/now.$1" && awk '
		NR == FNR { was[FNR] = $0; next }
		$1 == "tcp" { split(was[FNR], w); if ($1 == w[1] && $2 <= w[2] && $4 <= w[4]) same++; next }
		$0 == was[FNR] { same++ }
		END { exit !(same && same == length(was) && same == FNR) }' "$work/baseline.$1" "$work/now.$1"
}

# After at most ten idle seconds everything is back.
same_as_baseline() {	# GUEST...
	local guest deadline=$((SECONDS + 10 * slow))
	for guest; do
		until like_baseline "$guest"; do
			if [ $SECONDS -ge $deadline ]; then
				diff "$work/baseline.$guest" "$work/now.$guest" || true
				die "$guest does not give back what it used"
			fi
			sleep 0.5
		done
		assert_ge "$(available_kb "$guest")" $(($(cat "$work/memory.$guest") - 8192)) "kB available in $guest"
	done
}

# ------------------------------------------------- what kernels that watch themselves found

# What all guests have said on their consoles since this was asked last, those that are gone included. Left out is what a kernel
# says before a driver can be there (Debian's Xen lets no guest read an MSR of AMD's, and the kernel wonders), and of a crash that
# a case ordered.
consoles() {
	dom0 'for log in /var/log/xen/console/guest-g*.log; do
		seen=/run/seen-${log##*/}; from=$(cat $seen 2>/dev/null || echo 0); to=$(stat -c %s $log); echo $to >$seen
		tail -c +$((from + 1)) $log | head -c $((to - from)) | sed -e "s/^/${log##*/guest-} /" -e "\$a\\"
	done' | awk '$1 != from || / Linux version / { crash = 0 } $1 != from { start = 0 } { from = $1 }
		/ Linux version / { start = 1 } / Grant table initialized/ { start = 0 }
		/sysrq: Trigger a crash/ { crash = 1 } !crash && !start'
}

# A guest that has found something is destroyed: lockdep, for one, reports once and is blind from then on.
nothing_found() {
	local guest
	consoles >"$work/consoles"
	grep -E "$COMPLAINTS" "$work/consoles" | grep -vE 'loading out-of-tree module|taints kernel' >"$work/found" || true
	# What is unreferenced now must be it again, and have been there for five seconds.
	for guest in $(all_guests); do there "$guest" "echo scan >/sys/kernel/debug/kmemleak"; done
	sleep 6
	for guest in $(all_guests); do
		there "$guest" "cd /sys/kernel/debug && echo scan >kmemleak && cat kmemleak && echo clear >kmemleak
			grep -q 'debug_locks: *1' /proc/lockdep_stats || echo 'lockdep is turned off'" | sed "s/^/$guest /" >"$work/leaks.$guest"
		# What the kernel's own start seems to have lost, before there was a process, is of no interest here.
		awk '/ unreferenced object / { head = $0; next }
			head != "" { own = !/comm "swapper\/[0-9]*", pid [01],/; if (own) print head; head = "" }
			/lockdep is turned off/ { own = 1 }
			own' "$work/leaks.$guest" >>"$work/found"
	done
	if [ -s "$work/found" ]; then
		for guest in $(all_guests); do
			! grep -q "^$guest" "$work/found" || dom0 "xl destroy $guest"
		done
		cat "$work/found"
		die "guests' kernels found: $(head -n 1 "$work/found") ... (all that they said is in $work/consoles)"
	fi
}

# run-cases ends each case with this, whatever became of it.
ended() {	# STATUS
	trap - EXIT
	set +x
	case $config in *-debug) nothing_found ;; esac
	exit "$1"
}
