# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's life: up, down, push, status."""

import concurrent.futures
import contextlib
import fcntl
import os
import shutil
import signal
import time

from . import cache, logs, packages, qemu, remote, stage, supervise
from .util import Fail, read_json, run, tail, wait_for, write_json

# Bounds, not expectations: a machine that also compiles is several times slower. What crashes is seen at once.
DOM0_SECONDS = 300
GUEST_SECONDS = 300


class Lab:
    """What is known about the lab of this cache, running or not."""

    def __init__(self):
        self.run = cache.run_dir()

    def path(self, name):
        return os.path.join(self.run, name)

    def state(self):
        try:
            return read_json(self.path("state.json"))
        except (OSError, ValueError):
            return None

    def holder(self):
        """Who holds the lock, as text; None if nobody does. The lock lives as long as any QEMU of the lab."""
        with open(self.path("lock"), "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                return file.read().strip() or "somebody"
        return None

    def acquire(self, seconds=0):
        """Take the lock that says that a lab is up, waiting that long for another lab's end."""
        file = open(self.path("lock"), "a+", encoding="utf-8")
        # Never less than a moment: a look at the lock by another command holds it that long.
        deadline = time.monotonic() + max(seconds, 1)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
            file.seek(0)
            raise Fail(f"a lab is up already: {file.read().strip()}. `lab down` in that tree ends it; a second one beside it takes "
                       f"another VMC_LAB_RUN (and {qemu.MEMORY_MB} MB more)") from None
        file.truncate(0)
        file.write(f"started {time.strftime('%H:%M:%S')} from {cache.TREE} by process {os.getpid()}")
        file.flush()
        return file

    def need(self):
        """The state of a lab that is up; fails with the reason if there is none."""
        state = self.state()
        if state and self.holder():
            return state
        ended = ""
        with contextlib.suppress(OSError, ValueError):
            told = read_json(self.path("ended.json"))
            ended = f" (the last one ended: {told['reason']}; logs in {told['logs']})"
        raise Fail(f"no lab is up{ended}: run `lab up`")

    def node(self, where, state=None):
        state = state or self.need()
        return remote.Node(self.run, state["ports"], where)

    def dom0s(self, state):
        return [self.node(f"{host}:dom0", state) for host in state["ports"]]


def interruptible():
    """Let SIGTERM and SIGHUP undo things the way Ctrl-C does."""
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def make_stage(lab, images, options, progress, log):
    """Compile (unless told not to) and lay out what Dom0 and the guests get."""
    work = lab.path("stage")
    shutil.rmtree(work, ignore_errors=True)
    made = stage.Stage(work, images)
    for directory in (made.dom0, *map(made.guest, images)):
        os.makedirs(directory)
    if options["vmc"]:
        with progress.step("compiling"):
            stage.compile_product(made, progress, log)
            for name in images:
                stage.compile_driver(made, name, progress, log)
            stage.overlay(made, options["overlay"])
    stage.keys(made, lab.run)
    return made


def up(options, progress):
    """Stage, boot, wait until everything is ready. On any failure: collect logs, end everything, say what it was."""
    lab = Lab()
    images = {name: cache.need(cache.guest(name, options["programs"])) for name in options["kernels"]}
    packages.host_install(progress, [manifest["release"] for name, (_, manifest) in images.items() if name in packages.KERNELS])
    interruptible()
    with lab.acquire(options["wait"]) as lock_file:
        _clean(lab)
        log_dir = cache.new_log_dir()
        process = lifeline = None
        state = {"logs": log_dir, "tree": cache.TREE, "started": time.time(), "ports": {},
                 "images": {name: path for name, (path, _) in images.items()}, **options}
        try:
            spec = _prepare(lab, options, state, progress)
            write_json(lab.path("spec.json"), spec)
            process, lifeline = supervise.start(lab.run, lock_file.fileno())
            _boot(lab, state, process, progress)
            state["ready"] = True
            write_json(lab.path("state.json"), state)
            os.write(lifeline, b"ready")
        except BaseException as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            progress.say(f"up failed ({type(error).__name__}); collecting what there is in {log_dir}")
            if state["ports"]:
                logs.collect(lab.dom0s(state), log_dir, progress,
                             seconds=25 if isinstance(error, Fail) else 10, connect=4)
            if process:
                process.terminate()
                process.wait()
            _clean(lab)
            if isinstance(error, Fail) and os.path.isdir(log_dir):
                serials = [os.path.join(log_dir, name) for name in sorted(os.listdir(log_dir)) if "serial" in name]
                told = "".join("\n" + tail(path, 15) for path in serials) if process else ""
                raise Fail(f"{error}{told}\n  all logs: {log_dir}") from error
            raise
        finally:
            if lifeline is not None:
                os.close(lifeline)
    progress.say(f"up: {progress.breakdown()}; logs in {log_dir}")


def _prepare(lab, options, state, progress):
    """Everything QEMU is started with."""
    needed = qemu.MEMORY_MB * options["hosts"]
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) >> 10 for line in file if line.startswith("MemAvailable"))
    if available < needed:
        raise Fail(f"the lab needs {needed} MB of memory, this machine has {available} MB to spare")
    base, _ = cache.need("base")
    cache.free_space(state["logs"], 2 << 30, "the lab")
    made = make_stage(lab, state["images"], options, progress, os.path.join(state["logs"], "compile.log"))
    state["driver"], state["vmcd"] = made.has_driver, made.has_vmcd
    with progress.step("staging"):
        state["pushed"] = {name: stage.fingerprint(path) for name, path in parts(made).items()}
        stage.guest_configs(made, options)
        stage.boot_files(made)
        stage_tar = os.path.join(state["logs"], "stage.tar")
        stage.tar(made.dom0, stage_tar)
        hosts, scratch = {}, [stage_tar]
        for number in range(1, options["hosts"] + 1):
            disk = os.path.join(state["logs"], f"dom0-h{number}.qcow2")
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.join(base, "dom0.img"), disk])
            scratch.append(disk)
            disks = [("dom0", disk, "qcow2", "cache=unsafe"), ("stage", stage_tar, "raw", "readonly=on")]
            disks += [(f"guest-{name}", os.path.join(made.kernels[name][0], "guest.img"), "raw", "readonly=on")
                      for name in options["kernels"]]
            hosts[f"h{number}"] = {"cwd": base, "argv": qemu.command(
                number, options["hosts"], options["type"], lab.run, state["logs"], disks, options["gdb"])}
    shutil.rmtree(lab.path("stage"))
    return {"hosts": hosts, "logs": state["logs"], "scratch": scratch,
            "heartbeat": qemu.HEARTBEAT if options["type"] in qemu.HEARTBEAT_TYPES else None}


