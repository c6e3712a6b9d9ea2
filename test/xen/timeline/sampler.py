# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest whose peer moves: what goes through shared memory, what over the network, how many directions are
local, and how long the peer does not answer. One JSON line for each sample.

usage: sampler.py PEER-ADDRESS PORT, until SIGTERM; an echo ("sampler.py echo PORT") answers at the peer."""
import json
import re
import signal
import socket
import sys
import threading
import time

EVERY = 0.2
PING = 0.01
WORDS = re.compile(r"\b(tx_streams|rx_streams|tx_bytes|rx_bytes) (\d+)")


def echo(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    while True:
        data, sender = sock.recvfrom(64)
        sock.sendto(data, sender)


class Pinger(threading.Thread):
    """A datagram every ten milliseconds, which is much for an emulated machine; remembers the longest time without an
    answer in each sample, and in all, and when that ended."""

    def __init__(self, address, port):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((address, port))
        self.sock.settimeout(PING)
        self.last, self.gap, self.longest, self.ended = time.monotonic(), 0.0, 0.0, 0.0

    def run(self):
        while True:
            try:
                self.sock.send(b"ping")
                begin = time.monotonic()
                self.sock.recv(64)
                now = time.monotonic()
                self.gap = max(self.gap, now - self.last)
                if self.gap > self.longest:
                    self.longest, self.ended = self.gap, now
                self.last = now
                time.sleep(max(0.0, PING - (now - begin)))
            except OSError:     # no answer yet, or the network is away
                pass

    def take(self):
        gap, self.gap = max(self.gap, time.monotonic() - self.last), 0.0
        return gap


def counters():
    found = {"tx_streams": 0, "rx_streams": 0, "tx_bytes": 0, "rx_bytes": 0}
    try:
        with open("/sys/kernel/debug/vmc/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("channel "):
                    for word, number in WORDS.findall(line):
                        found[word] += int(number)
    except FileNotFoundError:   # no driver
        pass
    with open("/sys/class/net/eth0/statistics/rx_bytes", encoding="ascii") as file:
        found["network"] = int(file.read())
    return found


def main():
    if sys.argv[1] == "echo":
        echo(int(sys.argv[2]))
    pinger = Pinger(sys.argv[1], int(sys.argv[2]))
    pinger.start()
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    began = time.monotonic()
    while not ended:
        time.sleep(EVERY)
        print(json.dumps({"t": round(time.monotonic() - began, 3), "gap": round(pinger.take(), 4), **counters()}), flush=True)
    print(json.dumps({"longest": round(pinger.longest, 4), "ended": round(pinger.ended - began, 3)}), flush=True)


main()
