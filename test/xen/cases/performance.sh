# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# The floors: how much faster than netfront, and how little of it Dom0 sees.
# limit: 700
"$cases/../../demo" --running --seconds 3 --rounds 3 --floors --json "$work/performance.json"
cat "$work/performance.json"
