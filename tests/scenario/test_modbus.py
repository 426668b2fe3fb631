# SPDX-License-Identifier: Apache-2.0
"""The Modbus connector, end to end, with servers and clients of another maker (pymodbus), and ones that misbehave."""
import contextlib
import json
import os
import pathlib
import socket
import socketserver
import struct
import subprocess
import threading

import pytest

pytest.importorskip("pymodbus")

from modbus_peer import Peer
from plant import BUILD, Certificates, Gateway, Platform, Sim, free_port, wait_until

PEER = pathlib.Path(os.environ.get("IOTGW_PEER_FILES", pathlib.Path(__file__).resolve().parents[3] / "shared" / "configs" / "peer"))


@pytest.fixture
def platform():
    platform = Platform()
    yield platform
    platform.close()


@pytest.fixture
def run(tmp_path, platform):
    gateways = []

    def start(conf, **more):
        conf = conf if isinstance(conf, str) else {"_type": "modbus", **conf}
        gateways.append(Gateway(tmp_path / f"gateway{len(gateways)}", platform.port, {"Bus": conf}, **more))
        return gateways[-1]
    yield start
    for gateway in gateways:
        gateway.close()


@pytest.fixture
def peer():
    with contextlib.ExitStack() as stack:
        def start(*args, **kwargs):
            peer = Peer(*args, **kwargs)
            stack.callback(peer.close)
            return peer
        yield start


def point(tag, kind, address, function=3, **more):
    return {"tag": tag, "type": kind, "functionCode": function, "address": address, **more}


def slave(port, name="Pump", unit=1, **more):
    return {"deviceName": name, "host": "127.0.0.1", "port": port, "unitId": unit, "byteOrder": "BIG", "wordOrder": "BIG",
            "pollPeriod": 100, "timeout": 5, **more}


def master(*slaves):
    return {"master": {"slaves": list(slaves)}}


POINTS = {"attributes": [point("serial", "32uint", 0)],
          "timeseries": [point("t", "16int", 2, divider=10), point("f", "32float", 4), point("on", "bits", 1, 1)]}
MEMORY = {"h": {0: 1, 1: 2, 2: 215, 3: 0, 4: 0x42F6, 5: 0xE979, 6: 7, 30: 0}, "c": {0: 0, 1: 1, 2: 0, 3: 0}}


def check_values(platform, name="Pump"):
    platform.wait_for(name, serial=65538, t=21.5, f=123.456001, on=True)


