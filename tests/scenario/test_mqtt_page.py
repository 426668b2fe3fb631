# SPDX-License-Identifier: Apache-2.0
"""The MQTT connector's page against mosquitto: topic expressions, retained messages, QoS of each entry, shared subscriptions."""
import json
import re
import subprocess

import pytest
from plant import BUILD, Broker, Gateway, LIMIT_S, Platform, mqtt_connector, mqtt_mapping, wait_until

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])


class LoggingBroker(Broker):
    def __init__(self, directory):
        self.log_path = f"{directory}.log"
        super().__init__(directory, extra=(f"log_dest file {self.log_path}", "log_type all"))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()


@pytest.fixture
def broker(made, tmp_path):
    return made(LoggingBroker, tmp_path / "broker")


@pytest.fixture
def platform(made):
    return made(Platform)


@pytest.fixture
def run(made, platform):
    def start(*connectors):
        gateway = made(Gateway, platform.port, {f"Plant{i}" if i else "Plant": c for i, c in enumerate(connectors)})
        for i in range(len(connectors)):
            gateway.wait_log(f"Plant{i or ''}: connected")
        return gateway
    return start


def received(broker, topic):
    """One message of the topic, also a retained one: (retained, payload)."""
    done = subprocess.run(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-C", "1", "-F", "%r %p"],
                          capture_output=True, text=True, timeout=LIMIT_S)
    retained, _, payload = done.stdout.rstrip("\n").partition(" ")
    return retained == "1", payload


def test_names_profiles_and_keys_come_from_the_topic(broker, platform, run):
    conf = mqtt_mapping("plant/+/+/data", r"plant/(\w+)/.*", ("seq",))
    conf["converter"]["deviceInfo"].update(deviceProfileExpressionSource="topic", deviceProfileExpression=r"(?<=plant/)\w+/(\w+)(?=/data)")
    conf["converter"]["timeseries"].append({"key": r"/(\w+)/data", "keySource": "topic", "type": "int", "value": "${seq}"})
    run(mqtt_connector(broker.port, [conf]))
    broker.publish("plant/boiler/heater/data", {"seq": 7})
    platform.wait_for("boiler", seq=7, heater=7)
    devices = {d["device"]: d for d in platform.ask("devices")["devices"]}
    assert devices["boiler"]["profile"] == "heater"
    broker.publish("plant/a b/heater/data", {"seq": 8})  # the expression does not match: no device
    broker.publish("plant/c/heater/data", {"seq": 9})
    platform.wait_for("c", seq=9)
    assert set(platform.devices()) == {"boiler", "c"}


@VERSIONS
def test_a_retained_message_is_there_from_the_beginning(broker, platform, run, version):
    broker.publish("sensors/early/data", {"seq": 5}, args=("-r",))
    run(mqtt_connector(broker.port, version=version))
    platform.wait_for("early", seq=5)


@VERSIONS
def test_what_goes_down_is_retained_and_sent_with_the_qos_of_its_entry(broker, platform, run, version):
    conf = mqtt_connector(broker.port, version=version)
    conf["requestsMapping"] = {
        "attributeUpdates": [
            {"deviceNameFilter": ".*", "attributeFilter": "kept", "topicExpression": "set/${deviceName}/kept", "valueExpression": "${attributeValue}",
             "retain": True, "qos": 2},
            {"deviceNameFilter": ".*", "attributeFilter": "gone", "topicExpression": "set/${deviceName}/gone", "valueExpression": "${attributeValue}"}],
        "serverSideRpc": [{"deviceNameFilter": ".*", "methodFilter": "say", "requestTopicExpression": "do/${deviceName}", "valueExpression": "${params}",
                           "retain": True, "qos": 1}]}
    run(conf)
    broker.publish("sensors/pump/data", {"seq": 1})
    platform.wait_for("pump", seq=1)
    platform.update("pump", gone=1, kept=2)
    platform.rpc("pump", 1, "say", {"a": 1})
    platform.wait_replies(1)
    assert received(broker, "set/#") == (True, "2")  # gone is not there any more
    assert received(broker, "do/#") == (True, '{"a":1}')
    for topic, flags in (("set/pump/gone", "q0, r0"), ("set/pump/kept", "q2, r1"), ("do/pump", "q1, r1")):
        assert re.search(rf"Received PUBLISH from \S+ \(d0, {flags}, m\d+, '{topic}'", broker.log()), topic


