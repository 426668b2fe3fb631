# SPDX-License-Identifier: Apache-2.0
"""Changing the running gateway by editing its files: only what changed restarts, and what is wrong changes nothing."""
import json
import os
import signal
import threading

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, mqtt_mapping, wait_until


def rows(first, count):
    return [{"ts": 1700000000000 + i, "seq": i, "temperature": i} for i in range(first, first + count)]


def plant_mapping(name, key="temperature"):
    return [mqtt_mapping(f"{name}/+/data", f"(?<={name}/)(.*?)(?=/data)", keys=("seq", key))]


def persistent(port, name, key="temperature"):
    return mqtt_connector(port, plant_mapping(name, key), clientId=f"gw-{name}", cleanStart=False, cleanSession=False, sessionExpiryInterval=3600)


def edit(gateway, name, change):
    """In place, as a person with a simple editor; returns what stood there."""
    path = gateway.directory / name
    before = path.read_text()
    conf = json.loads(before)
    change(conf)
    path.write_text(json.dumps(conf, indent=2))
    return before


def set_key(conf, key):
    conf["mapping"][0]["converter"]["timeseries"][1]["key"] = key


def count(gateway, text):
    return gateway.log_text().count(text)


def wait_count(gateway, text, n):
    wait_until(lambda: count(gateway, text) >= n, f"{n} times {text!r}; the log ends with {gateway.log_text()[-2000:]}")


def one(made, **kwargs):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": persistent(broker.port, "plant")}, **kwargs)
    gateway.wait_log("Plant: connected")
    return platform, broker, gateway


def complete(platform, n):
    wait_until(lambda: platform.stats()["uniq"] >= n, f"{n} unique values; have {platform.stats()}")
    stats = platform.stats()
    assert stats["uniq"] == n and stats["dup"] == 0 and stats["ooo"] == 0, stats


def test_one_of_fifty_connectors_is_changed_and_the_others_see_nothing_of_it(made):
    """Invariant 3, over reloads."""
    platform, broker = made(Platform), made(Broker)
    names = [f"p{i}" for i in range(50)]
    gateway = made(Gateway, platform.port, {name: persistent(broker.port, name) for name in names})
    wait_until(lambda: count(gateway, ": connected") >= 50, "all are connected")
    n, stop = [0], threading.Event()

    def publish():
        while not stop.is_set():
            for name in names[::7]:
                broker.publish_lines(f"{name}/{name}/data", rows(n[0], 20))
            n[0] += 20

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        wait_until(lambda: n[0] > 0, "it flows")
        for i in range(3):
            edit(gateway, "p7.json", lambda conf, i=i: set_key(conf, f"other{i}"))
            wait_count(gateway, "p7: connector started", 2 + i)
            wait_count(gateway, "p7: connected", 2 + i)
    finally:
        stop.set()
        thread.join()
    complete(platform, n[0] * len(names[::7]))
    assert all(count(gateway, f"{name}: connected") == 1 for name in names if name != "p7")
    broker.publish("p7/p7/data", {"ts": 1800000000000, "seq": n[0], "temperature": 1})
    broker.publish("p7/p7/data", {"ts": 1800000000001, "seq": n[0] + 1, "temperature": 17})
    platform.wait_for("p7", other2=17)
    assert gateway.stop() == 0


BROKEN = {  # what the file is changed to: what the log says of it
    "no JSON": ('{\n  "broker": {,\n', "plant.json:2:14"),
    "wrong values": ('{\n  "broker": {"host": 5e3, "port": "no"}, "mapping": 7}\n', "plant.json:2:"),
    "what cannot be opened": (lambda conf: conf["broker"].update(security={"type": "certificates", "pathToCACert": "/nowhere/ca.pem"}), "/nowhere/ca.pem"),
}


