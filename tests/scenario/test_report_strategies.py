# SPDX-License-Identifier: Apache-2.0
"""Report strategies from the broker to the platform: what is held back, what is repeated, and what ends repeating."""
import time

from plant import Broker, Gateway, Platform, mqtt_connector, mqtt_mapping, wait_until

TOPIC = "sensors/boiler/data"


def running(made, connector, **thingsboard):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": connector(broker.port)}, thingsboard=thingsboard)
    gateway.wait_log("Plant: connected")
    return platform, broker, gateway


def with_mapping(**more):
    return lambda port: mqtt_connector(port, [{**mqtt_mapping(keys=("seq", "temperature")), **more}])


def strategy(kind, **more):
    return {"type": kind, **more}


def values(platform):
    return platform.stats()["values"]


def test_unchanged_values_are_held_back_and_changes_go_out(made):
    platform, broker, gateway = running(made, with_mapping(reportStrategy=strategy("ON_CHANGE")))
    broker.publish_lines(TOPIC, [{"seq": 1, "temperature": 20.5}] * 50)
    broker.publish(TOPIC, {"seq": 2, "temperature": 20.5})
    platform.wait_for("boiler", seq=2)
    assert values(platform) == 3  # seq and temperature, then seq
    broker.publish(TOPIC, {"seq": 2, "temperature": 21.5})
    platform.wait_for("boiler", temperature=21.5)
    assert values(platform) == 4
    assert "no effect" not in gateway.log_text()


def test_a_points_own_strategy_goes_before_its_mappings_and_the_former_key_works(made):
    mapping = mqtt_mapping(keys=("seq", "temperature"), sendDataOnlyOnChange=True)
    mapping["converter"]["timeseries"][1]["reportStrategy"] = strategy("ON_RECEIVED")
    platform, broker, _ = running(made, lambda port: mqtt_connector(port, [mapping]))
    broker.publish_lines(TOPIC, [{"seq": 1, "temperature": 20.5}] * 10)
    broker.publish(TOPIC, {"seq": 2, "temperature": 20.5})
    platform.wait_for("boiler", seq=2)
    assert values(platform) == 13  # seq twice, each temperature


def test_the_deadband_holds_back_small_changes(made):
    platform, broker, _ = running(made, with_mapping(reportStrategy=strategy("ON_CHANGE", deadband=5)))
    for temperature in (20.0, 24.0, 16.0, 25.5):
        broker.publish(TOPIC, {"temperature": temperature})
    platform.wait_for("boiler", temperature=25.5)
    assert values(platform) == 2


def test_the_latest_value_is_repeated_each_period_under_a_new_time(made):
    platform, broker, _ = running(made, with_mapping(), reportStrategy=strategy("ON_REPORT_PERIOD", reportPeriod=300))
    broker.publish(TOPIC, {"ts": 1700000000000, "temperature": 1.5})
    platform.wait_for("boiler", temperature=1.5)
    broker.publish(TOPIC, {"ts": 1700000000001, "temperature": 2.5})
    platform.wait_for("boiler", temperature=2.5)
    stamp = platform.values("boiler")["telemetry"]["temperature"]["ts"]
    assert stamp > 1700000000001  # of the report, not of the source
    sent = values(platform)
    wait_until(lambda: values(platform) >= sent + 3, "three more reports of a silent point")
    assert platform.values("boiler")["telemetry"]["temperature"]["ts"] >= stamp + 900 - 50


def test_a_device_that_is_reported_not_connected_is_not_repeated(made):
    def connector(port):
        conf = mqtt_connector(port, [{**mqtt_mapping(), "reportStrategy": strategy("ON_REPORT_PERIOD", reportPeriod=200)}])
        info = {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=sensors/)(.*?)(?=/gone)"}
        conf["requestsMapping"] = {"disconnectRequests": [{"topicFilter": "sensors/+/gone", "deviceInfo": info}]}
        return conf
    platform, broker, gateway = running(made, connector)
    broker.publish(TOPIC, {"temperature": 1.5})
    broker.publish("sensors/other/data", {"temperature": 1.5})
    wait_until(lambda: values(platform) >= 6, "reports of both")
    broker.publish("sensors/boiler/gone", {})
    wait_until(lambda: platform.stats()["disconnects"] >= 1, "the disconnect")
    last = platform.values("boiler")["telemetry"]["temperature"]["ts"]
    other = platform.values("other")["telemetry"]["temperature"]["ts"]
    wait_until(lambda: platform.values("other")["telemetry"]["temperature"]["ts"] >= other + 800, "reports of the other one")
    assert platform.values("boiler")["telemetry"]["temperature"]["ts"] == last
    broker.publish(TOPIC, {"temperature": 1.5})  # it is back: the value is the same, the beat goes on
    wait_until(lambda: platform.values("boiler")["telemetry"]["temperature"]["ts"] > last, "reports again")
    assert gateway.stop() == 0


def test_a_broker_that_is_away_ends_repeating(made):
    platform, broker, gateway = running(made, with_mapping(reportStrategy=strategy("ON_REPORT_PERIOD", reportPeriod=200)))
    broker.publish(TOPIC, {"temperature": 1.5})
    wait_until(lambda: values(platform) >= 4, "reports")
    broker.stop()
    gateway.wait_log("Plant: not connected")
    sent = values(platform)
    time.sleep(1)  # nothing can be waited for: what is shown is that nothing comes
    assert values(platform) <= sent + 1
    broker.start()
    wait_until(lambda: values(platform) >= sent + 4, "reports again")


def test_invariant_9_a_value_dropped_by_the_store_is_not_held_back_afterwards(made):
    platform, broker = made(Platform), made(Broker)
    connector = mqtt_connector(broker.port, [{**mqtt_mapping(keys=("temperature",)), "reportStrategy": strategy("ON_CHANGE")}])
    gateway = made(Gateway, platform.port, {"Plant": connector}, storage={"max_records_count": 160, "overflow": "drop_oldest"})
    gateway.wait_log("Plant: connected")
    platform.ask("down")
    broker.publish(TOPIC, {"temperature": 1.5})  # waits in the store …
    broker.publish_lines("sensors/other/data", [{"temperature": i + 0.5} for i in range(400)])  # … and is pushed out of it
    platform.ask("up")
    platform.wait_for("other", temperature=399.5)
    assert "boiler" not in platform.devices()

    def comes_again():
        broker.publish(TOPIC, {"temperature": 1.5})
        return "boiler" in platform.devices()
    wait_until(comes_again, "the same value, as the first one is lost")
    platform.wait_for("boiler", temperature=1.5)
    sent = values(platform)
    broker.publish(TOPIC, {"temperature": 1.5})
    broker.publish("sensors/other/data", {"temperature": -1.5})
    platform.wait_for("other", temperature=-1.5)
    assert values(platform) == sent + 1
