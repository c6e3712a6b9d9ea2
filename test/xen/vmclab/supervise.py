# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that owns the QEMUs. It ends them when `lab up` dies half-way, when `lab down` asks, or when one ends."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from . import cache, qemu
from .util import die_with_parent, read_json, write_json


def start(run, lock_fd):
    """Start the supervisor in a session of its own. Returns (process, the write end of its lifeline)."""
    lifeline, ours = os.pipe()
    with open(os.path.join(run, "supervisor.log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, os.path.join(cache.HERE, "lab"), "_supervise", run, str(lock_fd), str(lifeline)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
            pass_fds=(lock_fd, lifeline))
    os.close(lifeline)
    return process, ours


def main(run, lock_fd, lifeline):
    """Runs in the supervisor. The lock is inherited by each QEMU: while one lives, no second lab starts."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    spec = read_json(os.path.join(run, "spec.json"))
    qemus = {}
    reason = None
    try:
        wires = dict(zip(spec["hosts"], socket.socketpair()))
        for name, host in spec["hosts"].items():
            wire = wires[name].fileno()
            argv = [word.replace(qemu.WIRE, str(wire)) for word in host["argv"]]
            with open(os.path.join(spec["logs"], f"qemu-{name}.log"), "wb") as log:
                qemus[name] = subprocess.Popen(argv, cwd=host["cwd"], stdin=subprocess.DEVNULL, stdout=log,
                                               stderr=subprocess.STDOUT, pass_fds=(lock_fd, wire),
                                               preexec_fn=die_with_parent())
        for end in wires.values():
            end.close()
        if spec["heartbeat"]:
            for name in qemus:
                threading.Thread(target=_beat, daemon=True, args=(os.path.join(run, f"qmp-{name}"), spec["heartbeat"])).start()
        write_json(os.path.join(run, "pids.json"),
                   {"supervisor": os.getpid(), **{name: process.pid for name, process in qemus.items()}})
        with open(os.path.join(spec["logs"], "cpu.txt"), "w", buffering=1, encoding="ascii") as log:
            reason = _watch(qemus, wake_r, lifeline, log)
    finally:
        _end(qemus)
        for path in spec["scratch"]:
            if os.path.exists(path):
                os.unlink(path)
        write_json(os.path.join(run, "ended.json"),
                   {"reason": reason or "the supervisor failed", "logs": spec["logs"]})
    return 0


def _beat(monitor, period):
    """Runs in a thread: interrupts a host every `period` seconds. See qemu.HEARTBEAT."""
    port = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while True:
            try:
                if port is None:
                    port = qemu.forwarded(monitor, "UDP")
                sock.sendto(b"beat", ("127.0.0.1", port))
            except OSError:  # QEMU is not there yet, not any more, or somebody else talks to its monitor
                pass
            time.sleep(period)


def _busy(process):
    """CPU seconds of each thread of a QEMU, by its name and number, and what the thread does now (R runs, S sleeps, D waits for a disk)."""
    threads = {}
    for number in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{number}/stat", encoding="ascii") as file:
            name, rest = file.read().partition("(")[2].rsplit(")", 1)
        fields = rest.split()
        threads[f"{name.replace(' ', '-')}.{number}"] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0]
    return threads


def _sample(qemus, before, log):
    """One line for each QEMU: how much of a second each thread used. Tells a machine that stands still from one that is busy."""
    for name, process in qemus.items():
        try:
            now = _busy(process)
        except OSError:  # it, or a thread of it, has just ended
            continue
        used = " ".join(f"{thread} {seconds - before[name][thread][0]:.2f}{state}" for thread, (seconds, state) in now.items()
                        if thread in before.get(name, ()))
        print(f"{time.strftime('%H:%M:%S')} {name} {used}", file=log)
        before[name] = now


def _watch(qemus, wake, lifeline, log):
    watched = [wake, lifeline]
    before = {}
    while True:
        readable, _, _ = select.select(watched, [], [], 1)
        if not readable:
            _sample(qemus, before, log)
        if lifeline in readable:
            if os.read(lifeline, 16) != b"ready":
                return "`lab up` died before the lab was ready"
            watched.remove(lifeline)
        if wake in readable:
            numbers = os.read(wake, 64)
            for name, process in qemus.items():
                if process.poll() is not None:
                    return f"{name}: QEMU ended by itself (status {process.returncode})"
            if any(number != signal.SIGCHLD for number in numbers):
                return "asked to end"


def _end(qemus):
    for process in qemus.values():
        if process.poll() is None:
            process.terminate()
    for process in qemus.values():
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
