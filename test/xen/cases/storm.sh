# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-debug
# Loaded connections change between shared memory and TCP hundreds of times a minute, by writer and by reader: contents are exact.
# limit: 240
seconds=$((60 * soak))
serve g1 g2
assert_local g1 g2
set_earning 1 1
dmesg_mark g1 g2
baseline g1 g2
changes() { echo $(($(vmc_chan g1 takeovers) + $(vmc_chan g1 ended) + $(vmc_chan g2 takeovers) + $(vmc_chan g2 ended))); }

# Asked while the guests are quiet: under this load an answer takes its time.
before=$(changes)
for load in "g1 g2 61" "g2 g1 62"; do
	# shellcheck disable=SC2086 # three words
	set -- $load
	LIMIT=$((seconds + 100)) background "$1" "$1" "vmc-traffic hold $(addr "$2") --port $PORT --seed $3 --connections 12 --pace 30 \
		--style blocking,poll,select,epoll-lt,epoll-et --ops -oob --chunk 16k --seconds $seconds --timeout $((seconds + 80))"
	LIMIT=$((seconds + 100)) background "storm-$1" "$1" "until pkill -0 -x vmc-hold; do sleep 0.1; done
		while pkill -0 -x vmc-hold; do for way in tx rx; do echo \$way >/sys/kernel/debug/vmc/switch; sleep 0.1; done; done"
done
for guest in g1 g2; do finish $guest $((seconds + 90)); done
for guest in g1 g2; do finish storm-$guest 30; done
each=$((($(changes) - before) * 60 / seconds))
echo "$each changes a minute, for $seconds s"
assert_ge $each $((500 / slow)) "changes in a minute"
serve_clean g1 g2
same_as_baseline g1 g2
dmesg_clean g1 g2
