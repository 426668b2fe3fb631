# SPDX-License-Identifier: Apache-2.0
"""The main job: what devices publish on the plant's broker arrives at the platform, whatever happens on the way."""
import json
import signal

import pytest
from books import ask
from plant import Broker, Certificates, Gateway, IS_INSTRUMENTED, Platform, mqtt_connector, mqtt_mapping, wait_until


def lines(first, count, **more):
    return [{"ts": 1700000000000 + i, "seq": i, "temperature": 20 + i / 10, **more} for i in range(first, first + count)]


def assert_complete(platform, count):
    """Every value once, in order: the sink marks seq per device."""
    wait_until(lambda: platform.stats()["uniq"] >= count, f"{count} unique values; have {platform.stats()}")
    stats = platform.stats()
    assert stats["uniq"] == count and stats["dup"] == 0 and stats["ooo"] == 0, stats


def until_it_arrives(platform, broker, topic):
    """Publishes until the gateway has subscribed again and the device is seen."""
    def arrived():
        broker.publish(topic, {"seq": 0})
        return topic.split("/")[1] in platform.devices()
    wait_until(arrived, f"{topic} arrives")


def ready(broker, gateway):
    gateway.wait_log("Plant: connected")
    return gateway


@pytest.mark.parametrize("version", [3, 4, 5])
def test_values_arrive_whatever_the_brokers_version(made, version):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, version=version)}))
    broker.publish_lines("sensors/boiler/data", lines(0, 50))
    assert_complete(platform, 50)
    assert platform.latest("boiler")["temperature"] == 24.9
    assert gateway.stop() == 0


def test_connect_precedes_data_and_carries_the_profile(made):
    platform, broker = made(Platform), made(Broker)
    ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    broker.publish("sensors/pump/data", {"seq": 1, "temperature": 5})
    platform.wait_for("pump", seq=1)
    assert platform.values("pump")["profile"] == "sensor"
    assert platform.stats()["before_connect"] == 0


@pytest.mark.parametrize("want_client", [False, True])
def test_tls_to_the_broker(made, want_client):
    certificates = made(Certificates, want_client=want_client)
    platform, broker = made(Platform), made(Broker, tls=certificates)
    security = {"type": "certificates", "pathToCACert": certificates.ca}
    if want_client:
        security |= {"pathToClientCert": certificates.client_cert, "pathToPrivateKey": certificates.client_key}
    ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, security=security)}))
    tls = ["--cafile", certificates.ca, "--cert", certificates.client_cert, "--key", certificates.client_key]
    broker.publish_lines("sensors/boiler/data", lines(0, 20), args=tls)
    assert_complete(platform, 20)


def test_broker_whose_certificate_does_not_verify_is_refused_with_the_reason(made):
    theirs, other = made(Certificates), made(Certificates)
    platform, broker = made(Platform), made(Broker, tls=theirs)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, security={"type": "certificates", "pathToCACert": other.ca})})
    gateway.wait_log("127.0.0.1")
    wait_until(lambda: "certificate" in gateway.log_text().lower() or "unknown ca" in gateway.log_text().lower(), "the reason is named")
    assert "Plant: connected" not in gateway.log_text()


def test_user_and_password(made):
    platform, broker = made(Platform), made(Broker, users={"plant": "s3cret-word"})
    security = {"type": "basic", "username": "plant", "password": "s3cret-word"}
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, security=security)}))
    broker.publish_lines("sensors/boiler/data", lines(0, 5), args=["-u", "plant", "-P", "s3cret-word"])
    assert_complete(platform, 5)
    assert "s3cret-word" not in gateway.log_text()


def test_wrong_password_is_named_and_never_logged(made):
    platform, broker = made(Platform), made(Broker, users={"plant": "right"})
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, security={"type": "basic", "username": "plant", "password": "wr0ng-word"})})
    wait_until(lambda: "authori" in gateway.log_text().lower(), "the refusal is named")
    assert "wr0ng-word" not in gateway.log_text()


