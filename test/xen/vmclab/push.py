# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler loop: rebuild, and bring only what changed into the running lab."""

import concurrent.futures
import os
import re
import subprocess

from . import boot, remote, stage
from .util import Fail, lock, run, write_json

INTO_DOM0 = r"""
tar -x --keep-directory-symlink -C / || exit 1
systemd-sysusers >/dev/null 2>&1; systemd-tmpfiles --create >/dev/null 2>&1
systemctl daemon-reload
"""
RESTART = r"""
systemctl enable -q vmcd.service
systemctl stop vmcd.service
systemctl start vmcd.socket vmcd.service && systemctl is-active -q vmcd.service || {
	systemctl --no-pager -l status vmcd.service; exit 1; }
"""
INTO_GUEST = "tar -x --keep-directory-symlink -C / && { udevadm control --reload 2>/dev/null; true; }"
RELOAD = "&& { ! grep -q '^vmc ' /proc/modules || modprobe -r vmc; } && modprobe vmc"


def push(options, progress):
    """Returns when the new product runs in Dom0 and the new driver lies in (or, reloaded, runs in) the guests."""
    lab = boot.Lab()
    with lock(lab.path("push.lock"), lambda: progress.say("another push is running, waiting for it")):
        state = lab.need()
        made = boot.make_stage(lab, state["images"], {**options, "vmc": True}, progress,
                               os.path.join(state["logs"], "compile.log"))
        parts = {name: stage.fingerprint(path) for name, path in boot.parts(made).items()}
        changed = [name for name in parts if options["all"] or parts[name] != state["pushed"].get(name)]
        for name in changed:
            # Future guests boot from an initrd in Dom0.
            if name != "dom0":
                stage.boot_files(made, with_kernels=False)
                break
        if changed:
            with progress.step("Dom0"):
                data = _tar(made.dom0)
                restart = RESTART if made.has_vmcd and ("dom0" in changed or options["restart"]) else ""
                for node in lab.dom0s(state):
                    remote.capture(node, INTO_DOM0 + restart, data=data, timeout=90)
        elif options["restart"] and made.has_vmcd:
            for node in lab.dom0s(state):
                remote.capture(node, RESTART, timeout=60)
        _guests(lab, state, made, changed, options, progress)
        state.update(pushed=parts, driver=made.has_driver, vmcd=made.has_vmcd)
        write_json(lab.path("state.json"), state)
    progress.say(f"pushed ({', '.join(changed) or 'nothing had changed'}): {progress.breakdown()}")


def _guests(lab, state, made, changed, options, progress):
    jobs = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for node in lab.dom0s(state):
            _, out, _ = remote.capture(node, "xl list", timeout=20)
            for name in re.findall(r"^(g[1-9])\s", out.decode(), re.MULTILINE):
                kernel = state["kernels"][(int(name[1:]) - 1) % len(state["kernels"])]
                if kernel in changed or options["reload"]:
                    command = INTO_GUEST + (RELOAD if options["reload"] and made.has_driver else "")
                    where = lab.node(f"{node.host}:{name}", state)
                    jobs[name] = pool.submit(remote.capture, where, command, data=_tar(made.guest(kernel)),
                                             timeout=90, connect=15)
        if jobs:
            with progress.step("guests"):
                errors = [f"{name}: {job.exception()}" for name, job in jobs.items() if job.exception()]
                if errors:
                    raise Fail("\n".join(errors))


def _tar(directory):
    return run(["tar", "-C", directory, "--owner=0", "--group=0", "--numeric-owner", "-cf", "-", "."],
               stdout=subprocess.PIPE).stdout
