# SPDX-License-Identifier: Apache-2.0
"""Remote configuration while things go wrong: a full storage, a frozen platform, huge and malformed messages, echoes, changes upon changes."""
import json
import socket
import subprocess
import threading
import time

import pytest
from plant import BUILD, Broker, Gateway, IS_INSTRUMENTED, Platform, free_port, mqtt_connector, mqtt_mapping, wait_until


def own(platform, key):
    return platform.ask("values")["attributes"].get(key, {}).get("value")


def push(platform, **values):
    platform.ask("shared " + json.dumps(values))
    platform.ask("publish v1/devices/me/attributes " + json.dumps(values))


def published(platform, key, condition=lambda v: True, limit_s=30):
    return wait_until(lambda: (v := own(platform, key)) is not None and condition(v) and (v,), f"{key} is published; have {own(platform, key)!r:.500}",
                      limit_s)[0]


def start(made, platform, connectors, **more):
    more["thingsboard"] = {"remoteConfiguration": True, **more.get("thingsboard", {})}
    return made(Gateway, platform.port, connectors, **more)


def sensors(name, *keys):
    return mqtt_mapping(f"{name}/+/data", f"(?<={name}/)(.*?)(?=/data)", keys=("seq", *keys))


def keys_of(attribute):
    return [entry["key"] for entry in attribute["configurationJson"]["mapping"][0]["converter"]["timeseries"]]


def rows(first, count):
    return [{"ts": 1700000000000 + i, "seq": i, "text": "x" * 1000} for i in range(first, first + count)]


def is_blocked(gateway):
    done = subprocess.run([BUILD / "iotgw", "--config", gateway.directory, "status", "--json"], capture_output=True, text=True, timeout=20)
    return done.returncode == 0 and json.loads(done.stdout)["storage"]["blocked"]


def session(name):
    return {"clientId": name, "cleanStart": False, "cleanSession": False, "sessionExpiryInterval": 3600}


def test_a_push_while_the_storage_is_full_and_the_platform_frozen(made, tmp_path):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant", "text")], **session("a")),
                                     "Hall": mqtt_connector(broker.port, [sensors("hall")], **session("b"))},
                    storage={"type": "file", "data_folder_path": str(tmp_path / "data"), "max_total_bytes": 1_000_000})
    plant = published(platform, "Plant")
    gateway.wait_log("Plant: connected")
    platform.ask("stop-acking")
    broker.publish_lines("plant/a/data", rows(0, 5000))
    wait_until(lambda: is_blocked(gateway), "the storage is full")
    platform.ask("stall")  # it reads nothing more, and what it sends arrives
    plant["configurationJson"]["mapping"] = [sensors("plant", "text", "more")]
    push(platform, Plant={**plant, "ts": int(time.time() * 1000)}, storage_configuration={"type": "paper"})
    wait_until(lambda: '"more"' in (gateway.directory / "plant.json").read_text(), "it is applied and saved")
    platform.ask("resume")
    platform.ask("ack")
    published(platform, "Plant", lambda v: keys_of(v) == ["seq", "text", "more"])
    published(platform, "configuration_errors", lambda v: "storage_configuration" in v)
    wait_until(lambda: platform.stats()["uniq"] >= 5000, f"all values; have {platform.stats()}", 90)
    assert platform.stats()["ooo"] == 0 and gateway.log_text().count("Hall: connected") == 1


