# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: unpacking one for direct boot, choosing its modules, making an initrd."""

import fnmatch
import glob
import lzma
import os
import shutil
import struct
import subprocess

from .util import Fail, run

# Module names (shell patterns). What they depend on comes along.
DOM0_MODULES = """virtio_* ext4 xen-* xenfs autofs4 bridge 8021q loop tun veth dummy br_netfilter llc stp nf_tables nft_*
    nf_conntrack nf_nat ip_tables iptable_* x_tables xt_* inet_diag tcp_diag udp_diag unix_diag netlink_diag
    sch_* cls_* act_* fuse configfs vhost* binfmt_misc msr cpuid crc32*""".split()
GUEST_MODULES = """xen-* xenfs ext4 squashfs overlay loop nbd fuse tls kcm nf_tables nft_* nf_* nfnetlink* ip_tables ip6_tables
    iptable_* ip6table_* x_tables xt_* ipt_* ip6t_* ip_set* wireguard sch_* cls_* act_* bridge br_netfilter veth dummy
    macvlan ipvlan vxlan tun bonding 8021q geneve tcp_* mptcp_diag smc smc_diag inet_diag udp_diag unix_diag raw_diag
    af_packet_diag netlink_diag vsock* vmw_vsock* sctp pktgen binfmt_misc configfs msr cpuid esp4 esp6 ah4 ah6 xfrm_*
    ip_tunnel ipip ip6_tunnel sit gre ip_gre zram crc32* aesni-intel ghash* *chacha20* *poly1305* gcm ccm ctr cbc
    cmac sha*_generic sha*-ssse3 algif_* af_alg authenc echainiv seqiv""".split()
DOM0_INITRD = ["virtio_pci", "virtio_blk", "ext4"]
GUEST_INITRD = ["xen-blkfront", "ext4", "overlay"]


def elf(bzimage, target):
    """The ELF image inside a bzImage: Xen's loaders then needn't unpack it under emulation at every boot."""
    with open(bzimage, "rb") as file:
        data = file.read()
    if data.startswith(b"\x7fELF"):
        shutil.copyfile(bzimage, target)
        return
    offset, length = struct.unpack_from("<II", data, 0x248)
    begin = ((data[0x1f1] or 4) + 1) * 512 + offset
    payload = data[begin:begin + length]
    if payload.startswith(b"\xfd7zXZ"):
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        # The last four bytes are the kernel build's own note of the size.
        kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    else:
        raise Fail(f"{bzimage}: packed in a way the lab does not know ({payload[:6].hex()})")
    if not kernel.startswith(b"\x7fELF"):
        raise Fail(f"{bzimage}: no ELF image inside")
    with open(target, "wb") as file:
        file.write(kernel)


def _name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def _dependencies(tree):
    """modules.dep as {name: path} and {path: [paths]}."""
    names, needs = {}, {}
    with open(os.path.join(tree, "modules.dep"), encoding="utf-8") as file:
        for line in file:
            path, rest = line.split(":", 1)
            names[_name(path)] = path
            needs[path] = rest.split()
    return names, needs


def _closure(wanted, needs):
    """The paths and all they need, what is needed first."""
    order = []

    def visit(path):
        if path not in order:
            for other in needs[path]:
                visit(other)
            order.append(path)
    for path in wanted:
        visit(path)
    return order


def trim(package, root, release, patterns):
    """Copy the modules that match, unpacked and with what they need, to root and index them there."""
    source = os.path.join(package, "lib/modules", release)
    target = os.path.join(root, "usr/lib/modules", release)
    run(["depmod", "-b", package, release], what="depmod")
    names, needs = _dependencies(source)
    patterns = [pattern.replace("-", "_") for pattern in patterns]
    wanted = [path for name, path in names.items() if any(fnmatch.fnmatchcase(name, one) for one in patterns)]
    for path in _closure(wanted, needs):
        copy = os.path.join(target, path.removesuffix(".xz"))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if path.endswith(".xz"):
            with lzma.open(os.path.join(source, path)) as packed, open(copy, "wb") as file:
                shutil.copyfileobj(packed, file)
        else:
            shutil.copyfile(os.path.join(source, path), copy)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(os.path.join(source, name), target)
    depmod(root, release)


def depmod(root, release):
    """Index the modules below root, which has a merged /usr that depmod does not expect."""
    link = os.path.join(root, "lib")
    made = not os.path.lexists(link)
    if made:
        os.symlink("usr/lib", link)
    run(["depmod", "-b", root, release], what="depmod")
    if made:
        os.unlink(link)


def initrd(root, release, modules, init, busybox, target):
    """A cpio with busybox, an init script and the few modules that lead to the root file system."""
    tree = os.path.join(root, "usr/lib/modules", release)
    names, needs = _dependencies(tree)
    with open(os.path.join(tree, "modules.builtin"), encoding="utf-8") as file:
        builtin = {_name(line.strip()) for line in file}
    wanted = []
    # crc32c by name: ext4 asks for it with request_module, which modules.dep does not show.
    for name in ("crc32c_generic", *(module.replace("-", "_") for module in modules)):
        if name in names:
            wanted.append(names[name])
        elif name not in builtin:
            raise Fail(f"kernel {release} has no module {name}")
    work = target + ".d"
    for folder in ("bin", "dev", "proc", "sys", "root", "lower", "rw", "modules"):
        os.makedirs(os.path.join(work, folder))
    shutil.copy(busybox, os.path.join(work, "bin/busybox"))
    shutil.copy(init, os.path.join(work, "init"))
    os.chmod(os.path.join(work, "init"), 0o755)
    with open(os.path.join(work, "modules.list"), "w", encoding="utf-8") as file:
        for path in _closure(wanted, needs):
            shutil.copy(os.path.join(tree, path), os.path.join(work, "modules"))
            file.write(f"/modules/{os.path.basename(path)}\n")
    os.mknod(os.path.join(work, "dev/console"), 0o600 | 0o020000, os.makedev(5, 1))
    cpio(work, target)
    shutil.rmtree(work)


def cpio(tree, target):
    """Pack a directory as the kernel unpacks it."""
    with open(target, "wb") as file:
        run(["sh", "-c", "find . -print0 | sort -z | cpio --null -o -H newc -R 0:0 --quiet"], cwd=tree, stdout=file,
            what="cpio")


def release_of(package):
    found = glob.glob(os.path.join(package, "boot/vmlinu[xz]-*"))
    if len(found) != 1:
        raise Fail(f"{package}: expected one kernel, found {len(found)}")
    return os.path.basename(found[0]).split("-", 1)[1], found[0]