def test_platform_outage_loses_nothing_and_keeps_order(made):
    platform, broker = made(Platform), made(Broker)
    ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    broker.publish_lines("sensors/a/data", lines(0, 100))
    assert_complete(platform, 100)
    platform.ask("down")
    broker.publish_lines("sensors/a/data", lines(100, 2000))
    broker.publish_lines("sensors/b/data", lines(0, 500))
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 2600, "all 2600")
    assert platform.stats()["ooo"] == 0


def test_frozen_platform_then_cut_loses_nothing(made):
    platform, broker = made(Platform), made(Broker)
    ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    platform.ask("stop-acking")
    broker.publish_lines("sensors/a/data", lines(0, 1000))
    wait_until(lambda: platform.stats()["telemetry"] > 0, "something came")
    platform.ask("down")
    platform.ask("ack")
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 1000, "all 1000")
    assert platform.stats()["ooo"] == 0  # resent ones are counted as duplicates, never as out of order


def test_broker_restart_is_survived(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    broker.publish_lines("sensors/a/data", lines(0, 10))
    assert_complete(platform, 10)
    broker.stop(signal.SIGKILL)
    broker.start()
    until_it_arrives(platform, broker, "sensors/probe/data")
    broker.publish_lines("sensors/a/data", lines(10, 10))
    wait_until(lambda: platform.latest("a").get("seq") == 19, "what was published after the restart")


def test_persistent_session_delivers_what_came_while_the_gateway_was_away(made):
    platform, broker = made(Platform), made(Broker)
    conf = mqtt_connector(broker.port, clientId="gw-1", cleanStart=False, cleanSession=False, sessionExpiryInterval=3600)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": conf}))
    broker.publish_lines("sensors/a/data", lines(0, 10))
    assert_complete(platform, 10)
    assert gateway.stop() == 0
    broker.publish_lines("sensors/a/data", lines(10, 10))
    gateway.start()
    assert_complete(platform, 20)


def test_malformed_payloads_are_counted_once_a_cause_and_stop_nothing(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    for _ in range(20):
        broker.publish("sensors/a/data", b"{not json \xff\xfe")
    broker.publish("sensors/a/data", b"")
    broker.publish("sensors/a/data", b"[1,2,[]]")
    broker.publish_lines("sensors/a/data", lines(0, 10))
    assert_complete(platform, 10)
    assert 1 <= gateway.log_text().count("sensors/a/data") <= 6


def test_message_without_a_device_name_is_dropped_with_a_reason(made):
    platform, broker = made(Platform), made(Broker)
    mapping = mqtt_mapping(topic="plain/data")
    mapping["converter"]["deviceInfo"] = {"deviceNameExpressionSource": "message", "deviceNameExpression": "${sn}",
                                          "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "p"}
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mapping])}))
    broker.publish("plain/data", {"seq": 1})
    broker.publish("plain/data", {"sn": "S1", "seq": 2})
    platform.wait_for("S1", seq=2)
    assert "device name" in gateway.log_text()
    assert platform.devices() == ["S1"]


def test_value_above_the_platforms_limit_goes_to_the_rejected_file_and_the_rest_flows(made):
    platform, broker = made(Platform), made(Broker)
    mapping = mqtt_mapping(keys=("seq", "state"))
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mapping])}))
    broker.publish("sensors/a/data", {"seq": 0, "state": "small"})
    broker.publish("sensors/a/data", {"ts": 1700000000001, "seq": 1, "state": "x" * 200_000})
    broker.publish("sensors/a/data", {"ts": 1700000000002, "seq": 2, "state": "after"})
    platform.wait_for("a", seq=2, state="after")
    rejected = gateway.directory / "rejected.jsonl"
    wait_until(rejected.exists, "the rejected file is there")
    entry = json.loads(rejected.read_text().splitlines()[0])
    assert "x" * 1000 in json.dumps(entry)
    assert platform.stats()["sessions"] == 1, "the platform never had to close the connection"