def test_huge_values(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant")])})
    plant = published(platform, "Plant")
    plant["configurationJson"]["mapping"] = [sensors(f"line{i}", "temperature") for i in range(400)]
    assert len(json.dumps(plant)) > 100_000
    push(platform, Plant=plant)
    published(platform, "configuration_errors", lambda v: "larger than the platform takes" in json.dumps(v))
    wait_until(lambda: "line399" in (gateway.directory / "plant.json").read_text(), "it runs and is saved")
    broker.publish("line399/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    size = gateway.rss_kib()
    for key in ("Plant", "general_configuration", "RemoteLoggingLevel", "Other", "active_connectors"):
        platform.ask("publish v1/devices/me/attributes " + json.dumps({key: "x" * 1_000_000}))
        platform.ask("publish v1/devices/me/attributes " + json.dumps({key: {"name": "n" * 100_000, "type": "mqtt", "configurationJson": {"a": "b" * 500_000}}}))
        platform.ask("publish v1/devices/me/attributes " + json.dumps({"x" * 100_000: {"configurationJson": {}}, key: ["Plant", "y" * 300_000]}))
    push(platform, RemoteLoggingLevel="ERROR")
    published(platform, "RemoteLoggingLevel", lambda v: v == "ERROR")
    broker.publish("line399/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)
    errors = published(platform, "configuration_errors", lambda v: {"Plant", "active_connectors"} <= set(v))
    assert len(json.dumps(errors)) < 60_000
    assert "fault" not in gateway.log_text()
    assert IS_INSTRUMENTED or gateway.rss_kib() < size + 64 * 1024


class OldBroker:
    """In front of a broker: MQTT 5 is refused as brokers of 3.1.1 do it, the rest passes."""

    def __init__(self, port):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port, self.behind, self.n_old = self.server.getsockname()[1], port, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        first = client.recv(4096)
        at = first.find(b"MQTT")
        if at < 0 or first[at + 4] == 5:
            client.sendall(b"\x20\x02\x00\x01")
            client.close()
            return
        self.n_old += 1
        behind = socket.create_connection(("127.0.0.1", self.behind))
        behind.sendall(first)
        threading.Thread(target=self._pass, args=(behind, client), daemon=True).start()
        self._pass(client, behind)

    @staticmethod
    def _pass(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def close(self):
        self.server.close()


@pytest.mark.parametrize("version", [5, 311])
def test_the_echo_of_a_plain_broker_does_not_go_round(made, version):
    """What the gateway publishes as its attributes comes back as shared ones: with 3.1.1 there is no No Local."""
    broker = made(Broker)
    front = OldBroker(broker.port) if version == 311 else broker
    try:
        gateway = start(made, front, {"Plant": mqtt_connector(broker.port)})
        gateway.wait_log("connected to the platform")
        gateway.wait_log("Plant: connected")
        if version == 311:
            assert front.n_old == 1
        # A change goes its way once; then what is told comes back and is equal.
        for i in range(3):
            value = {"name": "Plant", "type": "mqtt", "configurationJson": mqtt_connector(broker.port, [sensors("plant", f"k{i}")])}
            broker.publish("v1/devices/me/attributes", {"Plant": value})
            wait_until(lambda: f'"k{i}"' in (gateway.directory / "plant.json").read_text(), "it is applied")
        broker.publish("v1/devices/me/attributes", {"RemoteLoggingLevel": "loud"})
        gateway.wait_log("expected NONE, CRITICAL")  # what came before has been looked at
        assert gateway.log_text().count("configuration changes") + gateway.log_text().count("more in") <= 6
        assert sum("configuration changes" in line for line in gateway.log_text().splitlines()) <= 3
    finally:
        if version == 311:
            front.close()


def test_a_change_that_waits_for_a_dead_host_comes_after_it(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant", "old")])})
    plant, general = published(platform, "Plant"), published(platform, "general_configuration")
    main = (gateway.directory / "tb_gateway.json").read_text()
    plant["configurationJson"]["mapping"] = [sensors("plant", "new")]
    push(platform, Plant={**plant, "ts": int(time.time() * 1000)}, general_configuration={**general, "port": free_port()})
    gateway.wait_log("the connection to the platform changes")
    assert '"new"' not in (gateway.directory / "plant.json").read_text()  # one after the other, the general one first
    broker.publish("plant/a/data", {"seq": 1})
    published(platform, "Plant", lambda v: keys_of(v) == ["seq", "new"], 60)
    platform.wait_for("a", seq=1)
    assert (gateway.directory / "tb_gateway.json").read_text() == main
    assert "general_configuration" in published(platform, "configuration_errors")


def test_a_change_while_the_one_before_is_applied(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant", "old")]), "Hall": mqtt_connector(broker.port, [sensors("hall")])})
    plant, hall = published(platform, "Plant"), published(platform, "Hall")
    for i in range(5):
        plant["configurationJson"]["mapping"] = [sensors("plant", f"new{i}")]
        hall["configurationJson"]["mapping"] = [sensors("hall", f"new{i}")]
        push(platform, Plant=plant)
        push(platform, Hall=hall, active_connectors=["Hall", "Plant"])
        (gateway.directory / "tb_gateway.json").touch()
    published(platform, "Plant", lambda v: keys_of(v) == ["seq", "new4"])
    published(platform, "Hall", lambda v: keys_of(v) == ["seq", "new4"])
    for name in ("plant", "hall"):
        broker.publish(f"{name}/{name}/data", {"seq": 1})
        platform.wait_for(name, seq=1)
    assert own(platform, "configuration_errors") in (None, {})


def test_what_is_edited_here_is_told(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant", "old")])})
    published(platform, "Plant")
    file, main = gateway.directory / "plant.json", gateway.directory / "tb_gateway.json"
    file.write_text(file.read_text().replace('"old"', '"edited"'))
    published(platform, "Plant", lambda v: keys_of(v) == ["seq", "edited"])
    content = json.loads(main.read_text())
    content["thingsboard"]["minPackSizeToSend"] = 77
    main.write_text(json.dumps(content))
    published(platform, "general_configuration", lambda v: v.get("minPackSizeToSend") == 77)
    file.write_text("{")  # with an error: what runs stays told
    gateway.wait_log("leave as it is")
    assert keys_of(own(platform, "Plant")) == ["seq", "edited"]


def test_a_connector_is_renamed_by_its_id(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant")], **session("a"))})
    plant = published(platform, "Plant")
    gateway.wait_log("Plant: connected")
    broker.publish("plant/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    push(platform, Factory={**plant, "name": "Factory", "ts": int(time.time() * 1000)})
    new = published(platform, "Factory")
    assert new["id"] == plant["id"] and new["configuration"] == "plant.json" and new["configurationJson"]["name"] == "Factory"
    published(platform, "active_connectors", lambda v: v == ["Factory"])
    entries = json.loads((gateway.directory / "tb_gateway.json").read_text())["connectors"]
    assert entries == [{"type": "mqtt", "name": "Factory", "configuration": "plant.json"}]
    broker.publish("plant/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)
    file = gateway.directory / "connected_devices.json"
    wait_until(lambda: file.exists() and list(json.loads(file.read_text())) == ["a"], "the device is kept")
    assert "Factory" in file.read_text()
    assert platform.stats()["ooo"] == 0 and platform.stats()["before_connect"] == 0


GARBAGE = ["", "{", "null", "true", "0", "-1e999", '"x"', "[]", "[[[[[[]]]]]]", "{}", '{"a":}', '{"a":1,"a":2}', '{"id":"x"}', '{"id":-1,"device":5}',
           '{"id":1e99,"device":"a","values":5}', '{"device":null,"data":null}', '{"device":"nobody","data":{"id":1,"method":"get","params":null}}',
           '{"device":"a","data":{"id":{},"method":[],"params":1}}', '{"device":"a","data":{"method":"m"}}', '{"data":{"id":1}}', '{"method":5}',
           '{"method":"gateway_nothing","params":{}}', '{"shared":[],"client":5}', '{"shared":{"general_configuration":5}}', "\\ud800", '{"\\u0000":1}',
           '{"device":"a","values":{"x":1}}', "[" * 3000]
TOPICS = ["v1/devices/me/attributes", "v1/devices/me/attributes/response/1", "v1/devices/me/attributes/response/4711", "v1/devices/me/attributes/response/x",
          "v1/devices/me/attributes/response/", "v1/devices/me/rpc/request/1", "v1/devices/me/rpc/request/x", "v1/devices/me/rpc/request/99999999999999999999",
          "v1/devices/me/rpc/response/1", "v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response", "v1/gateway/disconnect",
          "v2/fw/response/1/chunk/0", "v2/fw/response/x/chunk/y", "v2/fw/error", "/provision/response", "some/where/else"]


def test_malformed_messages_unknown_ids_and_late_answers(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant")])})
    published(platform, "Plant")
    gateway.wait_log("Plant: connected")
    files = {path: path.read_text() for path in gateway.directory.glob("*.json")}
    for topic in TOPICS:
        for payload in GARBAGE:
            platform.ask(f"publish {topic} {payload}")
    broker.publish("plant/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    push(platform, RemoteLoggingLevel="NONE")
    published(platform, "RemoteLoggingLevel", lambda v: v == "NONE")
    assert platform.stats()["dup"] == 0
    assert {path: path.read_text() for path in files} == files
    gateway.wait_log("message of the platform is not understood")
    assert gateway.log_text().count("connected to the platform") == 1
    assert gateway.stop() == 0


def test_a_filter_that_cannot_be_used_leaves_the_one_there_is(made):
    platform, broker = made(Platform), made(Broker)
    gateway = start(made, platform, {"Plant": mqtt_connector(broker.port, [sensors("plant")])})
    (gateway.directory / "list.json").write_text(json.dumps({"deny": {"Plant": ["bad.*"]}}))
    general = published(platform, "general_configuration")
    push(platform, general_configuration={**general, "deviceFiltering": {"enable": True, "filterFile": "list.json"}})
    published(platform, "general_configuration", lambda v: v.get("deviceFiltering", {}).get("enable"))
    before = (gateway.directory / "tb_gateway.json").read_text()
    for name, message in (("none.json", "cannot be opened"), ("plant.json", "plain name")):
        push(platform, general_configuration={**general, "deviceFiltering": {"enable": True, "filterFile": name}})
        errors = published(platform, "configuration_errors", lambda v: message in json.dumps(v))["general_configuration"]
        assert errors[0]["path"] == "deviceFiltering.filterFile", errors
    assert (gateway.directory / "tb_gateway.json").read_text() == before
    broker.publish("plant/bad1/data", {"seq": 1})
    broker.publish("plant/good/data", {"seq": 1})
    platform.wait_for("good", seq=1)
    assert list(platform.devices()) == ["good"]
    push(platform, general_configuration={**general, "deviceFiltering": {"enable": True, "filterFile": "list.json"}})
    wait_until(lambda: own(platform, "configuration_errors") == {}, "the error is gone")


def test_what_cannot_be_saved_does_not_run_and_nothing_is_taken_back_later(made, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    platform, broker = made(Platform), made(Broker)
    gateway = Gateway(disk / "g", platform.port, {"Plant": mqtt_connector(broker.port, [sensors("plant", "old")])},
                      thingsboard={"remoteConfiguration": True}, start=False)
    gateway.log_path = tmp_path / "gateway.log"
    try:
        gateway.start()
        plant, general = published(platform, "Plant"), published(platform, "general_configuration")
        with open(disk / "filler", "wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(4096))
        before = {path.name: path.read_text() for path in gateway.directory.glob("*.json")}
        plant["configurationJson"]["mapping"] = [sensors("plant", "new")]
        new = {"name": "New", "type": "mqtt", "configurationJson": mqtt_connector(broker.port, [sensors("new")])}
        push(platform, Plant=plant)
        errors = published(platform, "configuration_errors", lambda v: "Plant" in v)
        assert "No space left on device" in errors["Plant"][0]["message"], errors
        push(platform, New=new, general_configuration={**general, "reportStrategy": {"type": "ON_CHANGE"}})
        published(platform, "configuration_errors", lambda v: {"Plant", "New", "general_configuration"} <= set(v))
        assert keys_of(own(platform, "Plant")) == ["seq", "old"] and own(platform, "active_connectors") == ["Plant"]
        assert "configuration runs" not in gateway.log_text() and gateway.log_text().count("Plant: connected") == 1
        assert {path.name: path.read_text() for path in gateway.directory.glob("*.json")} == before
        (disk / "filler").unlink()
        push(platform, New=new)
        published(platform, "active_connectors", lambda v: sorted(v) == ["New", "Plant"])
        assert gateway.log_text().count("Plant: connected") == 1 and "Plant: restart" not in gateway.log_text()
        push(platform, Plant={**plant, "ts": int(time.time() * 1000)})
        published(platform, "Plant", lambda v: keys_of(v) == ["seq", "new"])
        assert '"new"' in (gateway.directory / "plant.json").read_text()
        wait_until(lambda: set(own(platform, "configuration_errors")) == {"general_configuration"}, "the errors of what is right now are gone")
    finally:
        gateway.close()
        subprocess.run(["umount", "-l", str(disk)], check=False)
