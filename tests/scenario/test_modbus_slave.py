# SPDX-License-Identifier: Apache-2.0
"""The gateway as a Modbus server: masters of other makers (mbpoll), and ones that do harm."""
import contextlib
import pathlib
import shutil
import socket
import struct
import subprocess

import pytest

from plant import LIMIT_S, Gateway, Platform, free_port, wait_until

VALUES = {"holding_registers": {"timeseries": [{"tag": "sp", "type": "16int", "address": 10, "value": 15}]}}


def own(port, **more):
    return {"_type": "modbus", "slave": {"host": "127.0.0.1", "port": port, "unitId": 1, "deviceName": "Own", "pollPeriod": 3600000,
                                         "sendDataToThingsBoard": True, "byteOrder": "BIG", "wordOrder": "BIG", "values": VALUES, **more}}


def mbpoll(*args):
    run = subprocess.run(["mbpoll", "-1", "-0", "-r", "10", *map(str, args)], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return run.returncode, run.stdout + run.stderr


def request(pdu, unit=1):
    return struct.pack(">HHHB", 7, 0, len(pdu) + 1, unit) + pdu


def works(sock):
    sock.sendall(request(b"\x03\x00\x0a\x00\x01"))
    return sock.recv(11, socket.MSG_WAITALL)[7:9] == b"\x03\x02"


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="mbpoll is not installed")
def test_mbpoll_reads_and_writes(made, tmp_path):
    platform, port = made(Platform), free_port()
    made(Gateway, platform.port, {"Own": own(port)})
    platform.wait_for("Own", sp=15)
    code, said = mbpoll("-m", "tcp", "-p", port, "-a", 1, "-t", 4, "127.0.0.1")
    assert code == 0 and "15" in said.split("[10]:")[1]
    assert mbpoll("-m", "tcp", "-p", port, "-a", 1, "127.0.0.1", 99)[0] == 0
    platform.wait_for("Own", sp=99)  # an hour before the next period

    ends = [str(tmp_path / name) for name in ("master", "gateway")]
    socat = subprocess.Popen(["socat", *(f"pty,raw,echo=0,link={end}" for end in ends)])
    try:
        wait_until(lambda: all(pathlib.Path(end).exists() for end in ends), "the line is there")
        made(Gateway, platform.port, {"Line": own(ends[1], type="serial", deviceName="Line")})
        platform.wait_for("Line", sp=15)
        line = ("-m", "rtu", "-b", 19200, "-P", "none", "-a", 1)
        wait_until(lambda: mbpoll(*line, ends[0], 7)[0] == 0, "the line is served")
        platform.wait_for("Line", sp=7)
    finally:
        socat.terminate()
        socat.wait()


def test_those_who_do_harm_keep_no_master_out(made):
    platform, port = made(Platform), free_port()
    gateway = made(Gateway, platform.port, {"Own": own(port)})
    platform.wait_for("Own", sp=15)
    with contextlib.ExitStack() as stack:
        def connect():
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S))
        master = connect()
        assert works(master)
        for _ in range(300):  # more than are served; each leaves half a request
            connect().sendall(request(b"\x03\x00\x0a\x00\x01")[:9])
        assert works(connect())  # the one that was silent the longest has made room
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 300, struct.pack(">HHHB", 1, 0, 1000, 1) + bytes(999)):
            sock = connect()
            sock.sendall(garbage)
            with contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
        slow = connect()
        for byte in request(b"\x06\x00\x0a\x00\x2a"):
            slow.sendall(bytes([byte]))
        assert slow.recv(12, socket.MSG_WAITALL)[7:] == b"\x06\x00\x0a\x00\x2a"
        platform.wait_for("Own", sp=42)
    assert gateway.stop() == 0


def pymodbus_reads_and_writes(client):
    assert client.connect()
    try:
        assert client.read_holding_registers(10, count=1, slave=1).registers == [15]
        assert not client.write_register(10, 77, slave=1).isError()
        assert client.read_holding_registers(10, count=1, slave=1).registers == [77]
        assert client.read_holding_registers(11, count=1, slave=1).exception_code == 2
    finally:
        client.close()


@pytest.mark.parametrize("way", ["tcp", "udp", "ascii"])
def test_pymodbus_reads_and_writes(made, way):
    pytest.importorskip("pymodbus")
    from pymodbus.client import ModbusTcpClient, ModbusUdpClient
    try:
        from pymodbus.framer import FramerType
        ascii_framer = FramerType.ASCII
    except ImportError:
        from pymodbus.transaction import ModbusAsciiFramer as ascii_framer

    platform, port = made(Platform), free_port()
    made(Gateway, platform.port, {"Own": own(port, **{"tcp": {}, "udp": {"type": "udp"}, "ascii": {"method": "ascii"}}[way])})
    platform.wait_for("Own", sp=15)
    more = {"framer": ascii_framer} if way == "ascii" else {}
    pymodbus_reads_and_writes((ModbusUdpClient if way == "udp" else ModbusTcpClient)("127.0.0.1", port=port, timeout=LIMIT_S, **more))
    platform.wait_for("Own", sp=77)


def test_a_strict_server_answers_its_own_unit_alone(made):
    platform, strict, easy = made(Platform), free_port(), free_port()
    made(Gateway, platform.port, {"Own": own(strict, strictUnitId=True), "Easy": own(easy, deviceName="Easy", sendDataToThingsBoard=False, enabled=True)})
    platform.wait_for("Own", sp=15)

    def connect(port):
        return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
    with connect(strict) as sock:
        sock.sendall(request(b"\x03\x00\x0a\x00\x01", unit=9))
        assert works(sock)  # the first answer is that of the second request
    with connect(easy) as sock:  # enabled: served, and nothing of it is reported
        sock.sendall(request(b"\x03\x00\x0a\x00\x01", unit=9))
        assert sock.recv(11, socket.MSG_WAITALL)[6:9] == b"\x09\x03\x02"
        assert works(sock)