def test_refused_packs_are_bisected_and_the_rest_is_delivered(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mqtt_mapping(keys=("seq", "state"))])}))
    broker.publish("sensors/a/data", {"seq": 0, "state": "ok"})
    platform.wait_for("a", seq=0)
    platform.ask("puback 0x99 POISON")
    broker.publish_lines("sensors/a/data", [{"ts": 1700000000000 + i, "seq": i, "state": "POISON" if i == 57 else "ok"} for i in range(1, 200)])
    wait_until(lambda: platform.stats()["uniq"] == 199, "all but the poisoned one")
    text = (gateway.directory / "rejected.jsonl").read_text()
    assert text.count("POISON") == 1 and len(text.splitlines()) == 1


def test_device_that_the_platform_refuses_takes_nobody_with_it(made):
    """A tenant at its limit of devices: connect and data of new devices are answered by 0x97 or 0x80."""
    platform, broker = made(Platform, "--refused-ms", 50), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    platform.ask("puback 0x80 refused")
    for i in range(20):
        broker.publish(f"sensors/{'refused' if i % 5 == 0 else f'good{i}'}/data", {"ts": 1700000000000 + i, "seq": i, "temperature": i})
    wait_until(lambda: len([d for d in platform.devices() if d.startswith("good")]) == 16, "the good ones")
    wait_until(lambda: (gateway.directory / "rejected.jsonl").exists(), "the refused one is written down")
    broker.publish("sensors/good1/data", {"ts": 1700000001000, "seq": 1000})
    platform.wait_for("good1", seq=1000)


def test_device_name_that_the_platform_would_lose_is_dropped_with_a_reason(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    broker.publish("sensors/<b>x/data", {"seq": 1})
    broker.publish("sensors/good/data", {"seq": 2})
    platform.wait_for("good", seq=2)
    assert platform.devices() == ["good"]
    assert "<b>x" in gateway.log_text()


def test_stop_delivers_what_memory_still_holds(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}))
    platform.ask("delay 1000")
    broker.publish_lines("sensors/a/data", lines(0, 3000))
    wait_until(lambda: ask(gateway, "status")["connectors"][0]["counters"]["messagesIn"] == 3000, "all have come")
    assert gateway.stop() == 0
    assert platform.stats()["uniq"] == 3000


def test_platform_with_tls(made):
    certificates = made(Certificates)
    platform = made(Platform, "--cert", certificates.server_cert, "--key", certificates.server_key)
    broker = made(Broker)
    ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={
        "security": {"type": "tlsAccessToken", "accessToken": "token", "caCert": certificates.ca}}))
    broker.publish_lines("sensors/a/data", lines(0, 20))
    assert_complete(platform, 20)


def test_wrong_token_is_an_error_that_names_what_to_do(made):
    platform, broker = made(Platform, "--token", "another"), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    wait_until(lambda: "ERROR" in gateway.log_text() and "token" in gateway.log_text().lower() or "authori" in gateway.log_text().lower(), "the refusal is named")


def test_device_that_is_no_gateway_is_named(made):
    platform, broker = made(Platform), made(Broker)
    platform.ask("is-gateway off")
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("not a gateway")


def test_memory_stays_flat_when_the_platform_takes_nothing(made):
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, storage={"max_records_count": 2000}))
    platform.ask("stop-acking")
    broker.publish_lines("sensors/a/data", lines(0, 20000))
    wait_until(lambda: platform.stats()["telemetry"] > 0, "something came")
    platform.ask("ack")
    wait_until(lambda: platform.stats()["uniq"] == 20000, "all 20000")
    assert platform.stats()["ooo"] == 0


def test_source_faster_than_the_store_is_held_back_not_dropped(made):
    """Invariant 7: the store takes 500 events, the rest stays at the broker until there is room."""
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, storage={"max_records_count": 500}))
    platform.ask("down")
    broker.publish_lines("sensors/a/data", lines(0, 30000))
    before = gateway.rss_kib()
    assert IS_INSTRUMENTED or before < 64 * 1024
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 30000, "all 30000", limit_s=60)
    assert platform.stats()["ooo"] == 0


