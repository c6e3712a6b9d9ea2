# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiling the product and laying out what Dom0 and the guests get of it."""

import os
import shutil
import subprocess

from . import cache, kernel
from .util import Fail, lock, output, read_json, run

MERGED = ("bin", "sbin", "lib", "lib64")
GUESTS = 8


class Stage:
    """Two directories: `dom0` is unpacked over Dom0's root, `guest-KERNEL` over the guests' root by their initrd."""

    def __init__(self, where, images):
        """images: {kernel: directory of its image}"""
        self.where = where
        self.kernels = {name: (path, read_json(os.path.join(path, "manifest.json"))) for name, path in images.items()}
        self.dom0 = os.path.join(where, "dom0")
        self.has_vmcd = self.has_driver = False

    def guest(self, name):
        return os.path.join(self.where, f"guest-{name}")

    def release(self, name):
        return self.kernels[name][1]["release"]


def compile_product(stage, progress, log):
    """vmcd, vmcctl, libvmc by CMake, installed into the stage."""
    if not os.path.exists(os.path.join(cache.TREE, "CMakeLists.txt")):
        progress.say("notice: no CMakeLists.txt at the top of the tree, so nothing to install in Dom0")
        return
    build = cache.build_dir()
    os.makedirs(build, exist_ok=True)
    with lock(os.path.join(build, ".lab-lock"), lambda: progress.say(f"waiting for another build in {build}")):
        if not os.path.exists(os.path.join(build, "CMakeCache.txt")):
            run(["cmake", "-S", cache.TREE, "-B", build, "-DCMAKE_INSTALL_PREFIX=/usr", "-DVMC_TESTS=OFF",
                 "-DCMAKE_INSTALL_LIBDIR=lib/x86_64-linux-gnu", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"], log=log)
        run(["cmake", "--build", build, "-j", str(os.cpu_count()), "--target", "all"], log=log, what="compiling")
        run(["cmake", "--install", build], log=log, env={**os.environ, "DESTDIR": stage.dom0})
    stage.has_vmcd = bool(_find(stage.dom0, "vmcd.service"))


def compile_driver(stage, name, progress, log):
    """vmc.ko for one of the guests' kernels, indexed together with that kernel's modules."""
    script = os.path.join(cache.TREE, "guest-driver", "build")
    if not os.path.exists(script):
        progress.say("notice: no guest-driver/build in the tree, so no vmc.ko for the guests")
        return
    release = stage.release(name)
    # the directory of a kernel that was compiled here, or the headers that are installed
    own = os.path.join(stage.kernels[name][0], "build")
    out = os.path.join(cache.build_dir(), f"driver-{release}")
    os.makedirs(out, exist_ok=True)
    with lock(os.path.join(out, ".lab-lock"), lambda: progress.say(f"waiting for another build in {out}")):
        run([script, own if os.path.isdir(own) else release, out], log=log, what=f"guest-driver/build {release}")
        source = os.path.join(out, "vmc.ko")
        if not os.path.exists(source):
            raise Fail(f"guest-driver/build {release} made no {source}")
        target = os.path.join(stage.guest(name), "usr/lib/modules", release)
        os.makedirs(os.path.join(target, "extra"), exist_ok=True)
        shutil.copy(source, os.path.join(target, "extra/vmc.ko"))
    work = os.path.join(stage.where, f"index-{name}")
    shutil.copytree(os.path.join(stage.kernels[name][0], "tree"), work, copy_function=os.link)
    tree = os.path.join(work, "usr/lib/modules", release)
    for entry in os.listdir(tree):
        # depmod must not write through a link into the cache.
        if entry.startswith("modules.") and not entry.startswith(("modules.builtin", "modules.order")):
            os.unlink(os.path.join(tree, entry))
    for entry in ("modules.builtin.bin", "modules.builtin.alias.bin"):
        if os.path.exists(os.path.join(tree, entry)):
            os.unlink(os.path.join(tree, entry))
    os.makedirs(os.path.join(tree, "extra"))
    shutil.copy(source, os.path.join(tree, "extra/vmc.ko"))
    kernel.depmod(work, release)
    for entry in os.listdir(tree):
        if entry.startswith("modules."):
            shutil.copy(os.path.join(tree, entry), target)
    shutil.rmtree(work)
    stage.has_driver = True


def overlay(stage, directory):
    """Files for the guests' root besides the driver (modprobe.d, udev rules), the same for each kernel."""
    for source in (os.path.join(cache.build_dir(), "stage-guest"), directory):
        if source and os.path.isdir(source):
            for name in stage.kernels:
                for entry in os.listdir(source):
                    target = ("usr/" if entry in MERGED else "") + entry
                    _copy(os.path.join(source, entry), os.path.join(stage.guest(name), target))


def _copy(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def _find(where, name):
    return next((os.path.join(folder, name) for folder, _, files in os.walk(where) if name in files), None)


def keys(stage, run_dir):
    """One key pair opens this lab, and only this lab."""
    key = os.path.join(run_dir, "key")
    if not os.path.exists(key):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key])
    host_key = os.path.join(run_dir, "host_key")
    if not os.path.exists(host_key):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", host_key])
    for root in (stage.dom0, *map(stage.guest, stage.kernels)):
        _put(root, "etc/ssh/ssh_host_ed25519_key", host_key, 0o600)
        _put(root, "root/.ssh/authorized_keys", key + ".pub", 0o600)
        os.chmod(os.path.join(root, "root"), 0o700)
        os.chmod(os.path.join(root, "root/.ssh"), 0o700)
    _put(stage.dom0, "root/.ssh/id_ed25519", key, 0o600)


def _put(root, name, source, mode):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(source, path)
    os.chmod(path, mode)


# This QEMU does not intercept a PVH guest's XSETBV, so Xen would not know what it has in XCR0.
MASKS = {"pv": "", "pvh": 'cpuid = "host,xsave=0"\n'}


def guest_configs(stage, options):
    """/etc/xen/lab/gN.cfg for every guest there may be. `extra` is left for tests; what the lab needs is in `root`."""
    where = os.path.join(stage.dom0, "etc/xen/lab")
    os.makedirs(where, exist_ok=True)
    names = list(stage.kernels)
    for number in range(1, GUESTS + 1):
        name = names[(number - 1) % len(names)]
        arguments = (f"/dev/xvda ro console=hvc0 lab.guest={number} mitigations=off net.ifnames=0 "
                     f"loglevel=6 panic=1 tsc=reliable")
        with open(os.path.join(where, f"g{number}.cfg"), "w", encoding="utf-8") as file:
            file.write(f'''name = "g{number}"
type = "{options['type']}"
kernel = "/boot/lab/vmlinux-{name}"
ramdisk = "/boot/lab/initrd-{name}"
root = "{arguments}"
extra = "{options['append']}"
memory = {options['memory']}
maxmem = {options['memory']}
vcpus = {options['vcpus']}
tsc_mode = "native"
{MASKS[options['type']]}vif = [ 'mac=00:16:3e:77:00:{number:02x},bridge=xenbr0' ]
disk = [ 'vdev=xvda,access=r,script=block-lab,target=/dev/disk/by-id/virtio-guest-{name}' ]
''')


def boot_files(stage, with_kernels=True):
    """Guests' kernels and initrds, where xl in Dom0 finds them."""
    where = os.path.join(stage.dom0, "boot/lab")
    os.makedirs(where, exist_ok=True)
    for name, (directory, _) in stage.kernels.items():
        if with_kernels:
            shutil.copy(os.path.join(directory, "vmlinux"), os.path.join(where, f"vmlinux-{name}"))
        extra = os.path.join(stage.where, f"extra-{name}")
        os.makedirs(extra)
        os.rename(stage.guest(name), os.path.join(extra, "extra"))
        kernel.cpio(extra, extra + ".cpio")
        os.rename(os.path.join(extra, "extra"), stage.guest(name))
        with open(os.path.join(where, f"initrd-{name}"), "wb") as target:
            for part in (os.path.join(directory, "initrd"), extra + ".cpio"):
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, target)


def tar(directory, target):
    """A raw tar, every file owned by root."""
    run(["tar", "-C", directory, "--owner=0", "--group=0", "--numeric-owner", "-cf", target, "."])


def fingerprint(directory, skip=()):
    """A hash of the files below a directory: has anything changed since the last push?"""
    listing = output(["sh", "-c", "find . -type f -print0 | sort -z | xargs -0r sha256sum; find . -type l -printf '%p %l\\n'"],
                     cwd=directory, stderr=subprocess.DEVNULL)
    kept = [line for line in listing.splitlines() if not any(part in line for part in skip)]
    return cache.digest(*kept)
