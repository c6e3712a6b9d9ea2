# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part uses: errors, progress, child processes, locks."""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Fail(Exception):
    """Something the user has to know; printed without a traceback."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


class Progress:
    """Lines with the time since the command began, and a breakdown at the end."""

    def __init__(self):
        self.start = time.monotonic()
        self.steps = []

    def elapsed(self):
        return time.monotonic() - self.start

    def say(self, text):
        print(f"lab: [{self.elapsed():6.1f}s] {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, name):
        self.say(name)
        begin = time.monotonic()
        try:
            yield
        finally:
            self.steps.append((name, time.monotonic() - begin))

    def breakdown(self):
        return ", ".join(f"{name} {seconds:.1f}s" for name, seconds in self.steps)


def die_with_parent(sig=signal.SIGKILL):
    """A preexec_fn: the child does not outlive the process that started it."""
    parent = os.getpid()

    def hook():
        _libc.prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
    return hook


def run(argv, *, log=None, check=True, timeout=None, what=None, death=signal.SIGKILL, **kwargs):
    """Run a command that ends with us, by the signal `death`. With log (a path), output is appended there and its tail shown
    on failure."""
    if "input" not in kwargs:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
    sink = open(log, "ab") if log else None
    try:
        if sink:
            sink.write(f"+ {' '.join(map(str, argv))}\n".encode())
            sink.flush()
            kwargs.update(stdout=sink, stderr=subprocess.STDOUT)
        done = subprocess.run(argv, timeout=timeout, preexec_fn=die_with_parent(death), **kwargs)
    except FileNotFoundError as error:
        raise Fail(f"{what or argv[0]}: {error.filename}: not found") from error
    except subprocess.TimeoutExpired as error:
        raise Fail(f"{what or argv[0]}: no end after {timeout} s") from error
    finally:
        if sink:
            sink.close()
    if check and done.returncode:
        detail = f"\n{tail(log)}" if log else ""
        if not log and done.stderr:
            detail = "\n" + (done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace"))
        raise Fail(f"{what or ' '.join(map(str, argv[:3]))} failed (status {done.returncode}){detail}")
    return done


def output(argv, **kwargs):
    """Standard output of a command, as text."""
    kwargs.setdefault("stderr", subprocess.PIPE)
    return run(argv, stdout=subprocess.PIPE, text=True, **kwargs).stdout


def tail(path, lines=25):
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 16384))
            text = file.read().decode(errors="replace").replace("\r", "")
    except OSError as error:
        return f"  ({error})"
    body = "\n".join("  | " + line for line in text.splitlines()[-lines:])
    return f"  the end of {path}:\n{body}"


def wait_for(condition, seconds, what, interval=0.1):
    """Poll until condition() is true and return its value; give up after the given time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


@contextlib.contextmanager
def lock(path, waiting=None):
    """Hold an exclusive lock for the block; waiting() is called once if another process holds it."""
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def write_json(path, value):
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
