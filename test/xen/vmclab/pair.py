# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests g1 and g2 of a running lab, for what measures between them: commands, the driver on and off, its counters."""

import os
import re
import subprocess
import time

from . import cache

LAB = os.path.join(cache.HERE, "lab")
PEER = "10.77.0.12"
STATUS = "/sys/kernel/debug/vmc/status"


class Wrong(Exception):
    """Something is not as it should be."""


def lab(*arguments, timeout=None):
    """A lab command, whose own progress is shown."""
    done = subprocess.run([LAB, *arguments], stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    if done.returncode:
        raise Wrong(f"lab {arguments[0]} failed")


def sh(where, command, timeout=60, check=True):
    """A command in Dom0 or a guest; its output."""
    done = subprocess.run([LAB, "sh", "-n", "--timeout", str(timeout), where, "--", command], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if check and done.returncode:
        raise Wrong(f"{where}: {command.splitlines()[0][:100]}: status {done.returncode}\n"
                    f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Wrong(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def domids():
    return {name: int(number) for name, number in
            re.findall(r"^(\S+)\s+(\d+)\s", sh("dom0", "xl list"), re.MULTILINE)}


def in_shared_memory(status):
    """What a guest has sent and received through shared memory, by its driver's status."""
    return sum(int(n) for n in re.findall(r"\b[rt]x_bytes (\d+)", status))


def driver(on):
    """VMC on or off in both guests. On is when it carries traffic: the first connection to a peer brings the channel about."""
    for guest in ("g1", "g2"):
        sh(guest, "[ -d /sys/module/vmc ] || modprobe vmc" if on else "[ ! -d /sys/module/vmc ] || rmmod vmc")
    if on:
        ids = domids()
        for guest in ("g1", "g2"):
            node = f"/local/domain/0/backend/vmc/{ids[guest]}/0/state"
            wait_for(lambda node=node: sh("dom0", f"xenstore-read {node}", check=False).strip() == "4", 20,
                     f"{guest}: the driver's connection to vmcd")
        sh("g1", f"iperf3 -c {PEER} -n 4M -l 64K >/dev/null", timeout=40)


def table(rows, left=1):
    """Lines with columns: the first row is the head, so many columns stand to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
             for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return lines


EMULATED = ["The host is emulated (QEMU without KVM): the figures themselves mean nothing, only",
            "the ratios between columns of this one table do."]
