# SPDX-License-Identifier: Apache-2.0
"""The devices that the gateway knows: kept over restarts, announced, renamed, deleted, filtered, given up, kept open."""
import json
import time

from plant import Broker, Gateway, Platform, mqtt_connector, wait_until


def listed(gateway):
    path = gateway.directory / "connected_devices.json"
    return json.loads(path.read_text()) if path.exists() else {}


def device(platform, name):
    for entry in platform.ask("devices")["devices"]:
        if entry["device"] == name:
            return entry
    return {}


def is_open(platform, name):
    return device(platform, name).get("open", False)


def test_known_devices_are_announced_after_a_restart_before_any_data(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant MQTT": mqtt_connector(broker.port)})
    gateway.wait_log("Plant MQTT: connected")
    for name in ("b", "a"):
        broker.publish(f"sensors/{name}/data", {"seq": 1})
        platform.wait_for(name, seq=1)
    wait_until(lambda: len(listed(gateway)) == 2, "the list is written")
    assert gateway.stop() == 0
    entry = listed(gateway)["a"]
    assert entry["connectorName"] == "Plant MQTT" and entry["deviceType"] == "sensor"
    assert entry["disconnected"] is False and entry["renaming"] is None
    assert entry["connectorId"] == json.loads((gateway.directory / "plant_mqtt.json").read_text())["id"]
    assert list(listed(gateway)) == ["a", "b"], "sorted"
    assert not is_open(platform, "a")
    gateway.start()
    wait_until(lambda: is_open(platform, "a") and is_open(platform, "b"), "announced without data")
    assert device(platform, "a")["profile"] == "sensor"


def test_known_devices_are_announced_after_a_reconnect(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    platform.ask("drop")
    wait_until(lambda: platform.stats()["sessions"] >= 2 and is_open(platform, "a"), "announced in the next session")


def test_the_platform_learns_whose_a_device_is(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant MQTT": mqtt_connector(broker.port)})
    gateway.wait_log("Plant MQTT: connected")
    for i in range(20):
        broker.publish(f"sensors/d{i}/data", {"seq": 1})
    for i in range(20):
        platform.wait_for(f"d{i}", connectorType="mqtt", connectorName="Plant MQTT")


def test_the_peers_former_forms_of_the_list_are_read(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    (gateway.directory / "connected_devices.json").write_text(json.dumps(
        {"two": ["Plant", "meter"], "three": ["Plant", "pump", "new three"], "foreign": ["Gone", "x"], "kept": ["Gone", "x", "kept as"]}))
    gateway.start()
    wait_until(lambda: is_open(platform, "two") and is_open(platform, "new three"), "announced")
    assert device(platform, "two")["profile"] == "meter"
    assert "foreign" not in platform.devices() and "kept as" not in platform.devices() and "three" not in platform.devices()
    wait_until(lambda: "foreign" not in listed(gateway), "rewritten")
    assert listed(gateway)["kept"]["renaming"] == "kept as" and listed(gateway)["kept"]["disconnected"] is True


def test_a_broken_list_is_put_aside_and_the_gateway_runs(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    path = gateway.directory / "connected_devices.json"
    path.write_text('{"a": {"connectorName": ')
    gateway.start()
    gateway.wait_log("put aside")
    broker.publish("sensors/a/data", {"seq": 1}, args=("-r",))
    platform.wait_for("a", seq=1)
    wait_until(lambda: "a" in listed(gateway), "a new list")
    assert path.with_name(path.name + ".bad").exists()


def test_a_list_that_cannot_be_written_is_one_warning(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    (gateway.directory / "connected_devices.json").mkdir()
    gateway.start()
    gateway.wait_log("Plant: connected")
    for name in ("a", "b"):
        broker.publish(f"sensors/{name}/data", {"seq": 1})
        platform.wait_for(name, seq=1)
        gateway.wait_log("cannot be written")
    assert gateway.stop() == 0
    assert gateway.log_text().count("list of devices cannot be written") == 1


def rename(platform, names):
    """On the platform, which tells the gateway."""
    for old, new in names.items():
        assert platform.ask("rename " + json.dumps([old, new]))["sent"] == 1


def claim_rename(platform, names):
    """The gateway alone is told."""
    platform.ask("publish v1/devices/me/rpc/request/7 " + json.dumps({"method": "gateway_device_renamed", "params": names}))


def test_a_renamed_device_is_published_under_its_new_name_also_after_a_restart(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    rename(platform, {"a": "Pump \"one\""})
    wait_until(lambda: is_open(platform, "Pump \"one\"") and not is_open(platform, "a"), "reopened under the new name")
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("Pump \"one\"", seq=2)
    assert "a" not in platform.devices()
    rename(platform, {"Pump \"one\"": "Pump 2"})  # chains collapse
    wait_until(lambda: listed(gateway).get("a", {}).get("renaming") == "Pump 2", "in the list")
    assert gateway.stop() == 0
    gateway.start()
    wait_until(lambda: is_open(platform, "Pump 2"), "announced under the new name")
    assert not is_open(platform, "a")
    broker.publish("sensors/a/data", {"seq": 3}, args=("-r",))
    platform.wait_for("Pump 2", seq=3)
    rename(platform, {"Pump 2": "a"})
    wait_until(lambda: is_open(platform, "a") and listed(gateway)["a"]["renaming"] is None, "has its own name again")


def test_what_waits_while_a_device_is_renamed_goes_out_under_the_new_name(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    platform.ask("stop-acking")
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)  # in flight, not acknowledged
    rename(platform, {"a": "b"})
    wait_until(lambda: is_open(platform, "b"), "reopened")
    platform.ask("drop")
    platform.ask("ack")
    platform.wait_for("b", seq=2)
    assert not is_open(platform, "a")


def test_two_devices_cannot_have_one_name(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    for name in ("a", "b"):
        broker.publish(f"sensors/{name}/data", {"seq": 1})
        platform.wait_for(name, seq=1)
    claim_rename(platform, {"a": "b"})
    gateway.wait_log("device not renamed")
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)


def test_renaming_can_be_switched_off(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={"handleDeviceRenaming": False})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    claim_rename(platform, {"a": "b"})
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)
    assert "b" not in platform.devices()


def test_a_deleted_device_is_forgotten_and_comes_back_with_its_data(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", connectorName="Plant")
    wait_until(lambda: "a" in listed(gateway), "in the list")
    platform.ask("delete a")
    wait_until(lambda: "a" not in listed(gateway), "forgotten")
    connects = platform.stats()["connects"]
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2, connectorName="Plant")
    assert platform.stats()["connects"] == connects + 1
    wait_until(lambda: "a" in listed(gateway), "in the list again")


def test_a_silent_device_is_disconnected_and_its_data_bring_it_back(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)},
                   thingsboard={"checkingDeviceActivity": {"checkDeviceInactivity": True, "inactivityTimeoutSeconds": 2, "inactivityCheckPeriodSeconds": 1}})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    seq = 1
    end = time.monotonic() + 4  # an active one stays
    while time.monotonic() < end:
        seq += 1
        broker.publish("sensors/a/data", {"seq": seq})
        platform.wait_for("a", seq=seq)
        assert is_open(platform, "a")
    wait_until(lambda: not is_open(platform, "a"), "disconnected")
    wait_until(lambda: "a" not in listed(gateway), "forgotten")
    broker.publish("sensors/a/data", {"seq": 1000})
    platform.wait_for("a", seq=1000)
    assert is_open(platform, "a")


def test_the_filter_keeps_devices_out_and_what_is_allowed_wins(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False,
                   thingsboard={"deviceFiltering": {"enable": True, "filterFile": "list.json"}})
    (gateway.directory / "list.json").write_text(json.dumps(
        {"deny": {"Plant": ["x.*", "(^[a-z]+@[a-z]+$)"], "Other": ["ok"]}, "allow": {"Plant": ["x1"]}}))
    gateway.start()
    gateway.wait_log("Plant: connected")
    for name in ("x", "x1", "x22", "me@home", "ok", "ax"):
        broker.publish(f"sensors/{name}/data", {"seq": 1})
    for name in ("x1", "ok", "ax"):
        platform.wait_for(name, seq=1)
    assert sorted(platform.devices()) == ["ax", "ok", "x1"]
    assert gateway.log_text().count("device filter denies this device") == 3


def test_the_filter_can_deny_all_that_is_not_allowed(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False,
                   thingsboard={"deviceFiltering": {"enable": True, "filterFile": "list.json"}})
    (gateway.directory / "list.json").write_text(json.dumps({"default": "deny", "allow": {"Plant": ["good"]}}))
    gateway.start()
    gateway.wait_log("Plant: connected")
    for name in ("bad", "good"):
        broker.publish(f"sensors/{name}/data", {"seq": 1})
    platform.wait_for("good", seq=1)
    assert platform.devices() == ["good"]


def test_a_silent_device_is_opened_again_after_the_platform_ended_its_session(made):
    platform = made(Platform, "--device-ms", 4000)
    broker = made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={"deviceKeepAliveSeconds": 1})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", connectorName="Plant")
    wait_until(lambda: not is_open(platform, "a"), "the platform has ended it")
    wait_until(lambda: is_open(platform, "a"), "opened again")


def test_ten_thousand_devices_are_announced_within_the_limits(made):
    n = 10000
    limits = {"maxPayloadSize": 65536, "maxInflightMessages": 100, "rateLimits": {"messages": None},
              "gatewayRateLimits": {"messages": "4000:1", "telemetryMessages": "2000:1", "telemetryDataPoints": "4000:1"}}
    platform = made(Platform, "--limits", json.dumps(limits))
    broker = made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    (gateway.directory / "connected_devices.json").write_text(json.dumps({f"d{i}": ["Plant", "sensor"] for i in range(n)}))
    gateway.start()
    wait_until(lambda: sum(d["open"] for d in platform.ask("devices")["devices"]) == n, "all are open", 60)
    platform.ask("drop")
    broker.publish("sensors/d9999/data", {"seq": 1})
    platform.wait_for("d9999", seq=1)  # data do not wait for the storm
    wait_until(lambda: sum(d["open"] for d in platform.ask("devices")["devices"]) == n, "all are open again", 60)
    outcomes = platform.stats()["outcomes"]
    assert outcomes["QUOTA"] == outcomes["CRASH"] == 0 and platform.stats()["before_connect"] == 0
    assert platform.stats()["sessions"] == 2