class Odd(socketserver.ThreadingTCPServer):
    """A server in the test: answer(socket, tid, unit, pdu) does what it wants."""
    allow_reuse_address, daemon_threads = True, True

    def __init__(self, answer, port=0):
        sockets = self.sockets = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                sockets.append(self.request)
                with contextlib.suppress(OSError):
                    while head := self.request.recv(7, socket.MSG_WAITALL):
                        tid, _, length, unit = struct.unpack(">HHHB", head)
                        answer(self.request, tid, unit, self.request.recv(length - 1, socket.MSG_WAITALL))
        super().__init__(("127.0.0.1", port), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def constant(value):
    return lambda sock, tid, unit, pdu: sock.sendall(frame(tid, unit, registers(pdu, value)))


def frame(tid, unit, pdu):
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def registers(pdu, value):
    count = struct.unpack(">H", pdu[3:5])[0]
    return bytes([pdu[0], 2 * count]) + struct.pack(">H", value) * count


def test_a_device_is_read_in_the_fewest_requests(peer, platform, run):
    port = free_port()
    server = peer("tcp", "socket", port, {1: MEMORY})
    run(master(slave(port, deviceType="pump", **POINTS)))
    check_values(platform)
    assert set(server.seen()) == {(3, 0, 6), (1, 1, 1)}
    server.set("h", 2, 0xFFFF)
    platform.wait_for("Pump", t=-0.1)


@pytest.mark.parametrize("medium, framer", [("udp", "socket"), ("tcp", "rtu"), ("tcp", "ascii"), ("tls", "socket")])
def test_other_ways_to_a_device(peer, platform, run, tmp_path, medium, framer):
    port = free_port()
    certificates = Certificates(tmp_path / "certs") if medium == "tls" else None
    peer(medium, framer, port, {1: MEMORY}, certificate=[certificates.server_cert, certificates.server_key] if certificates else None)
    way = {"method": "tls"} if medium == "tls" else {"type": medium, "method": framer}
    run(master(slave(port, **way, **POINTS)))
    check_values(platform)


@pytest.mark.parametrize("framer", ["rtu", "ascii"])
def test_units_of_a_serial_line(peer, platform, run, tmp_path, framer):
    ends = [str(tmp_path / name) for name in ("device", "gateway")]
    socat = subprocess.Popen(["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)])
    try:
        wait_until(lambda: all(pathlib.Path(end).exists() for end in ends), "the line is there")
        peer("serial", framer, ends[0], {1: MEMORY, 2: MEMORY})
        line = {"type": "serial", "method": framer, "baudrate": 19200}
        run(master(slave(ends[1], "One", 1, **line, **POINTS), slave(ends[1], "Two", 2, **line, **POINTS)))
        check_values(platform, "One")
        check_values(platform, "Two")
    finally:
        socat.terminate()
        socat.wait()


def test_a_refused_address_costs_its_own_value_only(peer, platform, run):
    port = free_port()
    server = peer("tcp", "socket", port, {1: MEMORY})
    gateway = run(master(slave(port, timeseries=[point("t", "16int", 2), point("hole", "16int", 9), point("far", "16int", 30)])))
    platform.wait_for("Pump", t=215, far=0)
    gateway.wait_log("a value cannot be read")
    server.seen()
    server.set("h", 2, 5)
    platform.wait_for("Pump", t=5)
    assert (3, 2, 8) not in server.seen() and "hole" not in platform.latest("Pump")


def test_calls_and_attributes_of_the_platform(peer, platform, run):
    port = free_port()
    server = peer("tcp", "socket", port, {1: MEMORY, 2: MEMORY})
    run(master(slave(port, **POINTS, rpc=[point("setLevel", "16int", 6, 6), point("getLevel", "16int", 6)],
                     attributeUpdates=[point("relay", "bits", 3, 5), point("level", "32float", 4, 16)]),
               slave(port, "Other", 2, **POINTS)))
    check_values(platform)
    check_values(platform, "Other")
    platform.rpc("Pump", 1, "setLevel", -5)
    platform.rpc("Pump", 2, "getLevel")
    platform.rpc("Pump", 3, "setLevel", 99999)
    platform.rpc("Pump", 4, "get", "type=16uint;functionCode=3;objectsCount=1;address=2;")
    platform.rpc("Pump", 5, "set", "type=16uint;functionCode=6;objectsCount=1;address=999;value=1;")
    platform.rpc("Pump", 6, "nothing")
    platform.own_rpc(7, "modbus_read", {"type": "16uint", "functionCode": 3, "address": 2, "objectsCount": 1})
    platform.own_rpc(8, "modbus_try", {"host": "127.0.0.1", "port": port, "unitId": 2, "type": "16uint", "functionCode": 3, "address": 2,
                                       "byteOrder": "BIG"})
    replies = platform.wait_replies(8)
    assert replies[1] == {"result": {"value": -5}} and replies[2] == {"result": {"value": -5}}
    assert "99999" in replies[3]["result"]["error"]
    assert replies[4] == {"result": {"value": 215}}
    assert "illegal data address" in replies[5]["result"]["error"] and "Method not found" in replies[6]["result"]["error"]
    assert replies["own 7"] == [{"result": 215, "device_name": "Pump"}, {"result": 215, "device_name": "Other"}]
    assert replies["own 8"][0]["result"] == 215
    assert server.get("h", 6) == [0xFFFB]
    platform.update("Pump", relay=True, level=1.5, unknown=1)
    platform.wait_for("Pump", f=1.5)
    wait_until(lambda: server.get("c", 3) == [1], "the relay is on")


def test_devices_are_connected_while_they_answer(platform, run):
    server = Odd(constant(1))
    run(master(slave(server.port, timeout=0.3, retries=0, waitAfterFailedAttemptsMs=1000, timeseries=[point("t", "16int", 2)])))
    platform.wait_for("Pump", t=1)
    server.stop()
    wait_until(lambda: platform.stats()["disconnects"] >= 1, "the device is disconnected")
    connects = platform.stats()["connects"]
    server = Odd(constant(2), server.port)
    platform.wait_for("Pump", t=2)
    wait_until(lambda: platform.stats()["connects"] > connects, "the device is connected again")
    server.stop()


def test_those_that_misbehave_delay_nobody_and_tell_nothing_wrong(peer, platform, run):
    def wrong_length(sock, tid, unit, pdu):
        sock.sendall(frame(tid, unit, bytes([3, 4, 0, 9])))

    def foreign(sock, tid, unit, pdu):
        sock.sendall(frame(tid + 1, unit, registers(pdu, 9)) + frame(tid, unit + 1, registers(pdu, 9)))

    odd = {"silent": Odd(lambda *args: None), "wrong": Odd(wrong_length), "foreign": Odd(foreign),
           "garbage": Odd(lambda sock, *rest: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
           "pieces": Odd(lambda sock, tid, unit, pdu: [sock.send(bytes([b])) for b in frame(tid, unit, registers(pdu, 7))])}
    port = free_port()
    server = peer("tcp", "socket", port, {1: MEMORY})
    points = {"timeseries": [point("t", "16int", 2)]}
    run(master(*(slave(one.port, name, timeout=0.2, retries=0, **points) for name, one in odd.items()),
               slave(port, "Good", **points)))
    platform.wait_for("pieces", t=7)
    for value in range(1, 4):
        server.set("h", 2, value)
        platform.wait_for("Good", t=value)
    for name in ("silent", "wrong", "foreign", "garbage"):
        assert "t" not in platform.latest(name)
    for one in odd.values():
        one.stop()


FAULTS = ["delay 150:30", "late 300:30", "drop 30", "exception 4:30", "exception 6:30", "length 30", "cut 30", "split 100", "tid 30", "unit 30",
          "twice 50", "noise 30", "hangup 30"]


def test_no_fault_of_a_server_makes_a_value_wrong_or_holds_up_another(platform, run):
    """Each register holds its address, so a value out of another answer would show."""
    sim, calm = Sim("modbus", "--units", 4), Sim("modbus")

    def points(unit):
        return [point(f"r{address}", "16uint", address) for address in range(100 * unit, 100 * unit + 40)]

    def expected(unit):
        return {f"r{address}": address for address in range(100 * unit, 100 * unit + 40)}
    try:
        bad = [slave(sim.port, f"Bad {unit}", unit, timeout=0.2, retries=1, mergeReads=unit % 2 == 0, connectAttemptTimeMs=500,
                     waitAfterFailedAttemptsMs=1000, maxInFlight=4, timeseries=points(unit)) for unit in range(1, 5)]
        run(master(*bad, slave(calm.port, "Good", 1, timeseries=points(1))))
        platform.wait_for("Good", **expected(1))
        for fault in FAULTS:
            answer = sim.ask(f"fault {fault}")
            assert "error" not in answer, answer
            before = platform.values("Good")["telemetry"]["r100"]["ts"]
            wait_until(lambda: platform.values("Good")["telemetry"]["r100"]["ts"] >= before + 1000, f"the good one goes on under {fault}")
            sim.ask("heal")
            for unit in range(1, 5):
                latest = platform.latest(f"Bad {unit}")
                wrong = {k: latest[k] for k, v in expected(unit).items() if latest.get(k, v) != v}
                assert not wrong, (fault, unit, wrong)
        for unit in range(1, 5):
            platform.wait_for(f"Bad {unit}", **expected(unit))
    finally:
        sim.close()
        calm.close()


def test_the_gateway_serves_its_own_values(platform, run):
    port = free_port()
    gateway = run({"slave": {"host": "127.0.0.1", "port": port, "unitId": 1, "deviceName": "Own", "pollPeriod": 60000,
                             "sendDataToThingsBoard": True, "byteOrder": "BIG", "wordOrder": "BIG", "identity": {"vendorName": "ACME"},
                             "values": {"holding_registers": {
                                 "timeseries": [{"tag": "sp", "type": "32float", "address": 10, "objectsCount": 2, "value": 1.5}],
                                 "attributeUpdates": [{"tag": "limit", "type": "16int", "address": 20, "functionCode": 6, "value": 3}],
                                 "rpc": [{"tag": "show", "type": "16int", "address": 20, "functionCode": 3}]}}}})
    platform.wait_for("Own", sp=1.5)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        def ask(pdu, tid=1):
            sock.sendall(frame(tid, 1, pdu))
            head = sock.recv(7, socket.MSG_WAITALL)
            return sock.recv(struct.unpack(">H", head[4:6])[0] - 1, socket.MSG_WAITALL)

        assert ask(b"\x03\x00\x0a\x00\x02") == b"\x03\x04\x3f\xc0\x00\x00"
        assert ask(b"\x03\x00\x0b\x00\x02") == b"\x83\x02"
        assert ask(b"\x04\xff\xff\x00\x01") == b"\x04\x02\x00\x00"
        assert ask(b"\x10\x00\x0a\x00\x02\x04\x40\x20\x00\x00") == b"\x10\x00\x0a\x00\x02"
        platform.wait_for("Own", sp=2.5)  # at once, not at the next period
        assert b"ACME" in ask(b"\x2b\x0e\x01\x00")
        assert ask(b"\x63") == b"\xe3\x01"
        platform.update("Own", limit=44)
        wait_until(lambda: ask(b"\x03\x00\x14\x00\x01") == b"\x03\x02\x00\x2c", "the attribute is written")
        platform.rpc("Own", 1, "show")
        assert platform.wait_replies(1)[1] == {"result": {"value": 44}}
        sock.sendall(b"\xff" * 300)  # no Modbus
        with contextlib.suppress(OSError):
            assert sock.recv(1) == b""
    assert gateway.stop() == 0


@pytest.mark.skipif(not PEER.is_dir(), reason="the peer's example files are not here")
def test_the_peers_example_runs_as_it_is(peer, platform, run):
    conf = json.loads((PEER / "modbus.json").read_text())
    port = free_port()
    conf["master"]["slaves"][0]["port"] = port
    little = {"h": {0: 215, 1: 500, 2: 2300, 3: 500}, "c": {0: 0, 1: 1, 2: 0}}
    peer("tcp", "socket", port, {1: little})
    run(conf)
    platform.wait_for("Demo Device", temperature=21.5, humidity=50.0, power=230.0, frequency=50.0, relay=True)


@pytest.mark.skipif(not PEER.is_dir(), reason="the peer's example files are not here")
def test_the_peers_serial_example_runs_with_another_port(peer, platform, run, tmp_path):
    conf = json.loads((PEER / "modbus_serial.json").read_text())
    ends = [str(tmp_path / name) for name in ("device", "gateway")]
    socat = subprocess.Popen(["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)])
    try:
        wait_until(lambda: all(pathlib.Path(end).exists() for end in ends), "the line is there")
        peer("serial", "rtu", ends[0], {1: {"i": {1: 215, 2: 50, 3: 0, 4: 7}, "c": {31: 1}}})
        conf["master"]["slaves"][0]["port"] = ends[1]
        run(conf)
        platform.wait_for("Modbus Temperature Sensor", temperature=215, humidity=50)
        platform.rpc("Modbus Temperature Sensor", 1, "getValue")
        assert platform.wait_replies(1)[1] == {"result": {"value": True}}
    finally:
        socat.terminate()
        socat.wait()


def test_figures_of_each_device_are_shown(run, peer, platform):
    port = free_port()
    peer("tcp", "socket", port, {1: MEMORY})
    gateway = run(master(slave(port, timeseries=[point("t", "16int", 2, divider=10), point("none", "16int", 25)])))
    platform.wait_for("Pump", t=21.5)

    def shown(*more):
        return subprocess.run([str(BUILD / "iotgw"), "-c", str(gateway.directory), "status", "--endpoints", *more, "Bus"], capture_output=True, text=True, env=gateway.env).stdout

    pump = wait_until(lambda: [e for e in json.loads(shown("--json"))["endpoints"] if e["figures"].get("exception2")], "an exception is counted")[0]
    assert pump["figures"]["timesConnected"] == 1 and pump["figures"]["badAnswers"] == 0 and pump["name"].startswith("Pump, unit 1"), pump
    assert " exception 2" in shown(), shown()
