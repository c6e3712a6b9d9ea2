# SPDX-License-Identifier: GPL-2.0-or-later
"""Making the images: Xen, Dom0's disk, and for each kernel a guest's disk, kernel and initrd."""

import concurrent.futures
import contextlib
import functools
import gzip
import os
import shutil
import time

from . import cache, kbuild, kernel, packages
from .util import Fail, lock, read_json, run, write_json

_BOOTSTRAP = ["mmdebstrap", "--mode=root", "--variant=apt", '--aptopt=APT::Install-Recommends "false"']
_INCLUDE = {"dom0": packages.DOM0, "guest": packages.GUEST, "programs": packages.GUEST + packages.PROGRAMS}
_GUEST_MB = {"guest": 512, "programs": 1536}
EXCLUDE = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"]


def build(kernels, programs, progress):
    """Make what is missing for these guest kernels and return their releases."""
    sources = [name for name in kernels if name in packages.SOURCES]
    packages.host_install(progress, source=bool(sources))
    guest = "programs" if programs else "guest"
    versions = packages.candidates(
        sorted({packages.XEN, *packages.KERNELS.values(), *_INCLUDE["dom0"], *_INCLUDE[guest],
                *(packages.SOURCES[name] for name in sources)}), progress)
    os.makedirs(cache.images(), exist_ok=True)
    releases = {}
    with lock(cache.images("lock"), lambda: progress.say("another build is running, waiting for it")):
        _sweep()
        roots = _bootstraps(("dom0", guest), versions, progress)
        recipe = cache.recipe()
        key = cache.digest(recipe, roots["dom0"], versions[packages.XEN],
                           versions[packages.KERNELS[packages.DOM0_KERNEL]])
        _make("base", f"base-{key}", progress, lambda where, log: _base(roots["dom0"], where, log))
        for name in kernels:
            own = _compiled(name, versions, progress) if name in sources else None
            key = cache.digest(recipe, roots[guest], os.path.basename(own) if own else versions[packages.KERNELS[name]])
            manifest = _make(cache.guest(name, programs), f"guest-{name}-{key}", progress,
                             functools.partial(_guest, name, roots[guest], _GUEST_MB[guest], own))
            releases[name] = manifest["release"]
    packages.host_install(progress, [releases[name] for name in kernels if name not in sources])
    return list(releases.values())


def _compiled(name, versions, progress):
    """The directory of a kernel that is compiled here; it does not depend on the recipe of the images."""
    version = versions[packages.SOURCES[name]]
    key = f"kernel-{name}-{kbuild.key(name, version)}"
    _make(None, key, progress, functools.partial(kbuild.build, name, version, progress))
    os.utime(cache.images(key, "manifest.json"))
    return cache.images(key)


def _bootstraps(kinds, versions, progress):
    """{kind: directory with its root.tar}: Debian as it comes, known by its packages alone, both made side by side."""
    keys = {kind: f"root-{kind}-" + cache.digest(_BOOTSTRAP, *EXCLUDE, *sorted((name, versions[name]) for name in _INCLUDE[kind]))
            for kind in kinds}
    missing = [kind for kind, key in keys.items() if not os.path.exists(cache.images(key, "manifest.json"))]
    if missing:
        with progress.step(f"bootstrap of {' and '.join(missing)} from Debian packages (one to two minutes)"):
            with concurrent.futures.ThreadPoolExecutor() as pool:
                jobs = [pool.submit(_make, None, keys[kind], progress, functools.partial(_bootstrap, _INCLUDE[kind]))
                        for kind in missing]
            for job in jobs:
                job.result()
    for key in keys.values():
        os.utime(cache.images(key, "manifest.json"))
    return {kind: cache.images(key) for kind, key in keys.items()}


def _sweep():
    """Remove what killed builds left, and images of recipes that nobody has used for a week."""
    old = time.time() - 7 * 86400
    for name in os.listdir(cache.images()):
        path = cache.images(name)
        manifest = os.path.join(path, "manifest.json")
        if name.startswith("tmp-") or (os.path.exists(manifest) and os.stat(manifest).st_mtime < old):
            shutil.rmtree(path, ignore_errors=True)
    for name in os.listdir(cache.images()):
        if os.path.islink(cache.images(name)) and not os.path.exists(cache.images(name)):
            os.unlink(cache.images(name))