@VERSIONS
def test_each_entry_has_its_qos_and_one_filter_is_subscribed_once_with_the_highest(broker, platform, run, version):
    conf = [mqtt_mapping(f"{c}/+/data", f"{c}/(.*?)/data", ("seq",), qos) for c, qos in (("a", 0), ("b", 1), ("c", 2))]
    conf += [mqtt_mapping("d/+/data", "d/(.*?)/data", ("seq",), 1), mqtt_mapping("d/+/data", "d/(.*?)/data", ("temperature",), 2)]
    run(mqtt_connector(broker.port, conf, version=version))
    for name in "abcd":
        broker.publish(f"{name}/{name}1/data", {"seq": 3, "temperature": 4.5}, qos=2)
        platform.wait_for(f"{name}1", seq=3)
    platform.wait_for("d1", seq=3, temperature=4.5)  # both entries ran
    asked = re.findall(r"\t([a-d])/\+/data \(QoS (\d)\)", broker.log())
    assert sorted(asked) == [("a", "0"), ("b", "1"), ("c", "2"), ("d", "2")]
    for name, qos in asked:
        assert re.search(rf"Sending PUBLISH to \S+ \(d0, q{qos}, r0, m\d+, '{name}/{name}1/data'", broker.log()), name


@VERSIONS
def test_a_shared_subscription_spreads_messages_over_connectors(broker, platform, run, version):
    n = 400
    run(*[mqtt_connector(broker.port, [mqtt_mapping("$share/gateways/sensors/+/data")], version=version) for _ in range(2)])
    broker.publish_lines("sensors/pump/data", [{"ts": 1700000000000 + i, "seq": i, "temperature": i} for i in range(n)])
    wait_until(lambda: platform.stats()["uniq"] == n, "all have arrived")
    assert platform.stats()["dup"] == 0
    to = [len(re.findall(rf"Sending PUBLISH to {client} ", broker.log())) for client in set(re.findall(r"Sending PUBLISH to (\S+) ", broker.log()))]
    assert len(to) == 2 and sum(to) == n and min(to) > n // 10


def test_formulas_that_cannot_be_translated_are_reported_with_their_place(tmp_path):
    lines = ['{"broker":{"host":"h"},"mapping":[{"topicFilter":"a","converter":{"type":"json","useEval":true,',
             ' "deviceInfo":{"deviceNameExpressionSource":"constant","deviceNameExpression":"D"},',
             ' "timeseries":[{"key":"a","type":"double","value":"${a} * 2 + max(${b}, 3)"},',
             '  {"key":"b","type":"double","value":"__import__(\'os\').system(\'ls\')"},',
             '  {"key":"c","type":"double",',
             '   "value":"open(${a}).read()"}]}}]}']
    (tmp_path / "mqtt.json").write_text("\n".join(lines))
    done = subprocess.run([str(BUILD / "iotgw"), "check", "--json", str(tmp_path / "mqtt.json")], capture_output=True, text=True, timeout=LIMIT_S)
    problems = {(p["line"], p["column"]): p for f in [json.loads(done.stdout)] for p in f["problems"]}
    assert done.returncode == 78
    assert set(problems) == {(4, lines[3].index('"__import') + 1), (6, lines[5].index('"open') + 1)}, problems
    texts = {place[0]: problem["message"] for place, problem in problems.items()}
    assert "unknown function" in texts[4] and "__import__" in texts[4]
    assert "unknown function" in texts[6] and "open" in texts[6]
    text = subprocess.run([str(BUILD / "iotgw"), "check", str(tmp_path / "mqtt.json")], capture_output=True, text=True, timeout=LIMIT_S).stdout
    assert f"mqtt.json:4:{lines[3].index(chr(34) + '__import') + 1}: mapping[0].converter.timeseries[1].value: " in text
