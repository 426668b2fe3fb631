# SPDX-License-Identifier: Apache-2.0
"""Local control: what the running gateway says and does when it is asked over its socket."""
import json
import os
import pathlib
import socket
import stat
import subprocess
import time

import plant
import pytest

FIELDS = ("collected", "delivered", "waiting", "overflow", "age", "rejected")


def iotgw(gateway, *args, env=None, limit_s=plant.LIMIT_S):
    return subprocess.run([str(plant.BUILD / "iotgw"), *args, "-c", str(gateway.directory)], capture_output=True, text=True, timeout=limit_s,
                          env={**gateway.env, **(env or {})})


def ask(gateway, *args):
    done = iotgw(gateway, *args, "--json")
    assert done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def assert_balances(row):
    assert row["collected"] == sum(row[k] for k in FIELDS[1:]), row
    assert row["read"] == row["collected"] - row["repeated"] + row["unchanged"] + row["failed"], row
    assert all(v < 1 << 62 for v in row.values()), row


def ledger(gateway):
    """In total; balanced, as each connector's and each device's."""
    status, devices = ask(gateway, "status"), ask(gateway, "status", "--devices")["devices"]
    assert_balances(status["ledger"])
    for part in [*status["connectors"], *devices]:
        if "ledger" in part:
            assert_balances(part["ledger"])
    return status["ledger"]


def is_running(gateway):
    return iotgw(gateway, "status", "--json").returncode == 0 and ask(gateway, "status")["gateway"]["state"] == "running"


@pytest.fixture
def plant_of(made):
    def make(n=1, **kwargs):
        platform, broker = made(plant.Platform), made(plant.Broker)
        connectors = {f"Plant {i}" if i else "Plant": plant.mqtt_connector(broker.port) for i in range(n)}
        gateway = made(plant.Gateway, platform.port, connectors, **kwargs)
        if gateway.process:
            plant.wait_until(lambda: is_running(gateway), "the gateway runs")
        return platform, broker, gateway
    return make


def publish(broker, n, device="a", first=0):
    broker.publish_lines(f"sensors/{device}/data", [{"seq": i, "temperature": i / 2} for i in range(first, first + n)])


def test_without_a_gateway_the_commands_say_so(plant_of):
    _, _, gateway = plant_of(start=False)
    done = iotgw(gateway, "status")
    assert done.returncode == 69
    assert "no gateway runs" in done.stderr


def test_status_tells_of_links_storage_and_values(plant_of):
    platform, broker, gateway = plant_of()
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    publish(broker, 100)
    plant.wait_until(lambda: ledger(gateway)["delivered"] == 200, "all is delivered")
    status = ask(gateway, "status")
    assert status["platform"]["state"] == "up" and status["platform"]["port"] == platform.port
    assert status["storage"]["type"] == "memory" and status["storage"]["events"] == 0 and status["storage"]["trouble"] is None
    assert [c["name"] for c in status["connectors"]] == ["Plant"]
    assert status["connectors"][0]["links"][0]["state"] == "up"
    assert status["connectors"][0]["counters"]["messagesIn"] >= 100
    assert status["connectors"][0]["counters"]["telemetryValues"] == 200
    assert status["ledger"]["collected"] == 200 and status["ledger"]["waiting"] == 0
    device = ask(gateway, "status", "--devices", "a")["devices"]
    assert device[0]["name"] == "a" and device[0]["connector"] == "Plant" and device[0]["ledger"]["delivered"] == 200
    text = iotgw(gateway, "status").stdout
    assert "Plant" in text and "200 collected" in text, text
    assert iotgw(gateway, "status", "--devices", "nobody").returncode == 1