def test_memory_is_bounded_in_bytes_too(made):
    """Invariant 7: 24 MB come, the store takes 1 MB of them."""
    platform, broker = made(Platform), made(Broker)
    gateway = ready(broker, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mqtt_mapping(keys=("seq", "state"))])},
                                 storage={"max_total_bytes": 1000000}))
    base = gateway.rss_kib()
    platform.ask("down")
    broker.publish_lines("sensors/a/data", lines(0, 4000, state="x" * 6000))
    assert IS_INSTRUMENTED or gateway.rss_kib() < base + 13 * 1024
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 4000, "all 4000", limit_s=60)
    assert platform.stats()["ooo"] == 0


def test_two_connectors_to_two_brokers_do_not_disturb_each_other(made):
    platform, good, bad = made(Platform), made(Broker), made(Broker)
    bad.stop()
    gateway = made(Gateway, platform.port, {"Dead": mqtt_connector(bad.port), "Alive": mqtt_connector(good.port)})
    gateway.wait_log("Alive: connected")
    good.publish_lines("sensors/a/data", lines(0, 100))
    assert_complete(platform, 100)
    bad.start()
    wait_until(lambda: platform.stats()["uniq"] == 100, "still 100")
    until_it_arrives(platform, bad, "sensors/late/data")


def test_device_that_said_goodbye_is_back_with_its_next_data(made):
    platform, broker = made(Platform), made(Broker)
    conf = mqtt_connector(broker.port)
    name = {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=sensors/)(.*?)(?=/)"}
    conf["requestsMapping"] = {"connectRequests": [{"topicFilter": "sensors/+/hello", "deviceInfo": name}],
                               "disconnectRequests": [{"topicFilter": "sensors/+/bye", "deviceInfo": name}]}
    ready(broker, made(Gateway, platform.port, {"Plant": conf}))

    def after(topic, payload, **expected):
        broker.publish(topic, payload)
        wait_until(lambda: {key: platform.stats()[key] for key in expected} == expected, f"{expected}; have {platform.stats()}")

    after("sensors/pump/hello", {}, connects=1)
    after("sensors/pump/data", {"seq": 0}, uniq=1)
    after("sensors/pump/bye", {}, disconnects=1)
    for seq in (1, 2, 3):
        after("sensors/pump/data", {"seq": seq}, uniq=seq + 1)
    stats = platform.stats()
    assert stats["connects"] == 2 and stats["disconnects"] == 1, stats
    after("sensors/pump/bye", {}, disconnects=2)
    after("sensors/pump/hello", {}, connects=3)
    after("sensors/pump/data", {"seq": 4}, uniq=5)
    after("sensors/pump/data", {"seq": 5}, uniq=6)
    stats = platform.stats()
    assert stats["connects"] == 3 and stats["disconnects"] == 2, stats


def test_many_connectors_on_few_loops_all_connect(made):
    platform, broker = made(Platform), made(Broker)
    names = [f"Line {i:02}" for i in range(40)]
    for _ in range(3):  # limits arrive while the loops still start their connectors
        gateway = made(Gateway, platform.port, {name: mqtt_connector(broker.port) for name in names}, thingsboard={"loops": 4})
        for name in names:
            gateway.wait_log(f"{name}: connected")
        assert gateway.stop() == 0


def test_as_many_links_as_the_system_allows(made):
    gateway = made(Gateway, made(Platform).port, {})
    gateway.wait_log("gateway is running")
    with open(f"/proc/{gateway.process.pid}/limits") as limits:
        soft, hard = next(line for line in limits if line.startswith("Max open files")).split()[3:5]
    assert soft == hard


def test_a_text_that_the_platform_would_lose_arrives_without_the_reason(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/boiler/data", {"seq": 1, "temperature": "a\0b\\u0000"})
    platform.wait_for("boiler", seq=1, temperature="a\ufffdb\\u0000")
    gateway.wait_log("U+0000")
