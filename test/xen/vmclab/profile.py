# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the emulated CPUs spend their time: samples of their instruction pointers, by domain and function.

QEMU is stopped for each sample, which happens between two blocks of translated code. Xen's per-CPU stack says which
domain a CPU works for; PVH guests have another stack, so they count as `?`.
"""

import bisect
import collections
import json
import re
import time

from . import qemu, remote
from .util import Fail

INTERVAL = 0.013
# From the top of Xen's per-CPU stack (TSS.rsp0 points to the field `es` of its struct cpu_user_regs, 0xa8 of 200 bytes).
RSP0_TO_VCPU = 200 - 0xa8 + 8
VCPU_TO_DOMAIN = 16
IDLE_DOMAIN = 0x7fff
XEN_TEXT = range(0xffff82d040000000, 0xffff82d080000000)
KERNEL_BASE = 0xffff800000000000


class _Symbols:
    def __init__(self, text):
        found = sorted((int(words[0], 16), words[2]) for words in map(str.split, text.splitlines()))
        self.addresses, self.names = [entry[0] for entry in found], [entry[1] for entry in found]

    def __call__(self, address):
        index = bisect.bisect_right(self.addresses, address) - 1
        return self.names[index] if index >= 0 else hex(address)


def _symbols(node, path):
    _, out, _ = remote.capture(node, f"awk '$2 ~ /[tTwW]/ {{ print $1, $2, $3 }}' {path}", timeout=120)
    return _Symbols(out.decode())


def _domains(node):
    _, out, _ = remote.capture(node, "xl list | awk 'NR > 1 { print $1, $2 }'")
    return {int(number): name for name, number in map(str.split, out.decode().splitlines())}


class _Sampler:
    def __init__(self, monitor, cpus):
        self.monitor, self.cpus = monitor, cpus

    def _hmp(self, line, cpu):
        return self.monitor.command("human-monitor-command", **{"command-line": line, "cpu-index": cpu})

    def _word(self, address, cpu):
        match = re.search(r": (0x[0-9a-f]+)", self._hmp(f"x /1gx {address:#x}", cpu))
        return int(match[1], 16) if match else None

    def _domid(self, task, cpu):
        address = self._word(task + 4, cpu)
        for offset in (RSP0_TO_VCPU, VCPU_TO_DOMAIN, 0):
            address = self._word(address + offset, cpu) if address is not None else None
        return address & 0xffff if address is not None else None

    def sample(self):
        """For each CPU (domid or None, instruction pointer or None if it halts)."""
        self.monitor.command("stop")
        try:
            for cpu in range(self.cpus):
                text = self._hmp("info registers", cpu)
                rip = int(re.search(r"RIP=([0-9a-f]+)", text)[1], 16)
                if re.search(r"HLT=1", text):
                    yield IDLE_DOMAIN, None
                else:
                    yield self._domid(int(re.search(r"TR =\S+ ([0-9a-f]+)", text)[1], 16), cpu), rip
        finally:
            self.monitor.command("cont")


def profile(lab, host, seconds, progress):
    """Samples for that long. Returns a Counter of (domain, part, function)."""
    state = lab.need()
    if host not in state["ports"]:
        raise Fail(f"this lab has no {host}")
    dom0 = lab.node(f"{host}:dom0")
    progress.say("reading symbols")
    domains = _domains(dom0)
    xen = _symbols(dom0, "/proc/xen/xensyms")
    kernels = {}
    for domid, name in domains.items():
        if domid == 0:
            kernels[domid] = _symbols(dom0, "/proc/kallsyms")
        elif re.fullmatch(r"g\d+", name):
            kernels[domid] = _symbols(lab.node(f"{host}:{name}"), "/proc/kallsyms")
    names = {**domains, 0: "dom0", IDLE_DOMAIN: "idle"}
    counts = collections.Counter()
    progress.say(f"sampling for {seconds:g} s")
    end = time.monotonic() + seconds
    with qemu.Monitor(lab.path(f"qmp-{host}")) as monitor:
        sampler = _Sampler(monitor, qemu.CPUS[state["type"]])
        while time.monotonic() < end:
            for domid, rip in sampler.sample():
                if rip is None:
                    where = ("halted", "")
                elif rip in XEN_TEXT:
                    where = ("xen", xen(rip))
                elif rip >= KERNEL_BASE:
                    where = ("kernel", kernels[domid](rip) if domid in kernels else "?")
                else:
                    where = ("user", "")
                counts[(names.get(domid, "?"), *where)] += 1
            time.sleep(INTERVAL)
    return counts


def report(counts, top):
    """The counts as a table: parts first, then the functions."""
    total = sum(counts.values())
    parts = collections.Counter()
    for (domain, part, _), number in counts.items():
        parts[(domain, part)] += number
    lines = [f"{total} samples", ""]
    lines += [f"{number / total:6.1%}  {domain:6} {part}" for (domain, part), number in parts.most_common()]
    lines += ["", *(f"{number / total:6.1%}  {domain:6} {part:6} {function}"
                    for (domain, part, function), number in counts.most_common(top) if function)]
    return "\n".join(lines)


def as_json(counts):
    return json.dumps([{"domain": key[0], "part": key[1], "function": key[2], "samples": number}
                       for key, number in counts.most_common()], indent=1)
