# SPDX-License-Identifier: Apache-2.0
"""Invariants that only the whole gateway can show, each by its number."""
import json
import pathlib
import re
import subprocess
import threading

import pytest
from plant import BUILD, Broker, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

MIB_KIB = 1024
has_own_allocator = pytest.mark.skipif(re.search("[at]san", str(BUILD)) is not None, reason="a sanitizer has memory of its own")


def lines(first, count, **more):
    return [{"ts": 1700000000000 + i, "seq": i, "temperature": 20 + i / 10, **more} for i in range(first, first + count)]


def on_two_loops(made, platform, broker):
    """Line A takes sensors/+/data, Line B meters/+/data; both have a loop of their own."""
    meters = mqtt_mapping("meters/+/data", "(?<=meters/)(.*?)(?=/data)")
    gateway = made(Gateway, platform.port, {"Line A": mqtt_connector(broker.port), "Line B": mqtt_connector(broker.port, [meters])},
                   thingsboard={"loops": 2})
    gateway.wait_log("Line A: connected")
    gateway.wait_log("Line B: connected")
    assert len(list(pathlib.Path(f"/proc/{gateway.process.pid}/task").iterdir())) >= 3  # main, and one a loop
    return gateway


def test_order_per_device_holds_over_two_connectors_on_two_loops(made):
    """Invariant 3: devices of both connectors at once, over an outage of the platform."""
    platform, broker = made(Platform), made(Broker)
    on_two_loops(made, platform, broker)
    topics = [f"{line}/{line}{i}/data" for line in ("sensors", "meters") for i in range(4)]
    platform.ask("delay 20")

    def publish(first, count):
        threads = [threading.Thread(target=broker.publish_lines, args=(topic, lines(first, count))) for topic in topics]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    publish(0, 500)
    platform.ask("down")
    publish(500, 500)
    platform.ask("up")
    publish(1000, 500)
    wait_until(lambda: platform.stats()["uniq"] >= 1500 * len(topics), f"all values; have {platform.stats()}", limit_s=60)
    stats = platform.stats()
    assert stats["uniq"] == 1500 * len(topics) and stats["ooo"] == 0 and stats["before_connect"] == 0, stats


def test_order_holds_for_a_device_that_moves_from_connector_to_connector(made):
    """Invariant 3: one device, emitted by one loop and then by the other, while earlier packs are still in flight."""
    platform, broker = made(Platform), made(Broker)
    on_two_loops(made, platform, broker)
    platform.ask("delay 50")
    for i in range(20):
        broker.publish_lines(f"{('sensors', 'meters')[i % 2]}/pump/data", lines(i * 25, 25))
        wait_until(lambda: platform.stats()["uniq"] == (i + 1) * 25, f"round {i}; have {platform.stats()}")
    stats = platform.stats()
    assert stats["ooo"] == 0 and stats["dup"] == 0 and stats["before_connect"] == 0, stats


@has_own_allocator
@pytest.mark.parametrize("storage", ["memory", "file"])
def test_memory_stays_within_its_limits_under_overload_and_is_used_again(made, tmp_path, storage):
    """Invariant 7: resident memory under overload is at most base + configured limits + 12 MiB; what a load leaves serves the next."""
    limit = 1_000_000
    conf = {"memory": {"max_total_bytes": limit},
            "file": {"type": "file", "data_folder_path": str(tmp_path / "data"), "max_total_bytes": limit}}[storage]
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mqtt_mapping(keys=("seq", "state"))])}, storage=conf)
    gateway.wait_log("Plant: connected")

    def overload(first):
        platform.ask("down")
        broker.publish_lines("sensors/a/data", lines(first, 4000, state="x" * 6000))  # 24 MB
        worst = gateway.rss_kib()
        platform.ask("up")
        wait_until(lambda: platform.stats()["uniq"] == first + 4000, f"all values; have {platform.stats()}", limit_s=60)
        assert platform.stats()["ooo"] == 0
        return worst

    broker.publish_lines("sensors/a/data", lines(0, 100, state="x" * 6000))  # what any traffic touches belongs to the base
    wait_until(lambda: platform.stats()["uniq"] == 100, "the first values")
    base = gateway.rss_kib()
    left = []
    for first in (100, 4100):
        worst = overload(first)
        assert worst <= base + limit // 1024 + 12 * MIB_KIB, (base, worst)
        left.append(gateway.rss_kib())
    # What allocators keep for the next load is bounded as well, and the second load uses what the first has left.
    assert left[0] <= base + limit // 1024 + 12 * MIB_KIB, (base, left)
    assert left[1] <= left[0] + 4 * MIB_KIB, (base, left)


