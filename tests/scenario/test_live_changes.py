# SPDX-License-Identifier: Apache-2.0
"""General keys that are edited while the gateway runs: each takes effect without a new session, and what is wrong changes nothing."""
import json
import subprocess

from plant import BUILD, Broker, Gateway, Platform, mqtt_connector, mqtt_mapping, wait_until


def listed(gateway):
    path = gateway.directory / "connected_devices.json"
    return json.loads(path.read_text()) if path.exists() else {}


def is_open(platform, name):
    return any(entry["device"] == name and entry.get("open") for entry in platform.ask("devices")["devices"])


def status(gateway):
    done = subprocess.run([str(BUILD / "iotgw"), "status", "--json", "-c", str(gateway.directory)], capture_output=True, text=True, timeout=20, check=True)
    return json.loads(done.stdout)


def start(made, *args, **kwargs):
    platform, broker = made(Platform, *args), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, **kwargs)
    gateway.wait_log("Plant: connected")
    gateway.wait_log("connected to the platform")
    return platform, broker, gateway


class Editor:
    """Edits a file of the gateway and waits until it has noticed."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.n = 0

    def write(self, name, text):
        (self.gateway.directory / name).write_text(text if isinstance(text, str) else json.dumps(text, indent=2))
        self.n += 1
        wait_until(lambda: self.gateway.log_text().count("files have changed") >= self.n, "the change is noticed")

    def thingsboard(self, **keys):
        main = json.loads((self.gateway.directory / "tb_gateway.json").read_text())
        main["thingsboard"].update(keys)
        self.write("tb_gateway.json", main)


def assert_nothing_else_happened(platform, gateway):
    assert platform.stats()["sessions"] == 1 and gateway.log_text().count("Plant: connected") == 1
    assert "next start" not in gateway.log_text()


def test_the_device_filter_is_switched_on_changed_and_off(made):
    platform, broker, gateway = start(made)
    editor = Editor(gateway)
    seq = [0]

    def comes_through(name):
        """A device that is let pass all the time says when the question is answered."""
        seq[0] += 1
        broker.publish(f"sensors/{name}/data", {"seq": seq[0]})
        broker.publish("sensors/always/data", {"seq": seq[0]})
        platform.wait_for("always", seq=seq[0])
        return platform.values(name).get("telemetry", {}).get("seq", {}).get("value") == seq[0] if name in platform.devices() else False

    assert comes_through("a")
    (gateway.directory / "list.json").write_text(json.dumps({"deny": {"Plant": ["a"]}}))
    editor.thingsboard(deviceFiltering={"enable": True, "filterFile": "list.json"})
    wait_until(lambda: not comes_through("a"), "a is denied")
    assert comes_through("b")
    editor.write("list.json", {"deny": {"Plant": ["b"]}})
    wait_until(lambda: comes_through("a") and not comes_through("b"), "b is denied instead")
    editor.write("list.json", '{"deny": {"Plant": ["["]}}')
    gateway.wait_log("list.json: leave as it is")
    assert comes_through("a") and not comes_through("b"), "the last good rules count"
    editor.thingsboard(deviceFiltering={"enable": False, "filterFile": "list.json"})
    wait_until(lambda: comes_through("b"), "nothing is denied")
    assert_nothing_else_happened(platform, gateway)
    assert gateway.stop() == 0


def test_devices_are_given_up_once_inactivity_is_looked_at(made):
    platform, broker, gateway = start(made)
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    assert is_open(platform, "a")
    Editor(gateway).thingsboard(checkingDeviceActivity={"checkDeviceInactivity": True, "inactivityTimeoutSeconds": 1, "inactivityCheckPeriodSeconds": 1})
    wait_until(lambda: not is_open(platform, "a"), "it is given up")
    assert_nothing_else_happened(platform, gateway)


def test_renaming_is_followed_only_while_it_is_switched_on(made):
    platform, broker, gateway = start(made)
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    editor = Editor(gateway)
    editor.thingsboard(handleDeviceRenaming=False)
    gateway.wait_log("thingsboard.handleDeviceRenaming")
    platform.ask("publish v1/devices/me/rpc/request/7 " + json.dumps({"method": "gateway_device_renamed", "params": {"a": "x"}}))
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)
    editor.thingsboard(handleDeviceRenaming=True)
    wait_until(lambda: gateway.log_text().count("handleDeviceRenaming") >= 2, "it is taken")
    platform.ask("rename " + json.dumps(["a", "x"]))
    wait_until(lambda: is_open(platform, "x"), "it is followed")
    assert_nothing_else_happened(platform, gateway)


def test_quiet_devices_are_kept_open_from_then_on(made):
    platform, broker, gateway = start(made, "--device-ms", 3000, thingsboard={"deviceKeepAlive": "off"})
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    wait_until(lambda: not is_open(platform, "a"), "the platform ends its session")
    Editor(gateway).thingsboard(deviceKeepAlive="auto", deviceKeepAliveSeconds=1)
    wait_until(lambda: is_open(platform, "a"), "it is opened again", 60)
    assert_nothing_else_happened(platform, gateway)


def test_sizes_and_rates_of_messages_change_within_the_session(made):
    platform, broker, gateway = start(made, "--limits", json.dumps({"maxPayloadSize": 65536, "maxInflightMessages": 100}))  # no rates: those of the file count
    editor = Editor(gateway)

    def publish(first, count):
        broker.publish_lines("sensors/a/data", [{"ts": 1700000000000 + i, "seq": i, "temperature": i} for i in range(first, first + count)])
        wait_until(lambda: platform.stats()["uniq"] >= first + count, "all are there", 60)

    publish(0, 200)
    editor.thingsboard(maxPayloadSizeBytes=512, minPackSendDelayMS=10, minPackSizeToSend=5)
    gateway.wait_log("thingsboard.maxPayloadSizeBytes")
    wait_until(lambda: status(gateway)["platform"]["payloadLimit"] == 512, "smaller messages")
    publish(200, 200)
    editor.thingsboard(deviceDpRateLimits="100:1,", deviceRateLimits="50:1,")
    gateway.wait_log("thingsboard.deviceDpRateLimits")
    publish(400, 200)
    assert status(gateway)["platform"]["waits"]["deviceDpRateLimits"]["times"] > 0
    assert platform.stats()["ooo"] == 0 and platform.stats()["dup"] == 0
    assert_nothing_else_happened(platform, gateway)
    assert gateway.stop() == 0


def test_devices_of_a_removed_connector_leave_the_list_and_those_of_a_renamed_one_stay(made):
    platform, broker = made(Platform), made(Broker)

    def conf(name):
        return mqtt_connector(broker.port, [mqtt_mapping(f"{name}/+/data", f"(?<={name}/)(.*?)(?=/data)")])

    gateway = made(Gateway, platform.port, {"Plant": conf("plant"), "Second": conf("second"), "Third": conf("third")})
    for name in ("Plant", "Second", "Third"):
        gateway.wait_log(f"{name}: connected")
    for device in ("plant/a", "second/b", "second/c", "third/d"):
        broker.publish(f"{device}/data", {"seq": 1})
        platform.wait_for(device[-1], seq=1)
    platform.ask("rename " + json.dumps(["c", "pump"]))
    wait_until(lambda: is_open(platform, "pump") and set(listed(gateway)) == set("abcd"), "all are listed")
    main = json.loads((gateway.directory / "tb_gateway.json").read_text())
    main["connectors"] = [entry for entry in main["connectors"] if entry["name"] != "Second"]
    main["connectors"][1]["name"] = "New third"
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(main))
    wait_until(lambda: set(listed(gateway)) == set("acd"), "b is forgotten")
    assert listed(gateway)["c"]["renaming"] == "pump" and listed(gateway)["c"]["disconnected"] is True
    wait_until(lambda: listed(gateway)["d"]["connectorName"] == "New third", "d is listed under the new name")
    assert not is_open(platform, "b") and not is_open(platform, "pump") and is_open(platform, "a") and is_open(platform, "d")
    assert gateway.stop() == 0
    gateway.start()
    wait_until(lambda: is_open(platform, "d") and is_open(platform, "a"), "known after a restart")
    assert not is_open(platform, "b") and not is_open(platform, "pump")
