# SPDX-License-Identifier: Apache-2.0
"""The way down through a real broker: requests, attribute updates and attribute requests of the platform reach devices."""
import contextlib
import json
import queue
import subprocess
import threading

import pytest
from plant import Broker, Gateway, LIMIT_S, Platform, mqtt_connector, wait_until

SECTIONS = {
    "attributeRequests": [{
        "topicFilter": "ask/+", "deviceInfo": {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=ask/).*"},
        "attributeNameExpression": "${keys}", "topicExpression": "answer/${deviceName}", "valueExpression": "${attributeValue}", "qos": 1}],
    "attributeUpdates": [{
        "deviceNameFilter": ".*", "attributeFilter": "limit|mode", "topicExpression": "set/${deviceName}/${attributeKey}",
        "valueExpression": "${attributeValue}", "qos": 1, "retain": True}],
    "serverSideRpc": [
        {"deviceNameFilter": ".*", "methodFilter": "^echo", "requestTopicExpression": "do/${deviceName}/${methodName}/${requestId}",
         "valueExpression": "${params}", "responseTopicExpression": "done/${deviceName}/${requestId}", "responseTimeout": 10000},
        {"deviceNameFilter": ".*", "methodFilter": "^same", "requestTopicExpression": "do/${deviceName}/same/${requestId}",
         "valueExpression": "${params}", "responseTopicExpression": "done/${deviceName}/same", "responseTimeout": 10000},
        {"deviceNameFilter": ".*", "methodFilter": "^mute", "requestTopicExpression": "do/${deviceName}/mute",
         "valueExpression": "1", "responseTopicExpression": "done/mute", "responseTimeout": 300},
        {"deviceNameFilter": ".*", "methodFilter": "^tell", "requestTopicExpression": "do/${deviceName}/tell/${params.where}",
         "valueExpression": "{\"v\":${params.v}}", "qos": 1}],
}


class Listener:
    """What is published on the plant's broker, by topic."""

    def __init__(self, port, *filters):
        arguments = [x for f in filters for x in ("-t", f)]
        self.process = subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-v", "-F", "%t %r %q %p", *arguments],
                                        stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            topic, retain, qos, payload = line.rstrip("\n").split(" ", 3)
            self.lines.put((topic, payload, int(qos), retain == "1"))

    def next(self):
        return self.lines.get(timeout=LIMIT_S)[:2]

    def close(self):
        self.process.kill()
        self.process.wait()


def listening(made, broker, *filters):
    """A listener that has shown to be subscribed."""
    listener = made(Listener, broker.port, "ready", *filters)

    def heard():
        broker.publish("ready", "x")
        with contextlib.suppress(queue.Empty):
            return listener.lines.get(timeout=0.2)[0] == "ready"
    wait_until(heard, "the listener is subscribed")
    while not listener.lines.empty():
        listener.lines.get()
    return listener


def plant(made, *devices, version=5, **broker_conf):
    platform, broker = made(Platform), made(Broker)
    connector = {**mqtt_connector(broker.port, version=version, **broker_conf), "requestsMapping": SECTIONS}
    gateway = made(Gateway, platform.port, {"Plant": connector})
    gateway.wait_log("Plant: connected")
    for device in devices:
        broker.publish(f"sensors/{device}/data", {"seq": 1})
        platform.wait_for(device, seq=1)
    return platform, broker, gateway


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_request_and_the_devices_own_words_in_reply(made, version):
    platform, broker, _ = plant(made, "pump", version=version)
    device = listening(made, broker, "do/#")
    platform.rpc("pump", 7, "echo", {"a": [1, None, "it's"]})
    topic, payload = device.next()
    assert topic == "do/pump/echo/7" and json.loads(payload) == {"a": [1, None, "it's"]}
    broker.publish("done/pump/7", '{"msg": "it\'s 1.50"}')
    assert platform.wait_replies(1) == {7: {"msg": "it's 1.50"}}
    platform.rpc("pump", 8, "echo", "text")
    assert device.next() == ("do/pump/echo/8", '"text"')
    broker.publish("done/pump/8", "no JSON")
    assert platform.wait_replies(2)[8] == "no JSON"


def test_a_device_that_is_mute_ends_by_the_time_out(made):
    platform, broker, _ = plant(made, "pump")
    platform.rpc("pump", 1, "mute")
    assert platform.wait_replies(1) == {1: {"success": False}}
    platform.rpc("pump", 2, "unknown")
    assert platform.wait_replies(2)[2] == {"error": "Method unknown is not configured for device pump", "success": False}


def test_requests_on_one_response_topic_get_their_own_replies(made):
    platform, broker, _ = plant(made, "a", "b")
    device = listening(made, broker, "do/#")
    for device_name, numbers in (("a", (1, 2)), ("b", (3,))):
        for number in numbers:
            platform.rpc(device_name, number, "same", number)
            # Of one device the second goes out when the first is answered.
            assert device.next()[0] == f"do/{device_name}/same/{number}"
            broker.publish(f"done/{device_name}/same", {"n": number})
            assert platform.wait_replies(number)[number] == {"n": number}
    for number, topic in ((4, "x"), (5, "y")):
        platform.rpc("ab"[number - 4], number, "set", f"requestTopicExpression=do/{topic};responseTopicExpression=shared;value={number}")
    assert {device.next(), device.next()} == {("do/x", "4"), ("do/y", "5")}
    broker.publish("shared", {"first": True})
    broker.publish("shared", {"first": False})
    replies = platform.wait_replies(5)
    assert [replies[4], replies[5]] == [{"first": True}, {"first": False}]


