# SPDX-License-Identifier: Apache-2.0
"""The Modbus simulator itself, asked by mbpoll (libmodbus) and by bytes: framings, patterns, faults, figures."""
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sim"))

from steer import SimError, Simulator, wait_until  # noqa: E402

SIM = pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build")) / "iotgw-sim"
needs_mbpoll = pytest.mark.skipif(not shutil.which("mbpoll"), reason="mbpoll is not installed: ./dev setup")


def mbpoll(*args):
    """{address: value} as it prints them."""
    done = subprocess.run(["mbpoll", "-0", "-1", "-o", "5", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return {int(address): int(value) for address, value in re.findall(r"^\[(\d+)\]:\s+(-?\d+)", done.stdout, re.M)}


class Client:
    """Modbus TCP of bytes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)

    def send(self, tid, unit, pdu):
        self.socket.sendall(struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            chunk = self.socket.recv(n - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def answer(self):
        tid, _, n, unit = struct.unpack(">HHHB", self.exactly(7))
        return tid, unit, self.exactly(n - 1)

    def ask(self, unit, pdu, tid=1):
        self.send(tid, unit, pdu)
        return self.answer()


def read(address, n, function=3):
    return struct.pack(">BHH", function, address, n)


@pytest.fixture
def sim():
    with Simulator(SIM, "modbus", "--ports", 2, "--units", 5) as simulator:
        yield simulator


@needs_mbpoll
def test_mbpoll_reads_and_writes_over_tcp(sim):
    def at(*args):
        return mbpoll("-m", "tcp", "-p", sim.port, *args)

    assert at("-a", 3, "-r", 100, "-c", 5, "127.0.0.1") == {a: a for a in range(100, 105)}
    assert at("-a", 3, "-t", 0, "-r", 9, "-c", 4, "127.0.0.1") == {9: 1, 10: 0, 11: 0, 12: 1}
    at("-a", 3, "-r", 100, "127.0.0.1", 7, 8)
    assert at("-a", 3, "-r", 99, "-c", 4, "127.0.0.1") == {99: 99, 100: 7, 101: 8, 102: 102}
    assert at("-a", 4, "-r", 100, "-c", 1, "127.0.0.1") == {100: 100}
    assert sim.ask("get 0 3 holding_registers 100 2")["values"] == [7, 8]
    assert sim.ask("stats")["writes"] == 1


@needs_mbpoll
def test_mbpoll_reads_over_a_serial_line(tmp_path):
    with Simulator(SIM, "modbus", "--over", "pty", "--method", "rtu", "--link", tmp_path / "tty") as sim:
        assert sim.device == str(tmp_path / "tty")
        for parity in ("none", "even"):
            assert mbpoll("-m", "rtu", "-b", 115200, "-P", parity, "-a", 9, "-r", 50, "-c", 3, sim.device) == {50: 50, 51: 51, 52: 52}


def test_register_0_counts_polls_and_1_and_2_tell_the_time(sim):
    client = Client(sim.port)
    for i in range(3):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
        _, _, pdu = client.ask(1, read(0, 3))
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
        counter, high, low = struct.unpack(">HHH", pdu[2:])
        assert counter == i + 1
        assert before & 0xffffffff <= high << 16 | low <= after & 0xffffffff
    client.ask(2, read(10, 1))
    stats = sim.ask("stats")
    assert (stats["polls"], stats["units_polled"], stats["requests"]) == (3, 1, 4)
    assert [(u["unit"], u["polls"]) for u in sim.ask("units")["units"]] == [(1, 3), (2, 0)]


def test_each_fault_does_what_it_says(sim):
    client = Client(sim.port)
    ask = read(100, 2)
    right = (7, 1, bytes([3, 4, 0, 100, 0, 101]))
    assert client.ask(1, ask, 7) == right
    for fault, expected in {"exception 4": (7, 1, b"\x83\x04"), "length 100": (7, 1, right[2][:-1]), "tid 100": (1007, *right[1:]),
                            "unit 100": (7, 0, right[2]), "split 100": right, "delay 30": right}.items():
        sim.ask(f"fault {fault}")
        assert client.ask(1, ask, 7) == expected, fault
        sim.ask("heal")
    sim.ask("fault twice 100")
    assert [client.ask(1, ask, 7), client.answer()] == [right, right]
    sim.ask("heal")
    sim.ask("fault drop 100 unit=1 port=0")
    client.send(8, 1, ask)
    assert client.ask(2, ask, 9)[0] == 9  # nothing came for 8
    assert Client(sim.ports[1]).ask(1, ask, 7) == right
    sim.ask("heal")
    sim.ask("fault late 200 unit=1")
    client.send(8, 1, ask)
    assert client.ask(2, ask, 9)[0] == 9
    assert client.answer()[0] == 8
    sim.ask("fault hangup 100")
    with pytest.raises((EOFError, ConnectionError)):
        client.ask(1, ask)


def test_holes_and_units_that_are_not_there(sim):
    client = Client(sim.port)
    sim.ask("hole holding_registers 105 106")
    assert client.ask(1, read(100, 5))[2][0] == 3
    assert client.ask(1, read(100, 6))[2] == b"\x83\x02"
    assert client.ask(1, read(107, 1))[2][0] == 3
    client.send(1, 6, read(100, 1))  # nobody
    assert client.ask(5, read(100, 1), 2)[0] == 2
    assert client.ask(1, b"\x2b\x0e\x01\x00")[2][7:14] == b"\x00\x05iotgw"
    assert client.ask(1, b"\x63")[2] == b"\xe3\x01"


def test_servers_go_down_and_come_back_on_their_ports(sim):
    client = Client(sim.port)
    assert client.ask(1, read(9, 1))[2] == b"\x03\x02\x00\x09"
    sim.ask("down")
    with pytest.raises((EOFError, ConnectionError)):
        client.ask(1, read(9, 1))
    with pytest.raises(ConnectionError):
        Client(sim.port)
    sim.ask("up")
    assert Client(sim.port).ask(1, read(9, 1))[2] == b"\x03\x02\x00\x09"
    sim.ask("drop")
    wait_until(lambda: sim.ask("stats")["connections"] == 0, 20, "all connections are dropped")
    with pytest.raises(SimError):
        sim.ask("fault nothing 1")


def test_datagrams_are_answered():
    with Simulator(SIM, "modbus", "--over", "udp") as sim, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(("127.0.0.1", sim.port))
        client.send(struct.pack(">HHHB", 5, 0, 6, 1) + read(77, 1))
        assert client.recv(300) == struct.pack(">HHHB", 5, 0, 5, 1) + b"\x03\x02\x00\x4d"
