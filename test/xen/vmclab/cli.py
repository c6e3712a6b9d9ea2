# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab command's arguments."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time

from . import boot, cache, image, logs, packages, profile, push, remote, supervise
from .util import Fail, Progress, run

DESCRIPTION = """A real Xen host in QEMU's software emulation (no KVM needed): Debian 12 as Dom0, light Debian guests,
real grant tables, event channels, XenStore and xl. Made from Debian packages; see test/xen/README.md."""
EPILOG = """WHERE is dom0, g1, g2 ... or, in a lab of two hosts, h2:dom0, h2:g1 ...

environment: VMC_LAB_CACHE (images, logs; default ~/.cache/vmc-lab), VMC_BUILD_DIR (CMake's build directory),
VMC_LAB_RUN (sockets of the running lab)."""


def _kernels(text):
    names = text.split(",")
    for name in names:
        if name not in (*packages.KERNELS, *packages.SOURCES):
            known = ", ".join((*packages.KERNELS, *packages.SOURCES))
            raise argparse.ArgumentTypeError(f"{name}: one of {known}, or several with a comma")
    return list(dict.fromkeys(names))


def _count(low, high):
    def check(text):
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}: a number from {low} to {high}")
        return int(text)
    return check


def parser():
    top = argparse.ArgumentParser(prog="lab", description=DESCRIPTION, epilog=EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, text, function):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        return command

    kernel_help = ("the guests' kernel: 6.1 (default), 6.12, 6.1-debug (compiled here, with lockdep and the like), or several as "
                   "6.1,6.12 for guests of either kind in turn")
    build = add("build", "make the images from Debian packages; instantaneous if they are there", _build)
    build.add_argument("--kernel", type=_kernels, default=["6.1"], help=kernel_help)
    programs_help = "guests with more programs, servers and clients (an image of its own)"
    build.add_argument("--programs", action="store_true", help=programs_help)

    kver = add("kver", "print what guest-driver/build takes for the guests' kernel: a release, or where it was compiled", _kver)
    kver.add_argument("--kernel", type=_kernels, help=kernel_help.replace("(default)", "(default, if no lab is up)"))

    up = add("up", "compile and stage the product, boot Dom0 and guests, return when all are ready", _up)
    up.add_argument("--hosts", type=_count(1, 2), default=1, help="Xen hosts, joined by their bridges (default 1)")
    up.add_argument("--guests", type=_count(0, 8), default=2, help="guests to start on the first host (default 2)")
    up.add_argument("--type", choices=("pv", "pvh"), default="pv", help="kind of guest (default pv)")
    up.add_argument("--kernel", type=_kernels, default=["6.1"], help=kernel_help)
    up.add_argument("--memory", type=_count(96, 4096), default=256, metavar="MB", help="per guest (default 256)")
    up.add_argument("--vcpus", type=_count(1, 8), default=1, help="per guest (default 1)")
    up.add_argument("--programs", action="store_true", help=programs_help)
    up.add_argument("--no-vmc", action="store_true", help="compile and install nothing of this tree")
    up.add_argument("--append", default="", metavar="ARGUMENTS", help="more kernel arguments for the guests")
    up.add_argument("--guest-overlay", metavar="DIR", help="files to lay over the guests' root")
    up.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for the end of another lab (default 0)")
    up.add_argument("--gdb", action="store_true", help="let gdb attach to QEMU at a unix socket (gdb-h1 in `run`)")

    pushing = add("push", "rebuild and bring what changed into the running lab", _push)
    pushing.add_argument("--reload", action="store_true", help="load the new vmc.ko in the guests at once")
    pushing.add_argument("--restart", action="store_true", help="restart vmcd even if nothing changed")
    pushing.add_argument("--all", action="store_true", help="push everything, changed or not")
    pushing.add_argument("--guest-overlay", metavar="DIR", help="files to lay over the guests' root")

    shell = add("sh", "run a shell command there, as ssh would: streams, standard input, exit status", _sh)
    shell.add_argument("where", metavar="WHERE")
    shell.add_argument("--timeout", type=float, metavar="SECONDS", help="kill it after that long; status 124")
    shell.add_argument("--connect-timeout", type=float, default=30, metavar="SECONDS", help="default 30")
    shell.add_argument("-n", action="store_true", help="leave standard input alone")
    shell.add_argument("words", nargs="*", metavar="-- COMMAND...")

    put = add("put", "copy a file or a directory there", _put)
    put.add_argument("where", metavar="WHERE")
    put.add_argument("file", metavar="FILE")
    put.add_argument("path", metavar="PATH")
    get = add("get", "copy a file or a directory from there", _get)
    get.add_argument("where", metavar="WHERE")
    get.add_argument("path", metavar="PATH")
    get.add_argument("file", metavar="FILE")

    status = add("status", "say what runs; status 0 if a lab is up and answers, 3 if not", _status)
    status.add_argument("--json", action="store_true")
    collecting = add("logs", "collect all logs in a directory and print its name", _logs)
    collecting.add_argument("directory", nargs="?", metavar="DIR")
    profiling = add("profile", "sample where the CPUs spend their time, by domain and function (PV guests)", _profile)
    profiling.add_argument("--host", default="h1", help="h1 (default) or h2")
    profiling.add_argument("--seconds", type=float, default=10, help="default 10")
    profiling.add_argument("--top", type=_count(1, 10000), default=40, metavar="N", help="functions to show (default 40)")
    profiling.add_argument("--json", action="store_true", help="all of them, with numbers of samples")
    down = add("down", "collect logs and end everything", _down)
    down.add_argument("--no-logs", action="store_true", help="do not collect logs first")
    down.add_argument("--force", action="store_true", help="also if the lab was started from another tree")
    return top