def parts(made):
    """What a push compares: each directory of the stage by itself."""
    return {"dom0": made.dom0, **{name: made.guest(name) for name in made.kernels}}


def _boot(lab, state, process, progress):
    hosts = [f"h{number}" for number in range(1, state["hosts"] + 1)]

    def alive():
        if process.poll() is not None:
            reason = "the supervisor ended"
            with contextlib.suppress(OSError, ValueError):
                reason = read_json(lab.path("ended.json"))["reason"]
            said = "".join("\n" + tail(os.path.join(state["logs"], f"qemu-{host}.log")) for host in hosts)
            raise Fail(reason + said)

    def port(host):
        alive()
        with contextlib.suppress(OSError):
            return qemu.forwarded(lab.path(f"qmp-{host}"), "TCP")

    with progress.step("Dom0"):
        for host in hosts:
            state["ports"][host] = wait_for(lambda host=host: port(host), 60, f"{host}: QEMU")
        write_json(lab.path("state.json"), state)
        for node in lab.dom0s(state):
            _dom0_ready(node, state, alive)
    if state["vmcd"]:
        with progress.step("vmcd"):
            for node in lab.dom0s(state):
                _start_vmcd(node)
    elif state["vmc"]:
        progress.say("notice: no vmcd.service was installed, so no daemon runs in Dom0")
    guests = [f"g{number}" for number in range(1, state["guests"] + 1)]
    with progress.step("guests"):
        want_vmc = int(state["vmc"] and state["driver"] and state["vmcd"])
        with open(os.path.join(cache.HERE, "dom0-guests"), encoding="utf-8") as file:
            script = file.read()
        seconds = GUEST_SECONDS + 15 * len(guests)
        status, out, err = remote.capture(
            lab.node("h1:dom0", state), f"sh -s {seconds} {want_vmc} {' '.join(guests)}", data=script.encode(),
            timeout=seconds + 60, check=False)
        told = (out + err).decode(errors="replace").strip()
        if status:
            raise Fail(f"guests: {told}")
        for line in told.splitlines():
            progress.say("  " + line)
    with progress.step("connections"), concurrent.futures.ThreadPoolExecutor(8) as pool:
        def connect(guest):
            try:
                # on a busy machine the first handshake of several at once takes its time
                wait_for(lambda: alive() or lab.node(guest, state).connect(30), 90, f"{guest}: ssh")
            except Fail as error:
                raise Fail(f"{error}\n{tail(lab.path('ssh.log'))}") from None
        list(pool.map(connect, guests))


