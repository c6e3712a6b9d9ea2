# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages: what the host and the images need, and where apt gets them."""

import glob
import os
import shutil
import subprocess
import tempfile

from .util import Fail, output, run

CODENAME = "bookworm"
SUITES = {CODENAME} | {f"{CODENAME}-{part}" for part in ("updates", "security", "backports")}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What `lab` runs on the host: package -> the program that shows it is there.
HOST = {
    "qemu-system-x86": "qemu-system-x86_64", "qemu-utils": "qemu-img", "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": KEYRING, "e2fsprogs": "mke2fs", "openssh-client": "ssh",
    "xz-utils": "xz", "zstd": "zstd", "kmod": "depmod", "cpio": "cpio", "dpkg": "dpkg-deb", "tar": "tar",
}
# What it takes to compile the product and the driver.
HOST_COMPILE = {"gcc": "gcc", "make": "make", "cmake": "cmake", "dwarves": "pahole"}

XEN = "xen-hypervisor-4.17-amd64"
KERNELS = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
DOM0_KERNEL = "6.1"
# Kernels that are compiled here: the source package, and what that takes on the host.
SOURCES = {"6.1-debug": "linux-source-6.1"}
HOST_SOURCE = {"bison": "bison", "flex": "flex", "bc": "bc", "libelf-dev": "/usr/include/libelf.h", "binutils": "strip"}

DOM0 = """systemd systemd-sysv udev xen-utils-4.17 xen-utils-common xenstore-utils
    libxencall1 libxenevtchn1 libxengnttab1 libxenmisc4.17 libxenstore4 libxentoollog1
    libevent-2.1-7 libevent-core-2.1-7 libevent-pthreads-2.1-7 libconfig9 libjansson4 libsystemd0
    libasan8 libubsan1 iproute2 iputils-ping kmod openssh-server openssh-client procps psmisc python3-minimal python3
    strace gdb netcat-openbsd socat ethtool tcpdump busybox-static e2fsprogs""".split()

GUEST = """udev kmod openssh-server iproute2 procps psmisc ethtool iperf3 sockperf python3 busybox-static strace
    util-linux mount openssl iputils-ping netcat-openbsd socat iptables nftables wireguard-tools tcpdump curl rsync
    redis-server redis-tools stress-ng""".split()

# What guests have besides with --programs.
PROGRAMS = """caddy chrony dnsmasq-base dnsperf hey libmemcached-tools memcached netpipe-tcp nginx-light ngtcp2-client ngtcp2-server
    nodejs postgresql-15 wrk""".split()


def sources():
    """The host's own apt entries for Debian 12, one line each, as mmdebstrap reads them."""
    lines = []
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        if path.endswith(".list"):
            for line in text.splitlines():
                words = line.split("]")[-1].split() if "[" in line else line.split()[1:]
                if line.startswith("deb ") and len(words) > 2 and words[1] in SUITES:
                    lines.append(line)
        elif path.endswith(".sources"):
            for paragraph in text.split("\n\n"):
                lines += _deb822(paragraph)
    if not any(f" {CODENAME} " in line for line in lines):
        raise Fail(f"apt on this machine has no source for Debian 12 ({CODENAME}); the lab is made from its packages")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _deb822(paragraph):
    fields = {}
    for line in paragraph.splitlines():
        if line[:1] not in ("#", " ", "\t") and ":" in line:
            key, value = line.split(":", 1)
            fields[key.strip().lower()] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
        return
    signed = fields.get("signed-by", "")
    option = f"[signed-by={signed}] " if signed.startswith("/") else ""
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            if suite in SUITES:
                yield f"deb {option}{uri} {suite} {fields.get('components', 'main')}"


def apt_options():
    """Acquire settings of the host (proxy, snapshot dates) that a bootstrap needs too."""
    keep = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    dump = output(["apt-config", "dump"]).splitlines()
    return [line for line in dump if line.startswith(keep) and not line.endswith('"";')]


def versions(names):
    """{package: candidate version} as a bootstrap sees it; a package that apt does not know is absent."""
    found, name = {}, None
    with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
        file.write(sources())
        file.flush()
        # Neither what is installed on this machine nor what other sources have.
        options = {"Dir::State::status": "/dev/null", "Dir::Etc::SourceList": file.name,
                   "Dir::Etc::SourceParts": "/dev/null", "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": ""}
        argv = ["apt-cache", *(f"-o{key}={value}" for key, value in options.items()), "policy", *names]
        text = output(argv, env={**os.environ, "LC_ALL": "C"})
    for line in text.splitlines():
        if line[:1] not in (" ", ""):
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:") and "(none)" not in line:
            found[name] = line.split()[-1]
    return found


def candidates(names, progress):
    """Like versions(), but fetches apt's lists if need be and names what is missing."""
    found = versions(names)
    if set(names) - set(found):
        progress.say("apt's package lists are missing or old: apt-get update")
        apt(["update"], progress)
        found = versions(names)
    missing = sorted(set(names) - set(found))
    if missing:
        raise Fail("no Debian package of this name to be had here: " + ", ".join(missing))
    return found


def apt(arguments, progress, log=None):
    argv = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "APT::Sandbox::User=root", *arguments]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    if log:
        run(argv, log=log, env=env, what="apt-get " + " ".join(arguments[:4]))
        return
    done = run(argv, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        last = "\n".join("  | " + line for line in done.stdout.splitlines()[-8:])
        raise Fail(f"apt-get {' '.join(arguments[:6])} failed:\n{last}")


def have(program):
    return os.path.exists(program) if program.startswith("/") else shutil.which(program, path=_path()) is not None


def _path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def host_install(progress, releases=(), compiling=True, source=False):
    """Install on the host what is missing. Headers match the guests' kernels to the letter."""
    wanted = {**HOST, **(HOST_COMPILE if compiling else {}), **(HOST_SOURCE if source else {})}
    wanted |= {f"linux-headers-{release}": f"/lib/modules/{release}/build/Makefile" for release in releases}
    missing = [name for name, program in wanted.items() if not have(program)]
    if not missing:
        return
    if os.geteuid():
        raise Fail("missing on this machine: " + ", ".join(missing) + " (not root, so not installed)")
    candidates(missing, progress)
    with progress.step("installing on this machine: " + ", ".join(missing)):
        apt(["install", "--no-install-recommends", *missing], progress)


def depends(name, pattern):
    """The dependency of a metapackage whose name starts with pattern."""
    for line in output(["apt-cache", "depends", name], env={**os.environ, "LC_ALL": "C"}).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "Depends:" and words[1].startswith(pattern):
            return words[1]
    raise Fail(f"package {name} depends on no {pattern}*")


def unpack(name, where, log):
    """Fetch one package and unpack it into a directory, without installing it."""
    os.makedirs(where, exist_ok=True)
    debs = os.path.join(where, "deb")
    os.makedirs(debs, exist_ok=True)
    argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name]
    run(argv, cwd=debs, log=log, what=f"fetching package {name}")
    for deb in os.listdir(debs):
        run(["dpkg-deb", "-x", os.path.join(debs, deb), where], log=log)
    shutil.rmtree(debs)
