# SPDX-License-Identifier: GPL-2.0-or-later
# lab: pv
# long: pvh pv-smp pv-6.12 pv-debug
# Answers that hang on when something comes in the middle of a call: the same as TCP's.
# limit: 200
cat >"$work/calls.py" <<'END'
"""Both ends of connections whose every step one side orders: calls.py serve, calls.py ADDRESS. Prints what calls answer."""
import errno, fcntl, os, select, signal, socket, struct, sys, threading, time

PORT = 7740


def listen(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen(5)
    return s


def far(data, order):
    """The far end does what it is told and says that it has."""
    word, n = order.split()
    n = int(n)
    if word == "echo":
        for _ in range(n):
            data.sendall(data.recv(1024, socket.MSG_WAITALL))
    elif word == "read":
        left = n
        while left:
            left -= len(data.recv(min(left, 65536)))
    elif word == "send":
        data.sendall(b"b" * n)
    elif word == "urgent":
        data.send(b"!", socket.MSG_OOB)
    elif word == "close":
        data.close()


def serve():
    orders, datas = listen(PORT), listen(PORT + 1)
    while True:
        order, _ = orders.accept()
        data, _ = datas.accept()
        with order.makefile("rw") as lines:
            for line in lines:
                far(data, line)
                lines.write("done\n")
                lines.flush()
        data.close()
        order.close()


class Far:
    def __init__(self, address):
        self.orders = socket.create_connection((address, PORT))
        self.data = socket.create_connection((address, PORT + 1))
        self.lines = self.orders.makefile("rw")
        self.begin("echo", 40)
        for _ in range(40):     # both directions earn their rings
            self.data.sendall(b"a" * 1024)
            assert len(self.data.recv(1024, socket.MSG_WAITALL)) == 1024
        self.end()

    def begin(self, word, n):
        self.lines.write(f"{word} {n}\n")
        self.lines.flush()

    def end(self):
        assert self.lines.readline() == "done\n"

    def do(self, word, n=0):
        self.begin(word, n)
        self.end()

    def close(self):
        self.data.close()
        self.lines.close()
        self.orders.close()


def answer(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def later(seconds, *orders):
    def run():
        for order in orders:
            time.sleep(seconds)
            order()
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def reset_in_the_middle_of_a_send(f):
    """What was taken counts; the error is for the next call, and then the pipe is broken."""
    f.do("read", 0)
    thread = later(0.5, lambda: f.do("read", 100000), lambda: f.do("close"))
    got = answer(f.data.send, b"c" * (64 << 20))
    thread.join()
    yield "a part" if isinstance(got, int) and 100000 <= got < 64 << 20 else got
    yield answer(f.data.send, b"d")
    yield answer(f.data.send, b"d")
    yield answer(f.data.recv, 10)


def urgent_byte_in_the_middle_of_a_recv(f):
    """One call does not cross the mark, also when it comes after the call has got something."""
    thread = later(0.3, lambda: f.do("send", 1000), lambda: f.do("urgent"), lambda: f.do("send", 500))
    yield len(f.data.recv(3000, socket.MSG_WAITALL))
    yield struct.unpack("i", fcntl.ioctl(f.data, 0x8905, b"    "))[0]   # SIOCATMARK
    yield answer(f.data.recv, 1, socket.MSG_OOB)
    thread.join()
    yield len(f.data.recv(500, socket.MSG_WAITALL))


def signals_asked_for_late(f):
    """O_ASYNC is set when a reader has slept before, and nobody waits now."""
    told = []
    signal.signal(signal.SIGIO, lambda *_: told.append(1))
    thread = later(0.3, lambda: f.do("send", 10))
    yield len(f.data.recv(10, socket.MSG_WAITALL))
    thread.join()
    fcntl.fcntl(f.data, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(f.data, fcntl.F_SETFL, fcntl.fcntl(f.data, fcntl.F_GETFL) | os.O_ASYNC)
    for _ in range(2):
        told.clear()
        f.do("send", 10)
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        yield "told" if told else "not told"
        yield len(f.data.recv(10, socket.MSG_WAITALL))
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def main(address):
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for scene in (reset_in_the_middle_of_a_send, urgent_byte_in_the_middle_of_a_recv, signals_asked_for_late):
        f = Far(address)
        print(scene.__name__, *scene(f), flush=True)
        f.close()


serve() if sys.argv[1] == "serve" else main(sys.argv[1])
END
for guest in g1 g2; do "$lab" put $guest "$work/calls.py" /tmp/calls.py; done
serve g1 g2
assert_local g1 g2
dmesg_mark g1 g2
g2 "pkill -f '[c]alls.py serve' || true"
g2 "setsid python3 /tmp/calls.py serve >/tmp/calls.log 2>&1 </dev/null &"
wait_for 20 "g2 'ss -Hltn sport = 7741 | grep -q .'" "the far end to listen"
for way in network ring; do
	if [ $way = ring ]; then set_earning 1 1; else set_earning 1000000 1000000000; fi
	before=$(vmc_chan g1 takeovers)
	for round in 1 2 3; do g1 "python3 /tmp/calls.py $(addr g2)"; done >"$work/calls.$way"
	cat "$work/calls.$way"
	echo "$way: $(($(vmc_chan g1 takeovers) - before)) directions of g1's went local"
	if [ $way = ring ]; then assert_ge $(($(vmc_chan g1 takeovers) - before)) 9 "directions that went local"
	else assert_eq $(($(vmc_chan g1 takeovers) - before)) 0 "directions that went local, with earning out of reach"; fi
done
g2 "pkill -f '[c]alls.py serve'; [ ! -s /tmp/calls.log ] || { cat /tmp/calls.log; false; }"
# the reference first: a machine that answers otherwise proves nothing
assert_eq "$(sort -u "$work/calls.network")" "reset_in_the_middle_of_a_send a part ECONNRESET EPIPE b''
signals_asked_for_late 10 told 10 told 10
urgent_byte_in_the_middle_of_a_recv 1000 1 b'!' 500" "TCP's answers"
assert_eq "$(sort -u "$work/calls.ring")" "$(sort -u "$work/calls.network")" "answers"
dmesg_clean g1 g2
