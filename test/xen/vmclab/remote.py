# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in Dom0 and in guests, over ssh with one warm connection each.

A command is started in two steps: the far side says that it is there, then we say go. So a warm connection that leads
to a guest which is gone (destroyed and made anew under the same address) is noticed before anything ran, and the
command is started once, over a new connection.
"""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time

from .util import Fail, die_with_parent, lock

HELLO = b"lab-hello "
_WHERE = re.compile(r"(?:h([12]):)?(dom0|g([1-9][0-9]?))")


class Node:
    """Dom0 or a guest, as seen through one host's Dom0."""

    def __init__(self, run, ports, where):
        match = _WHERE.fullmatch(where)
        if not match:
            raise Fail(f"{where}: say dom0, g1, h2:dom0, h2:g1 and so on", 2)
        self.run, self.name = run, where
        self.host = f"h{match[1] or 1}"
        if self.host not in ports:
            raise Fail(f"{where}: this lab has no {self.host}")
        self.port = ports[self.host]
        self.guest = int(match[3]) if match[3] else 0
        self.socket = os.path.join(run, f"ssh-{self.host}-{match[2]}")
        self.dom0 = Node(run, ports, f"{self.host}:dom0") if self.guest else None

    def _base(self):
        return ["ssh", "-F", "none", "-S", self.socket, "-i", os.path.join(self.run, "key"), *_options(
            IdentitiesOnly="yes", IdentityAgent="none", BatchMode="yes", StrictHostKeyChecking="no",
            UserKnownHostsFile="/dev/null", GlobalKnownHostsFile="/dev/null", ForwardX11="no",
            KexAlgorithms="curve25519-sha256", Ciphers="aes128-ctr", MACs="umac-64-etm@openssh.com",
            GSSAPIAuthentication="no", UpdateHostKeys="no", EscapeChar="none", LogLevel="ERROR")]

    def session(self, command):
        """The ssh command for one session over the warm connection; it never makes a connection of its own."""
        return [*self._base(), "-q", *_options(ControlMaster="no", ProxyCommand="false"), "root@lab", command]

    def connect(self, seconds):
        """Make the warm connection if it is not there; True when it is."""
        deadline = time.monotonic() + seconds
        if self.dom0 and not self.dom0.connect(seconds):
            return False
        with lock(self.socket + ".lock"):
            if os.path.exists(self.socket):
                return True
            if self.dom0:
                proxy = self.dom0.session("")[:-2] + ["-W", f"10.77.0.{10 + self.guest}:22", "root@lab"]
                target = _options(ProxyCommand=shlex.join(proxy).replace("%", "%%"))
            else:
                target = ["-p", str(self.port), *_options(HostName="127.0.0.1")]
            limit = max(2, min(10, deadline - time.monotonic()))
            argv = [*self._base(), "-f", "-N", "-M", *target, *_options(
                ConnectTimeout=f"{4 if not self.dom0 else limit:.0f}", ServerAliveInterval="120",
                ServerAliveCountMax="3"), "root@lab"]
            with open(os.path.join(self.run, "ssh.log"), "ab") as log:
                try:
                    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit + 20)
                except subprocess.TimeoutExpired:
                    return False
            return done.returncode == 0

    def alive(self):
        """True if the warm connection is there."""
        return subprocess.run([*self._base(), "-q", "-O", "check", "root@lab"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10,
                              check=False).returncode == 0

    def disconnect(self):
        """End the warm connection, if any."""
        subprocess.run([*self._base(), "-O", "exit", "root@lab"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10, check=False)

    def forget(self):
        """Let go of a connection that does not answer. Sessions that still use it keep it; the next makes a new one."""
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass


def _options(**values):
    return [word for key, value in values.items() for word in ("-o", f"{key}={value}")]


class Session:
    """One command there. Its standard streams are pipes once start() returned."""

    def __init__(self, node, command):
        self.node, self.command = node, command
        self.process, self.pid = None, None

    def start(self, seconds, stderr=None):
        """Connect, retrying until it works or the time is over, and start the command once."""
        deadline = time.monotonic() + seconds
        hello = f"echo '{HELLO.decode()}'$$; IFS= read -r go; [ \"$go\" = go ] || exit 0; "
        argv = self.node.session(hello + "exec sh -c -- " + shlex.quote(self.command))
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Fail(f"{self.node.name}: no connection within {seconds:.0f} s", 255)
            if not os.path.exists(self.node.socket) and not self.node.connect(left):
                time.sleep(0.2)
                continue
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                            bufsize=0, preexec_fn=die_with_parent())
            if self._greeted(min(max(left, 1), 15)):
                self.process.stdin.write(b"go\n")
                return
            self.process.kill()
            self.process.wait()
            self.node.forget()

    def _greeted(self, seconds):
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            byte = os.read(self.process.stdout.fileno(), 1) if ready else b""
            if not byte:
                return False
            line += byte
        if not line.startswith(HELLO):
            return False
        self.pid = int(line[len(HELLO):])
        return True

    def kill(self):
        """End the command there and the session here."""
        if self.process and self.process.poll() is None:
            try:
                argv = self.node.session(f"kill -s KILL -- -{self.pid}")
                subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               timeout=10, check=False, preexec_fn=die_with_parent())
            except subprocess.TimeoutExpired:
                pass
            self.process.kill()
            self.process.wait()


def _feed(source, sink):
    """Copy a descriptor into a pipe until either side ends."""
    try:
        while chunk := os.read(source, 1 << 18):
            view = memoryview(chunk)
            while view:
                view = view[os.write(sink.fileno(), view):]
    except OSError:
        pass
    finally:
        try:
            sink.close()
        except OSError:
            pass


def stream(node, command, *, stdin=0, stdout=1, timeout=None, connect=30):
    """Run a command there with our standard streams, as ssh would. Returns its exit status, 124 after the timeout."""
    deadline = time.monotonic() + timeout if timeout else None
    session = Session(node, command)
    try:
        session.start(min(connect, timeout or connect))
        if stdin is None:
            session.process.stdin.close()
        else:
            threading.Thread(target=_feed, args=(stdin, session.process.stdin), daemon=True).start()
        source = session.process.stdout.fileno()
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            ready, _, _ = select.select([source], [], [], left)
            if not ready:
                raise TimeoutError
            chunk = os.read(source, 1 << 18)
            if not chunk:
                break
            view = memoryview(chunk)
            while view:
                view = view[os.write(stdout, view):]
        status = session.process.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        if status == 255 and not node.alive():
            print(f"lab: {node.name}: the connection broke: {command[:200]}", file=sys.stderr)
        return status
    except (TimeoutError, subprocess.TimeoutExpired):
        print(f"lab: {node.name}: no end after {timeout:g} s, killed: {command[:200]}", file=sys.stderr)
        return 124
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    finally:
        session.kill()


def capture(node, command, *, data=b"", timeout=60, connect=30, check=True):
    """Run a command there and return (status, standard output, standard error) as bytes."""
    session = Session(node, command)
    try:
        session.start(connect, stderr=subprocess.PIPE)
        out, err = session.process.communicate(data, timeout=timeout)
        status = session.process.returncode
    except subprocess.TimeoutExpired:
        out, err, status = b"", f"no end after {timeout} s".encode(), 124
    finally:
        session.kill()
    if check and status:
        detail = (err + out).decode(errors="replace").strip()
        raise Fail(f"{node.name}: {command.splitlines()[0][:80]}: status {status}: {detail}")
    return status, out, err
