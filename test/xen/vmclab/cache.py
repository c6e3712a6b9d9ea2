# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are kept: images by content, builds by tree, logs by time."""

import contextlib
import hashlib
import os
import shutil
import time

from .util import Fail, read_json

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
TREE = os.path.dirname(os.path.dirname(HERE))
_RECIPE = ["image", "vmclab/packages.py", "vmclab/image.py", "vmclab/kernel.py"]


def root():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.abspath(os.environ.get("VMC_LAB_CACHE") or os.path.join(base, "vmc-lab"))
    os.makedirs(path, exist_ok=True)
    return path


def digest(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def recipe():
    """A hash of everything in the tree that shapes an image."""
    state = hashlib.sha256()
    for part in _RECIPE:
        path = os.path.join(HERE, part)
        files = [path]
        if os.path.isdir(path):
            files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        for name in files:
            state.update(os.path.relpath(name, HERE).encode() + b"\0")
            with open(name, "rb") as file:
                state.update(file.read() + b"\0")
    return state.hexdigest()[:16]


def images(*parts):
    return os.path.join(root(), "images", *parts)


def current(name):
    """The image last built from this tree's recipe, as (directory, manifest), or None."""
    link = images(f"current-{name}-{recipe()}")
    try:
        where = os.path.realpath(link)
        return where, read_json(os.path.join(where, "manifest.json"))
    except (OSError, ValueError):
        return None


def guest(kernel, programs):
    """The name of a guest's image."""
    return f"guest-{kernel}" + ("-programs" if programs else "")


def need(name):
    found = current(name)
    if not found:
        option = "" if name == "base" else " --kernel " + name.removeprefix("guest-").replace("-programs", " --programs")
        raise Fail(f"no {name} image built from this recipe yet: run `lab build{option}`")
    with contextlib.suppress(OSError):
        os.utime(os.path.join(found[0], "manifest.json"))
    return found


def build_dir():
    return os.environ.get("VMC_BUILD_DIR") or os.path.join(root(), "build-" + digest(TREE))


def new_log_dir():
    """A directory for one run's logs. Those of old runs are forgotten, but none younger than a day."""
    runs = os.path.join(root(), "logs", "runs")
    os.makedirs(runs, exist_ok=True)
    for old in sorted(os.listdir(runs))[:-20]:
        path = os.path.join(runs, old)
        if time.time() - os.stat(path).st_mtime > 86400:
            shutil.rmtree(path, ignore_errors=True)
    path = os.path.join(runs, time.strftime("%Y%m%d-%H%M%S") + f"-{os.getpid()}")
    os.makedirs(path)
    return path


def run_dir():
    """Sockets, keys and state of the running lab: short, because a socket's path may have 107 bytes only."""
    path = os.environ.get("VMC_LAB_RUN") or f"/tmp/vmc-lab-{os.getuid()}-{digest(root())[:8]}"
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.stat(path)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Fail(f"{path} is not ours alone: remove it or name another in VMC_LAB_RUN")
    return path


def free_space(path, need_bytes, what):
    free = shutil.disk_usage(path).free
    if free < need_bytes:
        raise Fail(f"{what} needs {need_bytes >> 20} MiB on the disk of {path}, which has {free >> 20} MiB left")
