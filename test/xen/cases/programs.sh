# SPDX-License-Identifier: GPL-2.0-or-later
# long: pv-programs
# Programs that everybody has, unmodified: right results, through shared memory, and what they gain.
# limit: 900
dmesg_mark g1 g2
"$cases/../programs" --json "$work/programs.json"
dmesg_clean g1 g2
