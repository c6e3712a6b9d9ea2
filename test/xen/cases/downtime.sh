# SPDX-License-Identifier: GPL-2.0-or-later
# long: pvh
# A live migration stops a guest no longer with VMC than without: what its peer sees of it, drawn, and the longest time without an answer.
# limit: 1200
PING=7799
for guest in g1 g2; do "$lab" put $guest "$cases/../timeline/sampler.py" /tmp/sampler.py; done
serve g1 g2 -- --moves
assert_local g1 g2
g1 "pkill -f '[s]ampler.py echo' || true"
g1 "setsid python3 /tmp/sampler.py echo $PING >/tmp/sampler.log 2>&1 </dev/null &"
dmesg_mark g1 g2

move() {	# NAME [COMMAND-BEFORE]
	local began
	LIMIT=300 background "$1-load" g1 "vmc-traffic hold $(addr g2) --port $PORT --seed 97 --connections 6 --pace 500 \
		--style blocking,poll,epoll-lt --ops none --chunk 16k --seconds 250 --timeout 290 --moves"
	wait_for 60 "grep -q holding $work/$1-load.out" "$1: connections to be open"
	LIMIT=250 background "$1" g2 "python3 /tmp/sampler.py $(addr g1) $PING"
	wait_for 30 "[ -s $work/$1.out ]" "$1: samples"
	sleep 5
	began=$(tail -n 1 "$work/$1.out" | sed 's/.*"t": \([0-9.]*\).*/\1/')
	LIMIT=200 dom0 "bash -lc '${2-} xl migrate -s \"\" g1 \"xl migrate-receive\"' 2>&1" >"$work/$1.migrate" || { cat "$work/$1.migrate"; die "$1: xl migrate"; }
	ended=$(tail -n 1 "$work/$1.out" | sed 's/.*"t": \([0-9.]*\).*/\1/')
	sleep 15
	there g2 "pkill -TERM -f '^python3 /tmp/sampler.py 10'"
	finish "$1" 30
	there g1 "pkill -TERM -x vmc-hold"
	finish "$1-load" 60
	"$cases/../timeline/plot" "$work/$1.out" "$work/$1.svg" "$began=xl migrate" "$ended=moved"
	echo "$1: no answer for at most $(sed -n 's/.*"longest": \([0-9.]*\).*/\1/p' "$work/$1.out") s, $(grep -o 'parted from its peers.*' "$work/$1.migrate" || echo 'nobody to part from'), $work/$1.svg"
}

for round in 1 2 3; do
	assert_local g1 g2
	move "vmc-$round"
	assert_match "$(cat "$work/vmc-$round.migrate")" 'is parted from its peers' "the helper's words"
	# the control: guests without the driver, xl without the helper
	for guest in g1 g2; do there $guest "rmmod vmc"; done
	move "tcp-$round" 'env -u LIBXL_SAVE_HELPER'
	for guest in g1 g2; do there $guest "modprobe vmc"; done
	for guest in g1 g2; do wait_for 30 "connected $guest" "$guest connected"; done
done
python3 - "$work" <<'END'
import json, statistics, sys
seen = {way: [[json.loads(line) for line in open(f"{sys.argv[1]}/{way}-{n}.out")] for n in (1, 2, 3)] for way in ("vmc", "tcp")}
gaps = {way: [samples[-1]["longest"] for samples in rounds] for way, rounds in seen.items()}
vmc, tcp = (statistics.median(gaps[way]) for way in ("vmc", "tcp"))
streams = lambda sample: sample["tx_streams"] + sample["rx_streams"]
for samples in seen["vmc"]:
    arrived, most = samples[-1]["ended"], max(map(streams, samples[:-1]))
    for part in (1, most):
        local = next((sample["t"] for sample in samples[:-1] if sample["t"] > arrived and streams(sample) >= part), None)
        print(f"{part} of {most} directions local {local - arrived:.1f} s after the guest's first answer" if local else f"never {part} of {most} directions local again")
print(f"longest time without an answer: {vmc:.3f} s with VMC {gaps['vmc']}, {tcp:.3f} s without {gaps['tcp']}: {vmc / tcp:.2f}")
sys.exit(vmc > 1.1 * tcp)
END
serve_clean g1 g2
dmesg_clean g1 g2
