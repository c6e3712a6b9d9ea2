# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# Connections that were open before the driver was loaded go through shared memory; idle ones give their rings back.
# limit: 400
for guest in g1 g2; do there $guest "rmmod vmc"; done
serve g1 g2
dmesg_mark g1 g2
CONNECTIONS=6 hold up g1 g2 21
CONNECTIONS=6 hold down g2 g1 22
for guest in g1 g2; do there $guest "modprobe vmc"; done
for guest in g1 g2; do wait_for 20 "connected $guest" "$guest to connect"; done
# six connections from either side, both directions of each
wait_for 60 "[ \"\$(vmc_chan g1 tx_streams)\" -ge 6 ] && [ \"\$(vmc_chan g2 tx_streams)\" -ge 6 ]" "streams to be local"
assert_ge "$(vmc_status g1 sockets)" 12 "sockets that g1 watches"
# the sending side of a connection that its own side did not open is proved, too
there g1 "cat /sys/kernel/debug/vmc/sockets"
for guest in g1 g2; do
	local_in=$(there $guest "grep ' rx [12] ' /sys/kernel/debug/vmc/sockets | grep -c :$PORT")
	assert_ge "$local_in" 6 "streams that $guest reads locally"
done
# those that pause for longer than this give their rings back, and earn new ones
for guest in g1 g2; do there $guest "echo 1 >/sys/module/vmc/parameters/idle_s"; done
for guest in g1 g2; do
	idle=$(vmc_reason $guest idle)
	wait_for 60 "[ \"\$(vmc_reason $guest idle)\" -ge $((idle + 4)) ]" "idle streams of $guest"
done
takeovers=$(vmc_chan g1 takeovers)
for guest in g1 g2; do there $guest "echo 5 >/sys/module/vmc/parameters/idle_s"; done
wait_for 60 "[ \"\$(vmc_chan g1 takeovers)\" -ge $((takeovers + 2)) ]" "streams to be local again"
for guest in g1 g2; do stop_holding $guest; done
finish up 60
finish down 60
serve_clean g1 g2
dmesg_clean g1 g2
