# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# The configuration decides, at once and under load, who may share memory and how much; what is wrong with it is told and changes nothing.
# limit: 300
configure() { "$lab" sh dom0 -- "mkdir -p /etc/vmc/vmcd.conf.d; cat >$CONFIG; systemctl reload vmcd"; }

# How many packets went through shared memory from g1 to g2, after some more were sent.
datagrams() {
	there g1 "python3 -c \"
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(200):
    s.sendto(b'x' * 64, ('$(addr g2)', 9))
    time.sleep(0.005)\""
	vmc_chan g1 tx_packets "$(domid g2)"
}

streams() { vmc_chan "$1" tx_streams "$(domid "$2")"; }
local_with() { [ "$(streams "$1" "$2")" -ge 1 ] && [ "$(streams "$2" "$1")" -ge 1 ]; }
apart() { there "$1" "cat /sys/kernel/debug/vmc/status" | awk -v peer="$(domid "$2")" '$1 == "channel" && $4 == peer { exit 1 }'; }

dmesg_mark g1 g2 g3
serve g1 g2 g3
LOAD='up down third'
hold up g1 g2 61
hold down g2 g1 62
hold third g3 g1 63
wait_for 40 "local_with g1 g2 && local_with g3 g1" "connections to be local"
pid=$(dom0 "systemctl show -p MainPID --value vmcd")
LIMIT=290 background watch dom0 "vmcctl monitor"

echo "== a pair is forbidden"
configure <<'END'
groups = { one: { names = "g1" } two: { names = ["g[2]"] } }
rules = ( "deny one two" )
END
wait_for 15 "apart g1 g2 && apart g2 g1" "g1 and g2 to be parted"
local_with g3 g1 || die "g3 and g1 were parted, too"
status=0
dom0 "vmcctl policy test g1 g2" >"$work/policy" || status=$?
assert_eq $status 5 "status of vmcctl policy test: $(cat "$work/policy")"
assert_match "$(cat "$work/policy")" "g1 and g2 may not share memory: $CONFIG:2: deny one two" "vmcctl policy test"
dom0 "vmcctl policy test g1 g3"
load_goes_on "a pair is forbidden"
before=$(g2 "cat /sys/class/net/eth0/statistics/rx_bytes")
wait_for 20 "[ \$(g2 'cat /sys/class/net/eth0/statistics/rx_bytes') -gt $((before + 50000)) ]" "traffic of g1 and g2 over the network"

echo "== it is wrong"
status=0
"$lab" sh dom0 -- "cat >$CONFIG; systemctl reload vmcd" <<'END' || status=$?
rules = ( "allow any any" )
poll = "often"
END
[ $status -ne 0 ] || die "systemctl reload with a wrong configuration: success"
dom0 "journalctl -q -u vmcd -n 20 -o cat" >"$work/journal"
assert_match "$(cat "$work/journal")" "$CONFIG:2: poll has to be an integer" "what the journal says"
dom0 "systemctl kill -s HUP vmcd"	# which does not look before
wait_for 10 "dom0 'journalctl -q -u vmcd -n 5 -o cat' | grep -q 'it stays as it was'" "vmcd to read it"
sleep 1
apart g1 g2 || die "a configuration that is wrong counts"
load_goes_on "it is wrong"

echo "== allowed again"
dom0 "rm $CONFIG; systemctl reload vmcd"
wait_for 30 "local_with g1 g2" "connections to be local again"
load_goes_on "allowed again"

echo "== limits"
assert_ge "$(datagrams)" 50 "packets through shared memory, which is allowed"
configure <<'END'
packets = "off"
groups = { two: { names = "g2"; streams = 2; memory = "1M"; ring = "8K"; poll = 0 } }
END
# what there was may stay: connections that come have to see it
for guest in g1 g2; do stop_holding $guest; done
finish up 60
finish down 60
LOAD=third
wait_for 20 "[ \"\$(vmc_chan g2 rings)\" -eq 0 ]" "rings to be given back"
OPS=-oob hold many g1 g2 64
LOAD='third many'
wait_for 20 "[ \"\$(vmc_chan g2 rx_streams)\" -ge 1 ]" "streams to g2"
sleep 3
assert_le "$(vmc_chan g2 rx_streams)" 2 "streams that g2 receives"
assert_le "$(vmc_status g2 bytes)" 1048576 "bytes that g2 grants"
[ "$(vmc_reason g2 limit)" -ge 1 ] || [ "$(vmc_reason g1 limit)" -ge 1 ] || die "nobody has counted the limit"
before=$(vmc_chan g1 tx_packets "$(domid g2)")
assert_eq "$(datagrams)" "$before" "packets through shared memory"
load_goes_on "limits"

echo "== no more channels"
configure <<'END'
groups = { three: { names = "g3"; channels = 0 } }
END
sleep 1
local_with g3 g1 || die "a channel that was there was taken away"
assert_eq "$(dom0 "systemctl show -p MainPID --value vmcd")" "$pid" "vmcd's process"

dom0 "rm $CONFIG; systemctl reload vmcd"
for guest in g1 g3; do stop_holding $guest; done
finish many 60
finish third 60
dom0 "pkill -x vmcctl"
wait_for 10 "! running watch" "vmcctl monitor to end"
happened() { grep -Eq "$1" "$work/watch.out" || { cat "$work/watch.out"; die "vmcctl monitor did not tell: $1"; }; }
happened "  configured\$"
happened "channel-closed  .*g[12] \(.*  g[12] \(.*policy\$"
happened "channel-opened  .*g[12] \(.*  g[12] \("
serve_clean g1 g2 g3
dmesg_clean g1 g2 g3