def test_invariant_5_a_device_that_left_during_an_outage_is_not_left_open_by_its_backlog(made, tmp_path):
    platform, broker = made(Platform), made(Broker)
    conf = mqtt_connector(broker.port)
    name = {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=sensors/)(.*?)(?=/)"}
    conf["requestsMapping"] = {"disconnectRequests": [{"topicFilter": "sensors/+/bye", "deviceInfo": name}]}
    gateway = made(Gateway, platform.port, {"Plant": conf}, storage={"type": "file", "data_folder_path": str(tmp_path / "data"), "max_records_per_file": 1000})
    gateway.wait_log("Plant: connected")
    topics = [f"sensors/d{i}/data" for i in range(4)]
    for topic in topics:
        broker.publish_lines(topic, lines(0, 20))
    wait_until(lambda: platform.stats()["uniq"] == 80, "the first values")
    platform.ask("down")
    for topic in topics:
        broker.publish_lines(topic, lines(20, 200))
    broker.publish("sensors/d1/bye", {})
    broker.publish("sensors/d2/bye", {})
    broker.publish_lines("sensors/d2/data", lines(220, 1))  # and is back
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 881, f"all values; have {platform.stats()}")
    opened = {"d0": True, "d1": False, "d2": True, "d3": True}
    wait_until(lambda: {entry["device"]: entry["open"] for entry in platform.ask("devices")["devices"]} == opened, "who is open")
    stats = platform.stats()
    assert stats["before_connect"] == 0 and stats["ooo"] == 0 and stats["dup"] == 0, stats


def status(gateway):
    done = subprocess.run([str(BUILD / "iotgw"), "status", "--json", "-c", str(gateway.directory)], capture_output=True, text=True, timeout=20, check=True)
    return json.loads(done.stdout)


def peak_kib(gateway):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{gateway.process.pid}/status").read_text())[1])


def n_descriptors(gateway):
    return len(list(pathlib.Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


@has_own_allocator
@pytest.mark.parametrize("version", [5, 3])
@pytest.mark.parametrize("storage", ["memory", "file", "sqlite"])
def test_what_a_load_takes_is_bounded_and_comes_back(made, tmp_path, storage, version):
    """Invariant 7: the source gives what it is let, the platform acknowledges late; afterwards slabs, descriptors and memory are back."""
    limit = 8_000_000 if storage == "memory" else 0  # of memory
    conf = {"memory": {"max_total_bytes": limit, "max_records_count": 10_000_000},
            "file": {"type": "file", "data_folder_path": str(tmp_path / "data"), "max_file_count": 1000, "max_records_per_file": 10000},
            "sqlite": {"type": "sqlite", "data_file_path": str(tmp_path / "data" / "data.db")}}[storage]
    (tmp_path / "data").mkdir()
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 1000)
    if version == 3:
        platform.ask("refuse 132")  # the protocol's version
    keys = ("seq", "temperature", "humidity", "pressure", "voltage", "current", "running", "state")
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(source.port, [mqtt_mapping(keys=keys)])}, storage=conf)
    if version == 3:
        gateway.wait_log("trying MQTT 3.1.1")
        platform.ask("refuse 0")
    gateway.wait_log("Plant: connected")
    source.ask("run 1000")
    wait_until(lambda: platform.stats()["uniq"] == source.stats()["accepted"] == 1000, "it flows")
    base, before = gateway.rss_kib(), n_descriptors(gateway)
    platform.ask("delay 300")
    source.ask("run 0")
    wait_until(lambda: platform.stats()["uniq"] >= 60000, "much flows", limit_s=60)
    source.ask("stop")
    platform.ask("delay 0")
    wait_until(lambda: source.stats()["inflight"] == 0, "the source has its answers", limit_s=60)
    wait_until(lambda: platform.stats()["uniq"] == source.stats()["accepted"], "all of it has arrived", limit_s=60)
    worst = peak_kib(gateway)
    assert worst <= base + limit // 1024 + 12 * MIB_KIB, (base, worst)
    wait_until(lambda: status(gateway)["memory"]["slabs"] == 0, "the slabs are back")
    assert [connector["counters"]["inFlightBytes"] for connector in status(gateway)["connectors"]] == [0]
    wait_until(lambda: n_descriptors(gateway) <= before, f"the descriptors are back; there were {before}")
    wait_until(lambda: gateway.rss_kib() <= base + 4 * MIB_KIB, f"the memory is back; it was {base} KiB", limit_s=60)
    stats = platform.stats()
    assert stats["dup"] == 0 and stats["ooo"] == 0, stats
