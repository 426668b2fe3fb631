# SPDX-License-Identifier: Apache-2.0
"""Requests of the platform while a connector is restarted under them: exactly one answer each (invariant 8), in order per device."""
import json

from plant import Broker, Gateway, Platform, Source, mqtt_connector, wait_until
from test_mqtt_downlink import SECTIONS, listening

N_DEVICES = 10
ECHO = {"serverSideRpc": [{
    "deviceNameFilter": ".*", "methodFilter": "echo", "requestTopicExpression": "request/${deviceName}/${methodName}/${requestId}",
    "responseTopicExpression": "response/${deviceName}/${methodName}/${requestId}", "responseTimeout": 3000, "valueExpression": "${params}"}]}


def restart_connector(gateway, n):
    path = gateway.directory / "plant.json"
    conf = json.loads(path.read_text())
    conf["mapping"][0]["converter"]["timeseries"][1]["key"] = f"k{n}"
    path.write_text(json.dumps(conf))


def test_each_request_is_answered_once_while_its_connector_restarts(made):
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", N_DEVICES)
    gateway = made(Gateway, platform.port, {"Plant": {**mqtt_connector(source.port), "requestsMapping": ECHO}})
    gateway.wait_log("Plant: connected")
    source.ask(f"run {N_DEVICES}")
    wait_until(lambda: len(platform.devices()) == N_DEVICES, "all devices are there")
    platform.ask(f"requests 4000 500 {N_DEVICES}")
    for n in range(1, 5):
        at = n * 700
        wait_until(lambda: platform.ask("requests")["requests"] >= at, f"{at} requests")
        restart_connector(gateway, n)
        wait_until(lambda: gateway.log_text().count("Plant: connected") > n, f"restart {n}")
    wait_until(lambda: platform.ask("requests")["answered"] == 4000, "every request is answered")
    stats = platform.ask("requests")
    assert stats["twice"] == 0
    assert stats["failed"] < 4000 - 1000  # while it is away requests fail, between the restarts they do not
    assert gateway.stop() == 0
    assert "replied twice" not in gateway.log_text()


def test_a_devices_requests_reach_it_in_their_order(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": {**mqtt_connector(broker.port), "requestsMapping": SECTIONS}})
    gateway.wait_log("Plant: connected")
    for device in ("a", "b"):
        broker.publish(f"sensors/{device}/data", {"seq": 1})
        platform.wait_for(device, seq=1)
    listener = listening(made, broker, "do/+/tell/#")
    for i in range(60):
        platform.rpc("ab"[i % 2], i, "tell", {"where": "x", "v": i})
    platform.wait_replies(60)
    got = {"a": [], "b": []}

    def there():
        while not listener.lines.empty():
            topic, payload = listener.next()
            got[topic.split("/")[1]].append(json.loads(payload)["v"])
        return len(got["a"]) + len(got["b"]) == 60
    wait_until(there, "all are published")
    assert got == {"a": list(range(0, 60, 2)), "b": list(range(1, 60, 2))}
