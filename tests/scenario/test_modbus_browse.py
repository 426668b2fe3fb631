# SPDX-License-Identifier: Apache-2.0
"""`iotgw test-connection` and `iotgw browse` for Modbus: which connections can be made, which units answer, and what can be read of them."""
import json
import os
import pty
import subprocess

import pytest

pytest.importorskip("pymodbus")

from modbus_peer import Peer
from plant import BUILD, LIMIT_S, Gateway, Platform, free_port

MEMORY = {1: {"h": {**{i: 3 * i for i in range(10)}, 20: 5}, "c": {0: 1, 1: 0, 2: 1}}, 5: {"h": {0: 7}}}


def slave(port, unit, name, address=0, **more):
    return {"deviceName": name, "host": "127.0.0.1", "port": port, "unitId": unit, "byteOrder": "BIG", "wordOrder": "BIG", "timeout": 2,
            "timeseries": [{"tag": "x", "type": "16int", "functionCode": 3, "address": address}], **more}


def iotgw(made, conf, *args):
    gateway = made(Gateway, 1883, {"Bus": {"_type": "modbus", **conf}}, start=False)
    return subprocess.run([str(BUILD / "iotgw"), "-c", str(gateway.directory), *args], capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_each_connection_and_each_unit_is_told_of(made):
    port, closed = free_port(), free_port()
    made(Peer, "tcp", "socket", port, MEMORY)
    run = iotgw(made, {"master": {"slaves": [slave(port, 1, "Good"), slave(port, 5, "Hole", 9), slave(port, 9, "Silent", retries=0),
                                             slave(closed, 1, "Gone"), slave("/no/such/line", 1, "Line", type="serial")]}},
                "test-connection", "Bus", "--json")
    said = {link["link"].split(",")[0]: (link["state"], link["reason"]) for link in json.loads(run.stdout)["links"]}
    assert run.returncode == 1 and said[f"tcp://127.0.0.1:{port}"] == said["Good"] == ("up", "")
    assert said["Hole"][0] == "degraded" and "read holding registers 9 to 9: illegal data address (exception 2)" in said["Hole"][1]
    assert said["Silent"][0] == "down" and "unit 9 has not answered within 2000 ms" in said["Silent"][1]
    assert said[f"tcp://127.0.0.1:{closed}"][0] == "down" and "refused" in said[f"tcp://127.0.0.1:{closed}"][1]
    assert said["/no/such/line"][0] == "down" and "Gone" not in said


def test_a_server_that_could_listen_is_told_so(made):
    port = free_port()
    own = {"slave": {"host": "127.0.0.1", "port": port, "unitId": 1, "sendDataToThingsBoard": True, "values": {
        "holding_registers": {"timeseries": [{"tag": "sp", "type": "16int", "address": 10, "value": 1}]}}}}
    run = iotgw(made, own, "test-connection", "Bus")
    assert run.returncode == 0 and f"server at tcp://127.0.0.1:{port}: connected" in run.stdout
    made(Peer, "tcp", "socket", port, MEMORY)
    run = iotgw(made, own, "test-connection", "Bus")
    assert run.returncode == 1 and "in use" in run.stdout


def test_what_can_be_read_is_found_and_is_ready_configuration(made):
    port, platform = free_port(), made(Platform)
    server = made(Peer, "tcp", "socket", port, MEMORY)
    conf = {"master": {"slaves": [slave(port, 1, "Pump")]}}
    path = f"tcp://127.0.0.1:{port}/1,5/*/0-25"
    items = [json.loads(line) for line in iotgw(made, conf, "browse", "Bus", path, "--json", "--seconds", "60").stdout.splitlines()]
    found = {item["name"].split(" ", 1)[1]: item["sample"] for item in items if item["type"] in ("registers", "bits")}
    assert found == {"unit 1 coils 0-2": "1 0 1", "unit 1 holding_registers 0-9": "0 3 6 9 12 15 18 21 …",
                     "unit 1 holding_registers 20": "5", "unit 5 holding_registers 0": "7"}
    assert not [one for unit in (1, 5) for one in server.seen(unit) if one[0] > 4]  # nothing is written

    slaves = json.loads(iotgw(made, conf, "browse", "Bus", path, "--configuration", "--seconds", "60").stdout)
    assert [(one["deviceName"], one["unitId"]) for one in slaves] == [("Pump", 1), (f"Modbus unit 5 at tcp://127.0.0.1:{port}", 5)]
    made(Gateway, platform.port, {"Bus": {"_type": "modbus", "master": {"slaves": slaves}}})
    platform.wait_for("Pump", holding_registers_9=27, holding_registers_20=5, coils_0=True, coils_1=False)
    platform.wait_for(f"Modbus unit 5 at tcp://127.0.0.1:{port}", holding_registers_0=7)


def test_a_look_that_fails_or_is_cut_short_says_so(made):
    run = iotgw(made, {"master": {"slaves": [slave(free_port(), 1, "Gone")]}}, "browse", "Bus")
    assert run.returncode == 1 and "refused" in run.stderr
    for path in ("9/x", "300", "5-1", "1/*/0-70000", "1/*/0/0"):
        run = iotgw(made, {"master": {"slaves": [slave(free_port(), 1, "Gone")]}}, "browse", "Bus", path)
        assert run.returncode == 1 and "expected UNITS/AREA/ADDRESSES" in run.stderr
    master, line = pty.openpty()  # nobody is on it
    try:
        run = iotgw(made, {"master": {"slaves": [slave(os.ttyname(line), 1, "Line", type="serial")]}}, "browse", "Bus", "1-247", "--seconds", "2")
        assert run.returncode == 0 and "--seconds gives more time" in run.stdout
    finally:
        os.close(master)
        os.close(line)