def test_one_way_requests_and_calls_to_the_connector(made):
    platform, broker, _ = plant(made, "pump")
    device = listening(made, broker, "do/#", "direct/#")
    platform.rpc("pump", 1, "tell", {"where": "left", "v": 80})
    assert device.next() == ("do/pump/tell/left", '{"v":80}')
    platform.rpc("pump", 2, "tell", {"where": "#", "v": 80})
    replies = platform.wait_replies(2)
    assert replies[1] == {"success": True}
    assert replies[2]["success"] is False and "wildcard" in replies[2]["error"]
    platform.own_rpc(3, "mqtt_say", {"requestTopicExpression": "direct/${params.to}", "valueExpression": "${params.what}", "to": "all", "what": {"x": 1}})
    assert device.next() == ("direct/all", '{"x":1}')
    assert platform.wait_replies(3)["own 3"] == {"success": True}


def test_attribute_updates_reach_the_device(made):
    platform, broker, _ = plant(made, "pump")
    device = listening(made, broker, "set/#")
    platform.update("pump", limit=5, other=1, mode="eco")
    assert {device.next(), device.next()} == {("set/pump/limit", "5"), ("set/pump/mode", "eco")}


def test_attribute_requests_are_answered(made):
    platform, broker, _ = plant(made, "pump")
    device = listening(made, broker, "answer/#")
    platform.ask('shared pump {"limit":7,"mode":"eco"}')
    broker.publish("ask/pump", {"keys": "limit"})
    assert device.next() == ("answer/pump", "7")
    broker.publish("ask/pump", {"keys": ["mode", "limit", "none"]})
    topic, payload = device.next()
    assert topic == "answer/pump" and json.loads(payload) == {"mode": "eco", "limit": 7}


def test_while_the_broker_is_away_requests_fail_and_updates_wait(made):
    platform, broker, gateway = plant(made, "pump")
    broker.stop()
    gateway.wait_log("Plant: not connected")
    platform.rpc("pump", 1, "tell", {"where": "left", "v": 1})
    reply = platform.wait_replies(1)[1]
    assert reply["success"] is False and "not connected" in reply["error"]
    platform.update("pump", limit=1)
    platform.update("pump", limit=2)
    platform.rpc("pump", 2, "tell", {"where": "left", "v": 1})
    platform.wait_replies(2)  # of one device commands go in order: the updates have been taken
    broker.start()
    device = listening(made, broker, "set/#")  # retained, for those who come late

    def latest():
        with contextlib.suppress(queue.Empty):
            return device.lines.get(timeout=0.2)[:2] == ("set/pump/limit", "2")
    wait_until(latest, "the last update has arrived")
    platform.rpc("pump", 3, "tell", {"where": "left", "v": 1})
    assert platform.wait_replies(3)[3] == {"success": True}


def test_a_request_outlives_the_brokers_restart(made):
    platform, broker, gateway = plant(made, "pump")
    device = listening(made, broker, "do/#")
    platform.rpc("pump", 1, "echo", 1)
    assert device.next() == ("do/pump/echo/1", "1")
    broker.stop()
    gateway.wait_log("Plant: not connected")
    broker.start()

    def answered():
        broker.publish("done/pump/1", {"late": True})
        return platform.wait_replies(0)
    wait_until(answered, "the reply has come")
    assert platform.wait_replies(1) == {1: {"late": True}}


def test_connectors_to_several_brokers_serve_their_own_devices(made):
    platform, left, right = made(Platform), made(Broker), made(Broker)
    connectors = {name: {**mqtt_connector(broker.port), "requestsMapping": SECTIONS} for name, broker in (("Left", left), ("Right", right))}
    gateway = made(Gateway, platform.port, connectors)
    for number, (name, broker) in enumerate((("Left", left), ("Right", right)), 1):
        gateway.wait_log(f"{name}: connected")
        broker.publish(f"sensors/{name}/data", {"seq": 1})
        platform.wait_for(name, seq=1)
        device = listening(made, broker, "do/#")
        platform.rpc(name, number, "tell", {"where": "here", "v": number})
        assert device.next() == (f"do/{name}/tell/here", '{"v":%d}' % number)
        assert platform.wait_replies(number)[number] == {"success": True}


def test_a_gateway_that_stops_answers_what_is_open(made):
    platform, broker, gateway = plant(made, "pump")
    device = listening(made, broker, "do/#")
    platform.rpc("pump", 1, "echo", 1)
    device.next()
    assert gateway.stop() == 0
    assert platform.wait_replies(1) == {1: {"success": False}}
