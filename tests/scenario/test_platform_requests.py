# SPDX-License-Identifier: Apache-2.0
"""Requests of the platform to the gateway itself and to devices: what the router promises, end to end."""
import json

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until


def plant(made, *devices, thingsboard=None):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant MQTT": mqtt_connector(broker.port)}, thingsboard=thingsboard)
    gateway.wait_log("Plant MQTT: connected")
    for device in devices:
        broker.publish(f"sensors/{device}/data", {"seq": 1})
        platform.wait_for(device, seq=1)
    return platform, broker, gateway


def publish(platform, topic, payload):
    platform.ask(f"publish {topic} {payload if isinstance(payload, str) else json.dumps(payload)}")


def own(platform, number, method, params=None):
    """The reply to one request to the gateway."""
    platform.own_rpc(number, method, params)
    return take(platform, 1)[0]["payload"]


def take(platform, n):
    replies = []

    def there():
        for reply in platform.ask("replies")["replies"]:
            replies.append({**reply, "payload": json.loads(reply["payload"])})
        return len(replies) >= n
    wait_until(there, f"{n} replies")
    return replies


def test_the_gateways_own_methods(made):
    platform, broker, _ = plant(made, "a")
    assert own(platform, 1, "gateway_ping") == {"code": 200, "resp": "pong"}
    assert own(platform, 2, "gateway_devices", "{}") == {"code": 200, "resp": {"a": "Plant MQTT"}}
    stats = own(platform, 3, "gateway_stats", {})
    assert stats["eventsProduced"] == stats["PlantMQTTEventsSent"] == 1
    assert set(own(platform, 4, "gateway_version")["resp"]) == {"current_version", "latest_version"}
    assert own(platform, 5, "gateway_nosuch") == {"error": "Method not found", "code": 404}
    assert own(platform, 6, "sendCommand", {"command": "id"})["code"] == 404
    assert own(platform, 7, "gateway_reboot") == {"error": "Disabled", "code": 403}


def test_malformed_messages_leave_one_line_each_and_the_gateway_goes_on(made):
    platform, broker, gateway = plant(made, "a")
    for topic in ("v1/gateway/rpc", "v1/gateway/attributes", "v1/gateway/attributes/response", "v1/devices/me/rpc/request/x",
                  "v1/devices/me/attributes"):
        for payload in ("garbage", "[]", "5", '{"device":1}', '{"device":"a","data":{}}'):
            publish(platform, topic, payload)
    assert own(platform, 1, "gateway_ping")["resp"] == "pong"
    assert "is not understood" in gateway.log_text()
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("a", seq=2)


def test_an_unknown_device_is_answered_after_five_seconds_and_one_that_comes_is_served(made):
    platform, broker, _ = plant(made)
    publish(platform, "v1/gateway/rpc", {"device": "late", "data": {"id": 1, "method": "x"}})
    publish(platform, "v1/gateway/rpc", {"device": "never", "data": {"id": 2, "method": "x"}})
    broker.publish("sensors/late/data", {"seq": 1})
    # The connector has no mapping for it: it says so at once. The stand-in takes replies of known devices only.
    assert "not configured" in take(platform, 1)[0]["payload"]["data"]["error"]


def test_a_repeat_after_a_lost_session_gets_the_earlier_answer(made):
    platform, broker, _ = plant(made, "a")
    request = {"device": "a", "data": {"id": 9, "method": "x", "params": 1}}
    publish(platform, "v1/gateway/rpc", request)
    first = take(platform, 1)[0]["payload"]["data"]
    platform.ask("drop")
    wait_until(lambda: platform.stats()["sessions"] == 2, "a new session")
    wait_until(lambda: platform.ask(f"publish v1/gateway/rpc {json.dumps(request)}")["sent"], "it is sent")
    assert take(platform, 1)[0]["payload"]["data"] == first


def test_a_renamed_device_is_reached_by_its_new_name(made):
    platform, broker, _ = plant(made, "a")
    assert own(platform, 1, "gateway_device_renamed", {"a": "b"}) == {"success": True}
    broker.publish("sensors/a/data", {"seq": 2})
    platform.wait_for("b", seq=2)
    publish(platform, "v1/gateway/rpc", {"device": "b", "data": {"id": 1, "method": "x"}})
    reply = take(platform, 1)[0]
    assert reply["payload"]["device"] == "b" and "not configured" in reply["payload"]["data"]["error"]


def test_a_restart_is_answered_first_and_then_the_program_begins_anew(made):
    platform, broker, gateway = plant(made, "a")
    assert own(platform, 1, "gateway_restart", 1) == {"success": True}
    wait_until(lambda: gateway.log_text().count("gateway is running") == 2, "it runs again")
    gateway.wait_log("restart by the platform")
    assert gateway.process.poll() is None  # in the same process
    wait_until(lambda: gateway.log_text().count("connected to the platform") == 2, "it is connected again")
    assert own(platform, 2, "gateway_ping")["resp"] == "pong"


@pytest.mark.parametrize("n", [2000])
def test_many_requests_at_once_are_answered_once_each(made, n):
    platform, broker, _ = plant(made, "a")
    for i in range(n):
        publish(platform, "v1/gateway/rpc", {"device": "a", "data": {"id": i, "method": "x", "params": i}})
    replies = take(platform, n)
    assert sorted(r["payload"]["id"] for r in replies) == list(range(n))