def _build(args, progress):
    releases = image.build(args.kernel, args.programs, progress)
    progress.say(f"images ready for {', '.join(releases)} in {cache.images()}")


def _kver(args, _progress):
    lab = boot.Lab()
    state = lab.holder() and lab.state() or {}
    for name in args.kernel or state.get("kernels", ["6.1"]):
        path, manifest = cache.need(cache.guest(name, state.get("programs", False)))
        own = os.path.join(path, "build")
        print(own if os.path.isdir(own) else manifest["release"])


def _up(args, progress):
    if set(args.append) & set('"\\\n'):
        raise Fail("--append: no quotes, backslashes or line breaks", 2)
    boot.up({"hosts": args.hosts, "guests": args.guests, "type": args.type, "kernels": args.kernel,
             "memory": args.memory, "vcpus": args.vcpus, "vmc": not args.no_vmc, "append": args.append,
             "programs": args.programs, "overlay": args.guest_overlay, "gdb": args.gdb, "wait": args.wait}, progress)


def _push(args, progress):
    push.push({"reload": args.reload, "restart": args.restart, "all": args.all, "overlay": args.guest_overlay},
              progress)


def _sh(args, _progress):
    words = args.words + args.rest
    if not words:
        raise Fail("sh: what command?", 2)
    return remote.stream(boot.Lab().node(args.where), " ".join(words), stdin=None if args.n else 0,
                         timeout=args.timeout, connect=args.connect_timeout)


def _put(args, _progress):
    node = boot.Lab().node(args.where)
    path = shlex.quote(args.path)
    if os.path.isdir(args.file):
        packer = subprocess.Popen(["tar", "-C", args.file, "--owner=0", "--group=0", "-cf", "-", "."],
                                  stdout=subprocess.PIPE)
        with packer.stdout as source:
            status = remote.stream(node, f"mkdir -p {path} && tar -C {path} -xf -", stdin=source.fileno())
        return status or packer.wait()
    with open(args.file, "rb") as source:
        mode = os.fstat(source.fileno()).st_mode & 0o777
        return remote.stream(node, f"p={path}; [ ! -d \"$p\" ] || p=$p/{shlex.quote(os.path.basename(args.file))}; "
                             f"rm -f \"$p\"; cat >\"$p\" && chmod {mode:o} \"$p\"", stdin=source.fileno())


def _get(args, _progress):
    node = boot.Lab().node(args.where)
    path = shlex.quote(args.path)
    _, kind, _ = remote.capture(node, f"[ -e {path} ] && {{ [ -d {path} ] && echo d || echo f; }}")
    if kind.strip() == b"d":
        os.makedirs(args.file, exist_ok=True)
        unpacker = subprocess.Popen(["tar", "-C", args.file, "--no-same-owner", "-xf", "-"], stdin=subprocess.PIPE)
        status = remote.stream(node, f"tar -C {path} -cf - .", stdin=None, stdout=unpacker.stdin.fileno())
        unpacker.stdin.close()
        return unpacker.wait() or status
    target = os.path.join(args.file, os.path.basename(args.path)) if os.path.isdir(args.file) else args.file
    with open(target, "wb") as sink:
        return remote.stream(node, f"cat {path}", stdin=None, stdout=sink.fileno())


def _status(args, _progress):
    answer = boot.status()
    if args.json:
        print(json.dumps(answer, indent=1))
    elif not answer["running"]:
        print("no lab is up")
    elif "hosts" not in answer:
        print(f"a lab is on its way up: {answer['holder']}")
    else:
        minutes = (time.time() - answer["started"]) / 60
        word = "up" if answer["ready"] else "not ready, started"
        print(f"{word} {minutes:.0f} min ago from {answer['tree']}, guests are {answer['type']} with "
              f"{'/'.join(answer['kernels'])}, logs in {answer['logs']}")
        for name, host in answer["hosts"].items():
            print(f"{name}: " + (host.get("error") or f"vmcd {host['vmcd']}"))
            for domain in host.get("domains", []):
                print("  {name:10} domid {domid:4} {memory:>5} MB {vcpus} vcpus {state}  vmc {vmc}".format(**domain))
    return 0 if answer["running"] and answer.get("ready") else 3


def _logs(args, progress):
    lab = boot.Lab()
    state = lab.need()
    directory = args.directory or state["logs"]
    os.makedirs(directory, exist_ok=True)
    logs.collect(lab.dom0s(state), directory, progress)
    if os.path.realpath(directory) != os.path.realpath(state["logs"]):
        for name in os.listdir(state["logs"]):
            if name.endswith(".log"):
                run(["cp", "-p", os.path.join(state["logs"], name), directory])
    print(directory)


def _profile(args, progress):
    counts = profile.profile(boot.Lab(), args.host, args.seconds, progress)
    print(profile.as_json(counts) if args.json else profile.report(counts, args.top))


def _down(args, progress):
    boot.down(progress, collect=not args.no_logs, force=args.force)


def main():
    if sys.argv[1:2] == ["_supervise"]:
        return supervise.main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    # What stands behind `--` is for the other side, options and all.
    argv = sys.argv[1:]
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser().parse_args(argv[:cut])
    args.rest = argv[cut + 1:]
    try:
        return args.function(args, Progress()) or 0
    except Fail as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
