# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated Xen hosts: QEMU's command line and its control socket."""

import json
import os
import socket

from .util import Fail

# Each flag was found by trying. smap, smep, la57, pku: Dom0 crashes or page-faults with them under this QEMU's TCG.
# erms, fsrm: kernels would copy with `rep movsb`, which TCG does byte by byte. svm, npt: PVH guests. rdtscp: its
# intercept crashes them.
CPU = "max,-smap,-smep,-la57,-pku,-erms,-fsrm,-rdtscp,+svm,+npt"
# This QEMU can deliver an interrupt that Xen injects into a PVH guest twice: the vector stays in exception_index, and a
# kick from another thread that comes late, after the interrupt it announces was handled, has it delivered again. Guests
# then die of nested interrupts within minutes. With one CPU there is no second one to kick it, and the thread of the
# emulated devices has a core of its own, so its kicks are not late.
CPUS = {"pv": 2, "pvh": 1}
# And it can lose one: VMRUN changes cpu->interrupt_request outside QEMU's lock, so a request that a device's thread makes
# in that moment may be overwritten. The next interrupt to that CPU mends it, but if the lost one was the timer's, and all
# is idle, the whole host stands still until one comes (100 s were seen). So one comes every HEARTBEAT seconds: a datagram
# to a port of Dom0's where nobody listens.
HEARTBEAT = 0.25
HEARTBEAT_TYPES = ("pvh",)
WIRE = "@WIRE@"  # The supervisor puts the descriptor of the wire between two hosts here.
MEMORY_MB = 6144
# eager-fpu: with Xen's lazy switching of vector registers this emulation loses them between contexts, and a memcpy() that
# is interrupted copies rubbish (heap corruption in Dom0's tools and in the guests).
XEN_ARGS = ("com1=115200,8n1 console=com1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 "
            "loglvl=info guest_loglvl=info conring_size=256k spec-ctrl=eager-fpu")
DOM0_ARGS = ("root=/dev/vda rw console=hvc0 loglevel=5 mitigations=off net.ifnames=0 panic=5 "
             "xen_netback.max_queues=4 "  # for guests with several CPUs, although Dom0 has but one
             "systemd.show_status=error systemd.log_target=journal")


def _quote(path):
    """A path inside a -drive or -netdev value, where a comma is written twice."""
    return path.replace(",", ",,")


def _drive(name, path, form, options):
    return ["-drive", f"file={_quote(path)},if=none,id={name},format={form},{options}",
            "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def command(host, hosts, guest_type, run, log_dir, disks, gdb):
    """QEMU's arguments for host number `host`. Kernel and initrd are named relative to the base image's directory."""
    argv = ["qemu-system-x86_64", "-name", f"vmc-lab-h{host}", "-machine", "q35",
            "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", CPU, "-smp", str(CPUS[guest_type]), "-m", str(MEMORY_MB),
            "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot", "-no-user-config",
            "-serial", f"file:{_quote(os.path.join(log_dir, f'serial-h{host}.log'))}",
            "-qmp", f"unix:{run}/qmp-h{host},server=on,wait=off",
            "-kernel", "xen.elf", "-append", XEN_ARGS,
            "-initrd", f"dom0-vmlinux {DOM0_ARGS} lab.host={host},dom0-initrd",
            "-device", "virtio-rng-pci",
            "-netdev", "user,id=lan,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=udp:127.0.0.1:0-:9",
            "-device", f"virtio-net-pci,netdev=lan,romfile=,mac=52:54:00:77:00:0{host}"]
    for name, path, form, options in disks:
        argv += _drive(name, path, form, options)
    if hosts > 1:
        argv += ["-netdev", f"socket,id=wire,fd={WIRE}",
                 "-device", f"virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:77:01:0{host}"]
    if gdb:
        argv += ["-gdb", f"unix:{run}/gdb-h{host},server=on,wait=off"]
    return argv


class Monitor:
    """QEMU's control socket. OSError if QEMU is not there."""

    def __init__(self, path, timeout=5):
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(timeout)
            self.sock.connect(path)
            self.stream = self.sock.makefile("rw", encoding="utf-8")
            self.stream.readline()
            self.command("qmp_capabilities")
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def command(self, name, **arguments):
        """One command; its result."""
        self.stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            line = self.stream.readline()
            if not line:
                raise OSError("QEMU closed its control socket")
            answer = json.loads(line)
            if "error" in answer:
                raise Fail(f"QEMU: {name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def forwarded(path, protocol):
    """The loopback port that QEMU chose: for Dom0's sshd (TCP), or for its port 9 (UDP)."""
    with Monitor(path) as monitor:
        text = monitor.command("human-monitor-command", **{"command-line": "info usernet"})
    for line in text.splitlines():
        words = line.split()
        # TCP[HOST_FORWARD]  12    127.0.0.1 40615       10.0.2.15    22
        if words and words[0] == f"{protocol}[HOST_FORWARD]":
            return int(words[3])
    raise Fail(f"QEMU did not say which {protocol} port it forwards:\n{text}")
