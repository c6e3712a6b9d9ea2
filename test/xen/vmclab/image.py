# SPDX-License-Identifier: GPL-2.0-or-later
"""Making the images: Xen, Dom0's disk, and for each kernel a guest's disk, kernel and initrd."""

import concurrent.futures
import gzip
import os
import shutil

from . import cache, kernel, packages
from .util import Fail, lock, read_json, run, write_json

EXCLUDE = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"]


def build(kernels, progress):
    """Make what is missing for these guest kernels and return their releases."""
    packages.host_install(progress)
    base_versions = packages.candidates(
        sorted({packages.XEN, *packages.KERNELS.values(), *packages.DOM0, *packages.GUEST}), progress)
    os.makedirs(cache.images(), exist_ok=True)
    waiting = lambda: progress.say("another build is running, waiting for it")  # noqa: E731
    releases = []
    with lock(cache.images("lock"), waiting):
        _sweep()
        kernel_versions = {name: base_versions.pop(package) for name, package in packages.KERNELS.items()}
        base_key = cache.digest(cache.recipe(), kernel_versions[packages.DOM0_KERNEL], sorted(base_versions.items()))
        _make("base", f"base-{base_key}", progress, lambda where, log: _base(where, log, progress))
        for name in kernels:
            key = f"guest-{name}-{cache.digest(base_key, kernel_versions[name])}"
            build_one = lambda where, log: _guest(name, where, log, progress)  # noqa: E731, B023
            manifest = _make(f"guest-{name}", key, progress, build_one)
            releases.append(manifest["release"])
    packages.host_install(progress, releases)
    return releases


def _sweep():
    """Remove what builds left that were killed."""
    for name in os.listdir(cache.images()):
        if name.startswith("tmp-"):
            shutil.rmtree(cache.images(name), ignore_errors=True)


def _make(name, key, progress, builder):
    """Build into a temporary directory, move it into place whole, point `current` at it."""
    target = cache.images(key)
    if not os.path.exists(os.path.join(target, "manifest.json")):
        if os.geteuid():
            raise Fail("making images takes root: Debian's packages are installed in a chroot")
        cache.free_space(cache.images(), 4 << 30, "making images")
        work = cache.images(f"tmp-{key}")
        log = os.path.join(cache.root(), "logs", f"build-{key}.log")
        os.makedirs(work)
        os.makedirs(os.path.dirname(log), exist_ok=True)
        open(log, "wb").close()
        with progress.step(f"{name} image"):
            write_json(os.path.join(work, "manifest.json"), builder(work, log))
            shutil.rmtree(target, ignore_errors=True)
            os.rename(work, target)
    link = cache.images(f"current-{name}-{cache.recipe()}")
    if os.path.realpath(link) != os.path.realpath(target):
        if os.path.lexists(link + ".new"):
            os.unlink(link + ".new")
        os.symlink(key, link + ".new")
        os.replace(link + ".new", link)
    return read_json(os.path.join(target, "manifest.json"))


def _bootstrap(root, include, recipe, log, sources):
    """A Debian 12 in a directory, shaped by a recipe's setup script."""
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--aptopt={option}" for option in packages.apt_options()),
            *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDE),
            "--include=" + ",".join(include), packages.CODENAME, root, sources]
    run(argv, log=log, timeout=1800, what=f"bootstrap of {os.path.basename(root)}")
    shutil.copytree(os.path.join(cache.HERE, "image", recipe), os.path.join(root, "lab-recipe"))
    run(["chroot", root, "sh", "/lab-recipe/setup"], log=log, timeout=300, what=f"setup of {os.path.basename(root)}")
    shutil.rmtree(os.path.join(root, "lab-recipe"))


def _disk(root, target, megabytes, log, *features):
    """An ext4 image of a directory, sparse."""
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", root, *features, target, f"{megabytes}M"], log=log,
        what=f"disk image {os.path.basename(target)}")


def _base(where, log, progress):
    """Xen, Dom0, and the guests' root without a kernel."""
    sources = os.path.join(where, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.write(packages.sources())
    dom0, guest = os.path.join(where, "dom0"), os.path.join(where, "guest")
    logs = {root: f"{log[:-4]}-{os.path.basename(root)}.log" for root in (dom0, guest)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        progress.say("bootstrapping Dom0 and the guests' root side by side (one to two minutes)")
        # Threads only wait here: die_with_parent() is bound to the thread, which lives until the child ends.
        jobs = [pool.submit(_bootstrap, dom0, packages.DOM0, "dom0", logs[dom0], sources),
                pool.submit(_bootstrap, guest, packages.GUEST, "guest", logs[guest], sources)]
        release = _xen_and_dom0_kernel(where, log)
        for job in jobs:
            job.result()
    progress.say("packing")
    package = os.path.join(where, "kernel")
    kernel.trim(package, dom0, release, kernel.DOM0_MODULES)
    kernel.initrd(dom0, release, kernel.DOM0_INITRD, os.path.join(cache.HERE, "image/dom0/init"),
                  os.path.join(dom0, "bin/busybox"), os.path.join(where, "dom0-initrd"))
    _disk(dom0, os.path.join(where, "dom0.img"), 3072, log, "-O", "^has_journal")
    run(["tar", "-C", guest, "--numeric-owner", "-cf", os.path.join(where, "guest.tar"), "."], log=log)
    for name in (dom0, guest, package):
        shutil.rmtree(name)
    os.unlink(sources)
    return {"dom0_kernel": release}


def _xen_and_dom0_kernel(where, log):
    xen = os.path.join(where, "xen")
    packages.unpack(packages.XEN, xen, log)
    # QEMU's multiboot loader takes the 32-bit ELF, not the compressed one.
    with gzip.open(os.path.join(xen, "boot", packages.XEN.removeprefix("xen-hypervisor-").join(("xen-", ".gz")))) as src:
        with open(os.path.join(where, "xen.elf"), "wb") as dst:
            shutil.copyfileobj(src, dst)
    shutil.rmtree(xen)
    package = os.path.join(where, "kernel")
    name = packages.depends(packages.KERNELS[packages.DOM0_KERNEL], "linux-image-")
    packages.unpack(name, package, log)
    release, vmlinuz = kernel.release_of(package)
    kernel.elf(vmlinuz, os.path.join(where, "dom0-vmlinux"))
    return release


def _guest(name, where, log, progress):
    """What one guest kernel needs: its disk, the ELF kernel, the initrd, and the module tree to index drivers in."""
    base, _ = cache.need("base")
    package, root = os.path.join(where, "kernel"), os.path.join(where, "root")
    progress.say(f"kernel {name} for the guests")
    packages.unpack(packages.depends(packages.KERNELS[name], "linux-image-"), package, log)
    release, vmlinuz = kernel.release_of(package)
    kernel.elf(vmlinuz, os.path.join(where, "vmlinux"))
    os.makedirs(root)
    run(["tar", "-C", root, "--numeric-owner", "-xpf", os.path.join(base, "guest.tar")], log=log)
    kernel.trim(package, root, release, kernel.GUEST_MODULES)
    kernel.initrd(root, release, kernel.GUEST_INITRD, os.path.join(cache.HERE, "image/guest/init"),
                  os.path.join(root, "bin/busybox"), os.path.join(where, "initrd"))
    shutil.copytree(os.path.join(root, "usr/lib/modules"), os.path.join(where, "tree/usr/lib/modules"))
    _disk(root, os.path.join(where, "guest.img"), 512, log, "-O", "^has_journal", "-i", "8192")
    shutil.rmtree(package)
    shutil.rmtree(root)
    return {"kernel": name, "release": release}
