# SPDX-License-Identifier: Apache-2.0
"""The platform's limits: kept to, learnt anew when they are exceeded; and sessions that it ends by itself."""
import json

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until

FREE = {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None}


def limits(own=None, devices=None):
    return json.dumps({"maxPayloadSize": 65536, "maxInflightMessages": 100, "rateLimits": {**FREE, **(own or {})},
                       "gatewayRateLimits": {**FREE, **(devices or {})}})


def plant(made, *args, thingsboard=None):
    platform, broker = made(Platform, *args), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard=thingsboard)
    gateway.wait_log("Plant: connected")
    gateway.wait_log("connected to the platform")
    return platform, broker, gateway


def publish(broker, first, count, device="boiler"):
    broker.publish_lines(f"sensors/{device}/data", [{"ts": 1700000000000 + i, "seq": i, "temperature": 20} for i in range(first, first + count)])


def complete(platform, count):
    wait_until(lambda: platform.stats()["uniq"] >= count, f"{count} unique values; have {platform.stats()}")


def test_negotiated_limits_are_kept_to(made):
    platform, broker, gateway = plant(made, "--limits", limits({"messages": "20:1"}, {"telemetryDataPoints": "500:1", "messages": "10:1"}))
    publish(broker, 0, 600)
    complete(platform, 600)
    stats = platform.stats()
    assert stats["outcomes"]["QUOTA"] == stats["outcomes"]["OWN_QUOTA"] == stats["outcomes"]["CRASH"] == 0 and stats["sessions"] == 1


def test_a_limit_that_comes_unannounced_is_learnt_and_nothing_is_lost(made):
    platform, broker, gateway = plant(made)
    publish(broker, 0, 10)
    complete(platform, 10)
    platform.ask("limits " + limits({}, {"telemetryDataPoints": "200:1"}))
    publish(broker, 10, 500)
    complete(platform, 510)
    assert platform.stats()["ooo"] == 0
    assert "rate limit is exceeded" in gateway.log_text()


def test_acknowledgements_in_any_order(made):
    platform, broker, gateway = plant(made)
    platform.ask("shuffle on")
    for device in ("boiler", "pump", "valve"):
        publish(broker, 0, 300, device)
    wait_until(lambda: platform.stats()["uniq"] >= 900, f"all is there; have {platform.stats()}")
    assert platform.stats()["ooo"] == 0 and gateway.stop() == 0


@pytest.mark.parametrize("inactivity_ms", [1500])
def test_a_session_that_the_platform_ends_for_silence_is_opened_again(made, inactivity_ms):
    platform, broker, gateway = plant(made, "--inactivity-ms", inactivity_ms)
    wait_until(lambda: platform.stats()["sessions"] >= 2, "a second session")
    publish(broker, 0, 5)
    complete(platform, 5)
    assert "code=131" in gateway.log_text()
