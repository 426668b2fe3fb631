# SPDX-License-Identifier: Apache-2.0
"""After an outage what waited is delivered beside what is new (DESIGN 4, lanes; 7, invariants 2, 3, 4)."""
import signal

import pytest
from plant import Broker, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

STORAGES = {
    "memory": {"type": "memory", "max_records_count": 1000000, "read_records_count": 100},
    "file": {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 1000},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/"},
}
BACKLOG = 20000  # messages of three values


def plant(made, kind, rate):
    platform = made(Platform, "--shared-seq")
    source = made(Source, "--devices", 10, "--window", 1000)
    broker = made(Broker)
    connectors = {
        "Plant": mqtt_connector(source.port, [mqtt_mapping(keys=("seq", "temperature", "state"))]),
        "Fresh": mqtt_connector(broker.port, [mqtt_mapping(topic="fresh/+/data", name="(?<=fresh/)(.*?)(?=/data)", keys=("temperature",))]),
    }
    gateway = made(Gateway, platform.port, connectors, storage={**STORAGES[kind], "backlogRate": rate})
    return platform, source, broker, gateway


def have_an_outage(platform, source):
    source.ask("run 200")
    wait_until(lambda: platform.stats()["uniq"] == 200, "the first ones arrive")
    platform.ask("down")
    source.ask(f"run {BACKLOG}")
    wait_until(lambda: source.stats()["accepted"] == BACKLOG + 200, "all are accepted")


def publish_fresh(broker, n):
    broker.publish("fresh/new/data", f'{{"temperature": {n}}}')


@pytest.mark.parametrize("kind", STORAGES)
def test_a_device_without_backlog_is_current_while_the_backlog_drains(made, kind):
    platform, source, broker, gateway = plant(made, kind, 12000)
    gateway.wait_log("connected")
    have_an_outage(platform, source)
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] > 200, "the backlog is being delivered")
    for n in range(1, 4):
        publish_fresh(broker, n)
        platform.wait_for("new", temperature=n)
    assert platform.stats()["uniq"] < BACKLOG / 2, "the backlog is still there"
    source.ask("run 500")  # of devices with a backlog: behind it
    wait_until(lambda: platform.stats()["uniq"] == BACKLOG + 700, "everything arrives", 40)
    stats = platform.stats()
    assert stats["ooo"] == 0
    assert stats["dup"] == 0
    assert gateway.stop() == 0


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_killed_and_cut_off_in_the_midst_of_a_backlog(made, kind):
    platform, source, broker, gateway = plant(made, kind, 30000)
    gateway.wait_log("connected")
    have_an_outage(platform, source)
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] > 1500, "the backlog is being delivered")
    platform.ask("drop")
    publish_fresh(broker, 1)
    source.ask("run 300")
    platform.wait_for("new", temperature=1)
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    gateway.start()
    wait_until(lambda: source.stats()["inflight"] == 0, "all are accepted")
    accepted = source.stats()["accepted"]
    wait_until(lambda: platform.stats()["uniq"] >= accepted, "everything arrives", 40)
    assert platform.ask(f"missing 0 {accepted}")["missing"] == []
    publish_fresh(broker, 2)
    platform.wait_for("new", temperature=2)
    assert gateway.stop() == 0
