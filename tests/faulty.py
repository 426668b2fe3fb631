# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in the scenarios: a disk and a clock (tests/shim/faults.c), a line (a proxy), a platform that is killed."""
import contextlib
import json
import mmap
import os
import pathlib
import random
import selectors
import signal
import socket
import struct
import threading
import time

from plant import BUILD, Platform

SHIM = BUILD / "tests" / "shim" / "faults.so"
FIELDS = ("wall_ms", "write_errno", "sync_errno", "make_errno", "room", "short_bytes", "is_hung", "sync_ms", "kill_at",
          "n_writes", "n_syncs", "n_makes", "n_failed", "n_hung")
SEED = int(os.environ.get("IOTGW_SEED", 20))


def chance(what):
    """A source of random numbers of its own for each test; IOTGW_SEED makes other ones."""
    return random.Random(f"{SEED} {what}")


class Faults:
    """The disk and the clock of a gateway: faults.sync_errno = errno.EIO; faults.n_syncs. env() makes it preload the shim."""

    def __init__(self, path, directory=None):
        self.__dict__["path"], self.__dict__["directory"] = pathlib.Path(path), directory
        self.path.write_bytes(bytes(8 * len(FIELDS)))
        with open(self.path, "r+b") as file:
            self.__dict__["map"] = mmap.mmap(file.fileno(), 0)
        self.room = -1

    def env(self):
        return {"LD_PRELOAD": str(SHIM), "IOTGW_FAULTS": str(self.path), "IOTGW_FAULTS_DIR": str(self.directory or ""),
                "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def __getattr__(self, name):
        return struct.unpack_from("q", self.map, 8 * FIELDS.index(name))[0]

    def __setattr__(self, name, value):
        struct.pack_into("q", self.map, 8 * FIELDS.index(name), value)

    def heal(self):
        for name in FIELDS[:9]:
            if name != "wall_ms":
                setattr(self, name, -1 if name == "room" else 0)


class Proxy:
    """The line between gateway and platform. One thread; every attribute may be changed at any time.

    is_frozen: nothing passes in either direction, nothing is closed, new connections are taken and left alone: half-open.
    is_held_down: nothing passes towards the gateway: no CONNACK, no PUBACK.
    rate: bytes a second towards the platform, in small pieces; 0: all at once.
    budget: called for each new connection; bytes towards the platform after which it is closed, or None.
    is_rude: closes with a reset."""

    def __init__(self, target):
        self.target, self.is_frozen, self.is_held_down, self.rate, self.budget, self.is_rude = target, False, False, 0, None, False
        self.n_connections, self.n_cut, self.n_bytes = 0, 0, 0
        self.pairs, self.drop_now, self.is_over = [], False, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def drop(self):
        self.drop_now = True

    def close(self):
        self.is_over = True
        self.thread.join(5)

    class _Pair:
        def __init__(self, near, far, budget):
            self.near, self.far, self.left, self.due, self.held = near, far, budget, 0.0, {near: b"", far: b""}

    def _close_pair(self, pair):
        for one in (pair.near, pair.far):
            if self.is_rude:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        self.pairs.remove(pair)

    def _accept(self):
        with contextlib.suppress(OSError):
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 1)
            except OSError:
                near.close()
                return
            near.setblocking(False)
            far.setblocking(False)
            self.n_connections += 1
            self.pairs.append(self._Pair(near, far, self.budget() if self.budget else None))

    def _pass(self, pair, source, sink, is_up):
        """Moves what is there; False: the pair is to be closed."""
        held = pair.held[source]
        if not held:
            try:
                n = 256 if is_up and self.rate else 65536
                held = source.recv(n)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not held:
                return False
        is_cut = False
        if is_up and pair.left is not None and len(held) >= pair.left:
            held, is_cut = held[:pair.left], True
        try:
            n = sink.send(held) if held else 0
        except BlockingIOError:
            n = 0
        except OSError:
            return False
        if is_up:
            self.n_bytes += n
            if pair.left is not None:
                pair.left -= n
            if self.rate:
                pair.due = time.monotonic() + n / self.rate
            if is_cut and n == len(held):
                self.n_cut += 1
                return False
        pair.held[source] = held[n:]
        return True

    def _run(self):
        while not self.is_over:
            if self.drop_now:
                self.drop_now = False
                for pair in list(self.pairs):
                    self._close_pair(pair)
            with selectors.DefaultSelector() as selector:
                selector.register(self.listener, selectors.EVENT_READ, None)
                now = time.monotonic()
                for pair in self.pairs:
                    for source, sink, is_up in ((pair.near, pair.far, True), (pair.far, pair.near, False)):
                        if self.is_frozen or (not is_up and self.is_held_down) or (is_up and pair.due > now):
                            continue
                        if pair.held[source]:
                            with contextlib.suppress(KeyError):
                                selector.register(sink, selectors.EVENT_WRITE, (pair, source, sink, is_up))
                        else:
                            with contextlib.suppress(KeyError):
                                selector.register(source, selectors.EVENT_READ, (pair, source, sink, is_up))
                ready = selector.select(0.01)
            for key, _ in ready:
                if key.data is None:
                    self._accept()
                elif key.data[0] in self.pairs and not self._pass(*key.data):
                    self._close_pair(key.data[0])
        for pair in list(self.pairs):
            self._close_pair(pair)
        self.listener.close()


class MortalPlatform:
    """A platform that can be killed: what it acknowledged stands in its journal, and it knows that when it is started again."""

    def __init__(self, journal, *args, max_inflight=100):
        limits = json.dumps({"maxPayloadSize": 65536, "maxInflightMessages": max_inflight, "rateLimits": {}, "gatewayRateLimits": {}})
        self.args = (*args, "--journal", str(journal), "--limits", limits)
        self.now = Platform(*self.args)
        self.proxy = Proxy(self.now.port)
        self.port = self.proxy.port

    def kill(self):
        self.now.process.send_signal(signal.SIGKILL)
        self.now.process.wait()

    def start(self):
        self.now = Platform(*self.args)
        self.proxy.target = self.now.port

    def freeze(self):
        self.now.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.now.process.send_signal(signal.SIGCONT)

    def stats(self):
        return self.now.stats()

    def ask(self, command):
        return self.now.ask(command)

    def close(self):
        self.thaw()
        self.now.close()
        self.proxy.close()
