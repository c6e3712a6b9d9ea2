# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's kernel from Debian's source package and a configuration of our own (kernel/NAME.config)."""

import concurrent.futures
import glob
import os
import re
import shutil
import signal

from . import cache, packages
from .util import Fail, output, run

# Of what build() leaves; to be raised when that changes.
_FORMAT = 1
# What building a module looks at: everything there, and by name in arch/x86.
_BUILD_TREES = ["include", "scripts", "arch/x86/include", "arch/x86/scripts", "tools/include", "tools/arch/x86/include"]
_BUILD_FILES = ["Makefile", "Kbuild", ".config", "Module.symvers", "System.map", "arch/x86/Makefile*", "arch/x86/Kbuild",
                "arch/x86/*/Makefile", "tools/objtool/objtool", "tools/scripts/*", "arch/x86/kernel/*.lds",
                "kernel/bounds.s", "arch/x86/kernel/asm-offsets.s"]


def config(name):
    return os.path.join(cache.HERE, "kernel", f"{name}.config")


def key(name, version):
    """Changes with whatever shapes the kernel."""
    with open(config(name), encoding="utf-8") as file:
        return cache.digest(_FORMAT, version, file.read())


def build(name, version, progress, where, log):
    """The kernel in `where` as its package would have it (boot, lib), and in `build` what it takes to compile modules."""
    # Outside of `where`, so that the next build goes on where a killed one was.
    work = os.path.join(cache.root(), f"source-{key(name, version)}")
    for old in glob.glob(os.path.join(cache.root(), "source-*")):
        if old != work:
            shutil.rmtree(old, ignore_errors=True)
    if not os.path.isdir(work):
        with progress.step(f"kernel {name}: fetching its source"):
            _fetch(name, where, work, log)
    make = ["make", "-C", work, "--no-print-directory", f"-j{os.cpu_count()}", "KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab"]
    run([*make, "allnoconfig"], log=log, env={**os.environ, "KCONFIG_ALLCONFIG": config(name)}, what=f"kernel {name}: config")
    _has_all(name, work)
    with progress.step(f"kernel {name}: compiling (about twenty minutes on two idle cores)"):
        _watched([*make, "vmlinux", "modules"], log, progress, name)
    release = output(["make", "-s", "-C", work, "--no-print-directory", "kernelrelease"]).strip()
    run([*make, "modules_install", "INSTALL_MOD_STRIP=1", f"INSTALL_MOD_PATH={where}"], log=log,
        what=f"kernel {name}: modules")
    modules = os.path.join(where, "lib/modules", release)
    for link in ("build", "source"):
        if os.path.lexists(os.path.join(modules, link)):
            os.unlink(os.path.join(modules, link))
    os.makedirs(os.path.join(where, "boot"))
    run(["strip", "-o", os.path.join(where, "boot", f"vmlinux-{release}"), os.path.join(work, "vmlinux")], log=log)
    _keep(work, os.path.join(where, "build"))
    shutil.rmtree(work)
    return {"kernel": name, "release": release}


def _fetch(name, where, work, log):
    """Debian's source of this kernel, unpacked."""
    package = os.path.join(where, "package")
    packages.unpack(packages.SOURCES[name], package, log)
    (archive,) = glob.glob(os.path.join(package, "usr/src/linux-source-*.tar.xz"))
    tree = work + ".new"
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(tree)
    run(["tar", "-C", tree, "--strip-components=1", "-xf", archive], log=log)
    shutil.rmtree(package)
    os.rename(tree, work)


def _has_all(name, work):
    """What our configuration names and this kernel did not take would be missed only when it is needed."""
    with open(os.path.join(work, ".config"), encoding="utf-8") as file:
        have = set(file.read().splitlines())
    with open(config(name), encoding="utf-8") as file:
        wanted = [line for line in file.read().splitlines() if line.startswith("CONFIG_")]
    missing = [line for line in wanted if not line.endswith("=n") and line not in have]
    missing += [line for line in wanted if line.endswith("=n") and any(one.startswith(line[:-1]) for one in have)]
    if missing:
        raise Fail(f"{config(name)}: this kernel does not have it so: {', '.join(missing)}")


def _watched(argv, log, progress, name):
    """A long make. Killed by a signal that it hands down, should we go: compilers don't outlive us."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        job = pool.submit(run, argv, log=log, timeout=7200, what=f"kernel {name}", death=signal.SIGTERM)
        while not job.done():
            concurrent.futures.wait([job], timeout=60)
            with open(log, encoding="utf-8", errors="replace") as file:
                progress.say(f"  {sum(bool(re.match('  (CC|AS|HOSTCC) ', line)) for line in file)} files compiled")
        job.result()


def _keep(work, target):
    """Of the source tree what a module's build needs."""
    for tree in _BUILD_TREES:
        if os.path.isdir(os.path.join(work, tree)):
            shutil.copytree(os.path.join(work, tree), os.path.join(target, tree), symlinks=True,
                            ignore=shutil.ignore_patterns("*.o", "*.cmd", "*.a"))
    for pattern in _BUILD_FILES:
        for path in glob.glob(os.path.join(work, pattern)):
            if os.path.isfile(path):
                copy = os.path.join(target, os.path.relpath(path, work))
                os.makedirs(os.path.dirname(copy), exist_ok=True)
                shutil.copy(path, copy)