def _make(name, key, progress, builder):
    """Build into a temporary directory, move it into place whole, point `current` at it if it has a name."""
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
        with progress.step(f"{name} image") if name else contextlib.nullcontext():
            write_json(os.path.join(work, "manifest.json"), builder(work, log))
            shutil.rmtree(target, ignore_errors=True)
            os.rename(work, target)
    if name:
        link = cache.images(f"current-{name}-{cache.recipe()}")
        if os.path.realpath(link) != os.path.realpath(target):
            if os.path.lexists(link + ".new"):
                os.unlink(link + ".new")
            os.symlink(key, link + ".new")
            os.replace(link + ".new", link)
    return read_json(os.path.join(target, "manifest.json"))


def _bootstrap(include, where, log):
    """Debian 12 with these packages, as a tar."""
    sources = os.path.join(where, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.write(packages.sources())
    argv = [*_BOOTSTRAP, *(f"--aptopt={option}" for option in packages.apt_options()),
            *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDE),
            "--include=" + ",".join(include), packages.CODENAME, os.path.join(where, "root.tar"), sources]
    run(argv, log=log, timeout=1800, what="bootstrap of " + os.path.basename(where).removeprefix("tmp-"))
    os.unlink(sources)
    return {"packages": include}


def _unpack(source, recipe, root, log):
    """A bootstrap, unpacked and shaped by a recipe's setup script."""
    os.makedirs(root)
    run(["tar", "-C", root, "--numeric-owner", "-xpf", os.path.join(source, "root.tar")], log=log)
    shutil.copytree(os.path.join(cache.HERE, "image", recipe), os.path.join(root, "lab-recipe"))
    run(["chroot", root, "sh", "/lab-recipe/setup"], log=log, timeout=300, what=f"setup of {recipe}")
    shutil.rmtree(os.path.join(root, "lab-recipe"))


def _disk(root, target, megabytes, log, *features):
    """An ext4 image of a directory, sparse."""
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", root, "-O", "^has_journal", *features, target,
         f"{megabytes}M"], log=log, what=f"disk image {os.path.basename(target)}")


def _base(source, where, log):
    """Xen, and Dom0's kernel, initrd and disk."""
    xen, package, root = (os.path.join(where, name) for name in ("xen", "kernel", "root"))
    packages.unpack(packages.XEN, xen, log)
    # QEMU's multiboot loader takes the 32-bit ELF, not the compressed one.
    packed = os.path.join(xen, "boot", packages.XEN.replace("-hypervisor", "") + ".gz")
    with gzip.open(packed) as src, open(os.path.join(where, "xen.elf"), "wb") as dst:
        shutil.copyfileobj(src, dst)
    release = _kernel(packages.DOM0_KERNEL, package, os.path.join(where, "dom0-vmlinux"), log)
    _unpack(source, "dom0", root, log)
    kernel.trim(package, root, release, kernel.DOM0_MODULES)
    kernel.initrd(root, release, kernel.DOM0_INITRD, os.path.join(cache.HERE, "image/dom0/init"),
                  os.path.join(root, "bin/busybox"), os.path.join(where, "dom0-initrd"))
    _disk(root, os.path.join(where, "dom0.img"), 3072, log)
    for name in (xen, package, root):
        shutil.rmtree(name)
    return {"dom0_kernel": release}


def _guest(name, source, megabytes, own, where, log):
    """What one guest kernel needs: its disk, the ELF kernel, the initrd, and the module tree to index drivers in."""
    package, root = os.path.join(where, "kernel"), os.path.join(where, "root")
    release = _kernel(name, package, os.path.join(where, "vmlinux"), log, own)
    _unpack(source, "guest", root, log)
    kernel.trim(package, root, release, kernel.GUEST_MODULES)
    kernel.initrd(root, release, kernel.GUEST_INITRD, os.path.join(cache.HERE, "image/guest/init"),
                  os.path.join(root, "bin/busybox"), os.path.join(where, "initrd"))
    shutil.copytree(os.path.join(root, "usr/lib/modules"), os.path.join(where, "tree/usr/lib/modules"))
    _disk(root, os.path.join(where, "guest.img"), megabytes, log, "-i", "8192")
    if own:
        shutil.copytree(os.path.join(own, "build"), os.path.join(where, "build"), symlinks=True, copy_function=os.link)
    shutil.rmtree(package)
    shutil.rmtree(root)
    return {"kernel": name, "release": release}


def _kernel(name, package, target, log, own=None):
    """Fetch a kernel package, or take a kernel of our own, put its ELF image at target and return its release."""
    if own:
        for part in ("boot", "lib"):
            shutil.copytree(os.path.join(own, part), os.path.join(package, part))
    else:
        packages.unpack(packages.depends(packages.KERNELS[name], "linux-image-"), package, log)
    release, vmlinuz = kernel.release_of(package)
    kernel.elf(vmlinuz, target)
    return release