def _dom0_ready(node, state, alive):
    serial = os.path.join(state["logs"], f"serial-{node.host}.log")

    def reachable():
        alive()
        with contextlib.suppress(OSError), open(serial, "rb") as file:
            if b"Kernel panic" in file.read():
                raise Fail(f"{node.host}: Dom0's kernel panicked")
        return node.connect(8)
    wait_for(reachable, DOM0_SECONDS, f"{node.host}: Dom0's sshd", 0.3)


def _start_vmcd(node):
    remote.capture(node, "systemd-sysusers; systemctl enable -q vmcd.service; systemctl start vmcd.socket vmcd.service && systemctl is-active vmcd"
                   " || { systemctl --no-pager -l status vmcd; journalctl -b --no-pager -u vmcd | tail -20; exit 1; }",
                   timeout=90)


def down(progress, collect=True, force=False):
    """Collect logs, end everything, clean up. Also mends what a killed command left."""
    lab = Lab()
    state = lab.state()
    holder = lab.holder()
    if not holder:
        _clean(lab)
        progress.say("no lab was up")
        return
    if not force and f" from {cache.TREE} by " not in holder:
        raise Fail(f"not ended: the lab that is up is not this tree's, but {holder} (`--force` ends it all the same)")
    if state and collect:
        with progress.step("logs"):
            logs.collect(lab.dom0s(state), state["logs"], progress)
    _stop(lab)
    _clean(lab)
    progress.say(f"down; logs in {state['logs']}" if state else "down")


def _stop(lab):
    """Ask the supervisor and an `up` on its way to end, and failing that kill whoever holds the lock."""
    pids = {}
    with contextlib.suppress(OSError, ValueError):
        pids = read_json(lab.path("pids.json"))
    up_pid = lab.holder().rpartition(" ")[2]
    if up_pid.isdigit():
        pids["up"] = int(up_pid)
    for asked, number, seconds in ((("up", "supervisor"), signal.SIGTERM, 60), (pids, signal.SIGKILL, 10)):
        for name, pid in pids.items():
            if name in asked and _holds(pid, lab.path("lock")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        with contextlib.suppress(Fail):
            wait_for(lambda: not lab.holder(), seconds, "the lab's end")
            return
    raise Fail(f"the lab does not end: {lab.holder()}")


def _holds(pid, path):
    """True if that process has the file open: guards against a process number given to somebody else since."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.path.samefile(f"/proc/{pid}/fd/{number}", path):
                    return True
    return False


def _clean(lab):
    """Remove what belongs to a lab that is gone; call only when nobody else holds the lock."""
    state = lab.state()
    with contextlib.suppress(OSError, ValueError):
        for path in read_json(lab.path("spec.json"))["scratch"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    for name in os.listdir(lab.run):
        path = lab.path(name)
        if name.startswith("ssh-") and not name.endswith(".lock") and state:
            with contextlib.suppress(Exception):
                remote.Node(lab.run, state["ports"], name.removeprefix("ssh-").replace("-", ":")).disconnect()
        if name == "lock" or (name == "ended.json" and state):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def status():
    """What a script wants to know about the lab."""
    lab = Lab()
    state = lab.state()
    if not lab.holder():
        return {"running": False}
    if not state:
        return {"running": True, "ready": False, "holder": lab.holder()}
    answer = {"running": True, "ready": state.get("ready", False), "tree": state["tree"], "logs": state["logs"], "started": state["started"],
              "kernels": state["kernels"], "type": state["type"], "run": lab.run, "hosts": {}}
    query = ("systemctl is-active vmcd; xl list | tail -n +2 | while read -r name id mem cpus st rest; do"
             " echo \"$name $id $mem $cpus $st"
             " $(xenstore-read /local/domain/$id/device/vmc/0/state 2>/dev/null || echo -)\"; done")
    for node in lab.dom0s(state):
        try:
            _, out, _ = remote.capture(node, query, timeout=20, connect=10)
        except Fail as error:
            answer["hosts"][node.host] = {"error": str(error)}
            answer["ready"] = False
            continue
        vmcd, *rows = out.decode().splitlines()
        domains = [dict(zip(("name", "domid", "memory", "vcpus", "state", "vmc"), row.split())) for row in rows]
        answer["hosts"][node.host] = {"vmcd": vmcd, "domains": domains}
    return answer