def test_invariant_11_a_failed_reload_leaves_files_connectors_and_the_others_data_untouched(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": persistent(broker.port, "plant"), "Hall": persistent(broker.port, "hall")})
    for name in ("Plant", "Hall"):
        gateway.wait_log(f"{name}: connected")
    path, stop, n = gateway.directory / "plant.json", threading.Event(), [0]
    right = path.read_text()
    others = {file: file.read_bytes() for file in gateway.directory.glob("*.json") if file not in (path, gateway.directory / "connected_devices.json")}
    assert len(others) >= 2

    def publish():
        while not stop.is_set():
            for name in ("plant", "hall"):
                broker.publish_lines(f"{name}/{name}/data", rows(n[0], 20))
            n[0] += 20

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for i, (text, said) in enumerate(BROKEN.values()):
            if callable(text):
                conf = json.loads(right)
                text(conf)
                text = json.dumps(conf)
            path.write_text(text)
            gateway.wait_log(said)
            wait_count(gateway, "files have changed", 2 * i + 1)
            seen = n[0]
            wait_until(lambda seen=seen: n[0] > seen + 40, "it flows on")
            assert path.read_text() == text, "what the user wrote stays"
            path.write_text(right)
            wait_count(gateway, "files have changed", 2 * i + 2)
    finally:
        stop.set()
        thread.join()
    complete(platform, 2 * n[0])
    assert all(count(gateway, f"{name}: connected") == 1 for name in ("Plant", "Hall")), gateway.log_text()
    assert {file: file.read_bytes() for file in others} == others
    assert gateway.stop() == 0


@pytest.mark.parametrize("text, expected", [("{\n  \"broker\": {,\n", "plant.json:2:14"),
                                            ("{\n  \"broker\": {\"host\": 5e3, \"port\": \"no\"}, \"mapping\": 7}\n", "plant.json:2:")])
def test_a_broken_file_changes_nothing_and_is_named(made, text, expected):
    platform, broker, gateway = one(made)
    path = gateway.directory / "plant.json"
    before = path.read_text()
    path.write_text(text)
    gateway.wait_log(expected)
    gateway.wait_log("configuration is not changed")
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    path.write_text(before)
    wait_count(gateway, "files have changed", 2)
    broker.publish_lines("plant/a/data", rows(10, 10))
    complete(platform, 20)
    assert count(gateway, "Plant: connected") == 1
    assert path.read_text() == before


def test_a_broken_main_file_changes_nothing(made):
    platform, broker, gateway = one(made)
    (gateway.directory / "tb_gateway.json").write_text("{ \"thingsboard\": ")
    gateway.wait_log("tb_gateway.json:1:")
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    assert count(gateway, "Plant: connected") == 1


def test_connectors_are_added_and_removed_by_the_main_file(made):
    platform, broker, gateway = one(made)
    (gateway.directory / "second.json").write_text(json.dumps(persistent(broker.port, "second")))
    entry = {"type": "mqtt", "name": "Second", "configuration": "second.json"}
    edit(gateway, "tb_gateway.json", lambda conf: conf["connectors"].append(entry))
    gateway.wait_log("Second: connected")
    broker.publish_lines("second/b/data", rows(0, 5))
    platform.wait_for("b", seq=4)
    edit(gateway, "tb_gateway.json", lambda conf: conf["connectors"].pop())
    wait_until(lambda: platform.values("b").get("connected") is False or "b" in json.dumps(platform.ask("devices")), "b is gone")
    gateway.wait_log("Second: remove")
    broker.publish_lines("plant/a/data", rows(0, 5))
    platform.wait_for("a", seq=4)
    assert count(gateway, "Plant: connected") == 1
    assert gateway.stop() == 0


def test_a_file_that_goes_away_leaves_its_connector_running(made):
    platform, broker, gateway = one(made)
    path = gateway.directory / "plant.json"
    text = path.read_text()
    path.unlink()
    gateway.wait_log("which is not there")
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    path.write_text(text)
    wait_count(gateway, "files have changed", 2)
    assert count(gateway, "Plant: connected") == 1


def test_an_editor_that_writes_a_new_file_and_renames_it(made):
    platform, broker, gateway = one(made)
    path = gateway.directory / "plant.json"
    conf = json.loads(path.read_text())
    set_key(conf, "pressure")
    for name in (".plant.json.swp", "4913", "plant.json~"):
        (gateway.directory / name).write_text("anything")
    new = gateway.directory / "plant.json.new"
    new.write_text(json.dumps(conf))
    os.replace(new, path)
    wait_count(gateway, "Plant: connected", 2)
    broker.publish("plant/a/data", {"seq": 1, "temperature": 3})
    platform.wait_for("a", pressure=3)


def test_reading_and_writing_the_same_again_changes_nothing(made):
    platform, broker, gateway = one(made)
    path = gateway.directory / "plant.json"
    path.write_text(path.read_text())
    path.touch()
    edit(gateway, "tb_gateway.json", lambda conf: conf["thingsboard"].update(ts=5))
    gateway.wait_log("files have changed")
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    assert count(gateway, "Plant: connected") == 1


def test_a_hundred_edits_in_a_second_end_with_the_last(made):
    platform, broker, gateway = one(made)
    for i in range(100):
        edit(gateway, "plant.json", lambda conf, i=i: set_key(conf, f"k{i}"))
    wait_count(gateway, "Plant: connected", 2)

    def last_counts():
        broker.publish("plant/a/data", {"seq": 1, "temperature": 9})
        return platform.latest("a").get("k99") == 9

    wait_until(last_counts, "the last edit runs")
    assert count(gateway, "Plant: connected") < 10
    assert json.loads((gateway.directory / "plant.json").read_text())["mapping"][0]["converter"]["timeseries"][1]["key"] == "k99"


def test_reload_while_the_store_is_full_and_the_platform_frozen(made):
    """Invariant 6, for a reload."""
    platform, broker, gateway = one(made, storage={"max_records_count": 200, "overflow": "block"})
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    platform.ask("stop-acking")
    broker.publish_lines("plant/a/data", rows(10, 3000))
    edit(gateway, "plant.json", lambda conf: set_key(conf, "pressure"))
    wait_count(gateway, "Plant: connector started", 2)
    platform.ask("ack")
    wait_until(lambda: platform.stats()["uniq"] >= 3010, f"all arrive; have {platform.stats()}")
    assert platform.stats()["ooo"] == 0  # what ran into the deadline comes twice, never out of order


def test_the_log_level_changes_without_a_restart(made):
    platform, broker, gateway = one(made)
    edit(gateway, "plant.json", lambda conf: conf.update(logLevel="DEBUG"))
    gateway.wait_log("Plant: change while it runs: logLevel")
    gateway.wait_log("configuration applied")
    broker.publish("elsewhere", "x")
    broker.publish_lines("plant/a/data", rows(0, 10))
    complete(platform, 10)
    assert count(gateway, "Plant: connected") == 1


def test_hangup_reloads_and_what_needs_a_restart_is_named(made):
    platform, broker, gateway = one(made, thingsboard={"checkConnectorsConfigurationInSeconds": 3600})
    edit(gateway, "tb_gateway.json", lambda conf: conf["thingsboard"].update(loops=3))
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_log("takes effect at the next start")
    gateway.wait_log("thingsboard.loops")
    assert gateway.process.poll() is None


def test_an_entry_with_errors_stands_in_no_other_connectors_way(made):
    """At the start, for edited files, and for what the platform sends."""
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": persistent(broker.port, "plant"), "Hall": persistent(broker.port, "hall")}, start=False,
                   thingsboard={"remoteConfiguration": True})
    broken = [{"type": "mqtt", "name": "Gone", "configuration": "gone.json"}, {"name": 5}, "x", {"type": "nothing", "name": "N", "configuration": "plant.json"}]
    edit(gateway, "tb_gateway.json", lambda conf: conf["connectors"].extend(broken))
    gateway.start()
    gateway.wait_log("Plant: connected")
    gateway.wait_log("Hall: connected")

    (gateway.directory / "three.json").write_text(json.dumps(persistent(broker.port, "three")))
    edit(gateway, "tb_gateway.json", lambda conf: conf["connectors"].append({"type": "mqtt", "name": "Three", "configuration": "three.json"}))
    gateway.wait_log("Three: connected")
    wait_until(lambda: "Three" in platform.ask("values")["attributes"], "it is told")

    four = {"name": "Four", "type": "mqtt", "logLevel": "INFO", "configurationJson": persistent(broker.port, "four")}
    platform.ask("publish v1/devices/me/attributes " + json.dumps({"Four": four}))
    gateway.wait_log("Four: connected")
    platform.ask("publish v1/devices/me/attributes " + json.dumps({"active_connectors": ["Plant", "Hall", "Four", "Gone", "N"]}))
    wait_until(lambda: not (gateway.directory / "three.json").exists(), "Three goes")

    # The entry of one that runs is spoilt: it runs on, and its neighbour goes.
    def spoil(conf):
        conf["connectors"] = [{**c, "type": []} if c["name"] == "Plant" else c for c in conf["connectors"] if isinstance(c, dict) and c["name"] != "Hall"]
    before = edit(gateway, "tb_gateway.json", spoil)
    gateway.wait_log("its entry in the main file has errors")
    wait_until(lambda: "Hall" not in str(platform.ask("values")["attributes"]["active_connectors"]["value"]), "Hall is removed")
    broker.publish("plant/a/data", {"seq": 1, "temperature": 2})
    platform.wait_for("a", seq=1)
    (gateway.directory / "tb_gateway.json").write_text(before)
    wait_until(lambda: "Hall" in str(platform.ask("values")["attributes"]["active_connectors"]["value"]), "Hall is there again")
    broker.publish("plant/a/data", {"seq": 2, "temperature": 2})
    platform.wait_for("a", seq=2)
    assert count(gateway, "Plant: connected") == 1
    assert platform.stats()["dup"] == 0
