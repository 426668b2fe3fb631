# SPDX-License-Identifier: Apache-2.0
"""The simulators themselves: the platform stand-in answers, closes and loses as the platform does; source and fleet keep count."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sim"))

from steer import Simulator  # noqa: E402

SIM = pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build")) / "iotgw-sim"


@pytest.fixture
def platform():
    with Simulator(SIM, "platform", "--token", "T", "--refused-ms", 100) as simulator:
        yield simulator


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


class Client:
    """An MQTT client of bytes, level 4 or 5."""

    def __init__(self, port, level=5, user="T", client_id="c", clean=True, expiry=0):
        self.level = level
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)
        properties = b""
        if level == 5:
            properties = b"\x05\x11" + struct.pack(">I", expiry) if expiry else b"\0"
        flags = (0x80 if user else 0) | (2 if clean else 0)
        self.send(0x10, text("MQTT") + bytes([level, flags, 0, 60]) + properties + text(client_id) + (text(user) if user else b""))
        first, body = self.packet()
        assert first == 0x20
        self.session_present, self.code = body[0] & 1, body[1]

    def send(self, first, body):
        length, head = len(body), b""
        while True:
            head += bytes([length % 128 | (128 if length > 127 else 0)])
            length //= 128
            if not length:
                break
        self.socket.sendall(bytes([first]) + head + body)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            chunk = self.socket.recv(n - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def packet(self):
        first = self.exactly(1)[0]
        length = shift = 0
        while True:
            byte = self.exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self.exactly(length)

    def publish(self, topic, payload, packet_id=1, qos=1):
        self.send(0x30 | qos << 1, text(topic) + (struct.pack(">H", packet_id) if qos else b"") +
                  (b"\0" if self.level == 5 else b"") + payload.encode())

    def subscribe(self, *topics):
        self.send(0x82, b"\0\x09" + (b"\0" if self.level == 5 else b"") + b"".join(text(topic) + b"\1" for topic in topics))
        first, body = self.packet()
        assert first == 0x90
        return list(body[-len(topics):])

    def ping(self):
        self.send(0xc0, b"")

    def answer(self):
        """What follows a publication: ("puback", code), ("disconnect", code), ("close",); a ping tells that nothing did."""
        seen = []
        self.ping()
        try:
            while True:
                first, body = self.packet()
                if first == 0xd0:
                    return seen
                if first == 0x40:
                    seen.append(("puback", body[2] if len(body) > 2 else 0))
                elif first == 0xe0:
                    seen.append(("disconnect", body[0] if body else 0))
        except (EOFError, ConnectionError):
            return seen + [("close",)]

    def message(self):
        """The next PUBLISH: (topic, payload, packet id)."""
        while True:
            first, body = self.packet()
            if first >> 4 != 3:
                continue
            n = struct.unpack(">H", body[:2])[0]
            topic, rest = body[2:2 + n].decode(), body[2 + n:]
            packet_id = 0
            if first & 6:
                packet_id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
            if self.level == 5:
                rest = rest[1 + rest[0]:]
            return topic, rest, packet_id, bool(first & 8)

    def puback(self, packet_id):
        self.send(0x40, struct.pack(">H", packet_id))

    def close(self):
        self.socket.close()


OK = [("puback", 0)]
CASES = [  # topic, payload, version 5, version 3.1.1
    ("v1/gateway/telemetry", '{"A":[{"ts":1700000000000,"values":{"t":1}}],"B":[{"t":2}]}', OK, OK),
    ("v1/gateway/telemetry", '{"A":[{"t":1}],"B":[5]}', [("puback", 0x99)], [("close",)]),
    ("v1/gateway/telemetry", '{"A":[{"ts":"x","values":{}}]}', [("puback", 0x99)], [("close",)]),
    ("v1/gateway/telemetry", '{"A":{"t":1}}', [("puback", 0x83), ("disconnect", 0x83), ("close",)], OK + [("close",)]),
    ("v1/gateway/telemetry", "{}", [("puback", 0x83), ("disconnect", 0x83), ("close",)], OK + [("close",)]),
    ("v1/gateway/telemetry", "", [("puback", 0x83), ("disconnect", 0x83), ("close",)], OK + [("close",)]),
    ("v1/gateway/telemetry", '{"A":[]}', [], []),
    ("v1/gateway/telemetry", '{"A":[],"B":[{"t":1}]}', [], []),
    ("v1/gateway/telemetry", '{"A":[{"t":', [("puback", 0x99)], [("close",)]),
    ("v1/gateway/attributes", '{"A":{"k":1}}', OK, OK),
    ("v1/gateway/attributes", '{"A":{}}', OK, OK),
    ("v1/gateway/attributes", '{"A":1}', [("puback", 0x83), ("disconnect", 0x83), ("close",)], OK + [("close",)]),
    ("v1/gateway/connect", '{"device":"A","type":"P"}', OK, OK),
    ("v1/gateway/connect", '{"device":""}', [("puback", 0x83), ("disconnect", 0x83), ("close",)], OK + [("close",)]),
    ("v1/gateway/disconnect", '{"device":"nobody"}', OK, OK),
    ("v1/gateway/attributes/request", '{"id":1,"device":"A","keys":["k"]}', [("puback", 0x83), ("disconnect", 0x83), ("close",)],
     OK + [("close",)]),
    ("v1/gateway/metrics", "{}", [("puback", 0x90)], OK),
    ("v1/devices/me/telemetry", '[{"ts":1,"values":{"a":1}},{"b":2}]', OK, OK),
    ("v1/devices/me/telemetry", "[]", [], []),
    ("v1/devices/me/telemetry", "5", [("puback", 0x99)], [("close",)]),
    ("v1/devices/me/telemetry", '[{"ts":"x","values":{"a":1}}]', [("disconnect", 0x8b), ("close",)], [("close",)]),
    ("v1/devices/me/attributes", "[]", [("puback", 0x99)], [("close",)]),
    ("v1/devices/me/rpc/request/x", '{"method":"m"}', [("disconnect", 0x8b), ("close",)], [("close",)]),
]


@pytest.mark.parametrize("level", [5, 4])
@pytest.mark.parametrize("topic,payload,on_5,on_3", CASES, ids=[f"{topic}-{payload}" for topic, payload, *_ in CASES])
def test_publication_is_answered_as_the_platform_does(platform, topic, payload, on_5, on_3, level):
    client = Client(platform.port, level)
    assert client.code == 0
    client.publish(topic, payload)
    assert client.answer() == (on_5 if level == 5 else on_3)
    client.close()


def test_good_parts_of_a_bad_message_are_stored(platform):
    client = Client(platform.port)
    client.publish("v1/gateway/telemetry", '{"A":[{"ts":7,"values":{"t":1.50,"s":"x"}}],"B":[5]}')
    client.answer()
    assert platform.ask("values A")["telemetry"] == {"t": {"ts": 7, "value": 1.5}, "s": {"ts": 7, "value": "x"}}
    assert platform.ask("values B")["telemetry"] == {}
    client.close()


def test_wrong_token_is_refused_with_the_code_of_the_version(platform):
    assert Client(platform.port, 5, user="other").code == 0x86
    assert Client(platform.port, 4, user="other").code == 5
    assert Client(platform.port, 5, user="").code == 0x85
    platform.ask("refuse 0x9F")
    assert Client(platform.port, 5).code == 0x9f
    assert Client(platform.port, 4).code == 3


def test_second_session_ends_the_first(platform):
    first = Client(platform.port)
    second = Client(platform.port, client_id="d")
    assert first.packet() == (0xe0, b"\x8e")
    second.publish("v1/gateway/connect", '{"device":"A"}')
    assert second.answer() == OK


def test_only_known_filters_are_granted(platform):
    client = Client(platform.port)
    assert client.subscribe("v1/gateway/rpc", "#", "v1/gateway/attributes") == [1, 0x8f, 1]


def test_session_limits_tell_whether_the_device_is_a_gateway(platform):
    def limits():
        client = Client(platform.port)
        client.publish("v1/devices/me/rpc/request/1", '{"method":"getSessionLimits","params":{}}')
        topic, payload, *_ = client.message()
        assert topic == "v1/devices/me/rpc/response/1"
        client.publish("v1/gateway/connect", '{"device":"A"}', 2)
        return json.loads(payload), client.answer()

    answer, connected = limits()
    assert answer["maxInflightMessages"] == 100 and "gatewayRateLimits" in answer
    assert ("puback", 0) in connected
    platform.ask("is-gateway off")
    answer, connected = limits()
    assert "gatewayRateLimits" not in answer
    assert ("puback", 0) in connected and len(connected) == 1  # of the request; the gateway's topic has no answer


def test_above_the_quota_the_connection_is_closed(platform):
    platform.ask('limits {"rateLimits":{},"gatewayRateLimits":{"telemetryDataPoints":"3:1000"}}')
    client = Client(platform.port)
    client.publish("v1/gateway/telemetry", '{"A":[{"a":1,"b":2}]}')
    assert client.answer() == OK
    client.publish("v1/gateway/telemetry", '{"A":[{"a":1,"b":2}]}', 2)
    assert client.answer() == [("puback", 0x97), ("close",)]


def test_acknowledgements_wait_and_are_given_in_order(platform):
    client = Client(platform.port, 4)
    platform.ask("stop-acking")
    for i in (1, 2, 3):
        client.publish("v1/gateway/telemetry", '{"A":[{"seq":%d}]}' % i, i)
    assert client.answer() == []
    assert platform.ask("stats")["withheld"] == 3
    platform.ask("ack")
    assert [client.packet() for _ in range(3)] == [(0x40, bytes([0, i])) for i in (1, 2, 3)]
    platform.ask("delay 50")
    client.publish("v1/gateway/telemetry", '{"A":[{"seq":4}]}', 4)
    assert client.packet() == (0x40, b"\0\4")


def test_forced_code_applies_to_its_topics_until_it_is_taken_back(platform):
    client = Client(platform.port)
    platform.ask("puback 0x99 telemetry")
    client.publish("v1/gateway/telemetry", '{"A":[{"a":1}]}')
    assert client.answer() == [("puback", 0x99)]
    client.publish("v1/gateway/connect", '{"device":"A"}')
    assert client.answer() == OK
    platform.ask("puback 0")
    client.publish("v1/gateway/telemetry", '{"A":[{"a":1}]}')
    assert client.answer() == OK
    assert platform.ask("stats")["values"] == 1


def test_refused_device_is_answered_late(platform):
    client = Client(platform.port)
    client.publish("v1/gateway/telemetry", '{"<b>":[{"a":1}]}')
    assert client.answer() == []
    assert client.packet() == (0x40, b"\0\1\x80")


def test_down_up_and_drop(platform):
    client = Client(platform.port)
    platform.ask("down")
    with pytest.raises((EOFError, ConnectionError)):
        client.packet()
    with pytest.raises(ConnectionError):
        Client(platform.port)
    platform.ask("up")
    client = Client(platform.port)
    platform.ask("drop")
    with pytest.raises((EOFError, ConnectionError)):
        client.packet()


def test_stalled_platform_reads_nothing_until_it_is_resumed(platform):
    client = Client(platform.port)
    platform.ask("stall")
    client.publish("v1/gateway/connect", '{"device":"A"}')
    assert platform.ask("stats")["connects"] == 0
    platform.ask("resume")
    assert client.answer() == OK


def test_attributes_are_answered_with_value_or_values(platform):
    client = Client(platform.port)
    platform.ask('shared A {"limit":5,"mode":"auto"}')
    answers = []
    for number, keys in ((1, '["limit"]'), (2, '["limit","mode","none"]'), (3, '["none"]')):
        client.publish("v1/gateway/attributes/request", '{"id":%d,"device":"A","client":false,"keys":%s}' % (number, keys), number)
        answers.append(json.loads(client.message()[1]))
    assert answers == [{"id": 1, "device": "A", "value": 5}, {"id": 2, "device": "A", "values": {"limit": 5, "mode": "auto"}},
                       {"id": 3, "device": "A"}]


def test_downlinks_need_the_flag_and_their_subscription(platform):
    client = Client(platform.port)
    assert platform.ask('publish v1/devices/me/attributes {"a":1}')["sent"] == 0
    client.subscribe("v1/devices/me/attributes")
    assert platform.ask('publish v1/devices/me/attributes {"a":1}')["sent"] == 1
    assert client.message()[:2] == ("v1/devices/me/attributes", b'{"a":1}')


def test_numbers_are_verified(platform):
    client = Client(platform.port)
    for i, seq in enumerate((0, 1, 3, 2, 3)):
        client.publish("v1/gateway/telemetry", '{"A":[{"ts":%d,"values":{"seq":%d}}]}' % (1700000000000 + i, seq), i + 1)
    client.answer()
    stats = platform.ask("stats")
    assert (stats["uniq"], stats["dup"], stats["ooo"], stats["before_connect"]) == (4, 1, 1, 1)
    assert platform.ask("missing 0 6 A") == {"missing": [[4, 5]], "n": 2}


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_client_is_understood(platform, version):
    for topic, payload in (("v1/gateway/connect", '{"device":"Pump 1","type":"Pump"}'), ("v1/gateway/telemetry", '{"Pump 1":[{"t":21.50}]}')):
        subprocess.run(["mosquitto_pub", "-V", version, "-h", "127.0.0.1", "-p", str(platform.port), "-u", "T", "-q", "1", "-t", topic, "-m",
                        payload], check=True, timeout=20)
    device = platform.ask("values Pump 1")
    assert device["profile"] == "Pump" and device["telemetry"]["t"]["value"] == 21.5


def test_fleet_publishes_what_it_was_asked_for():
    with Simulator(SIM, "mqtt-source") as broker:
        for qos, level in ((0, 4), (1, 5), (1, 3)):
            with Simulator(SIM, "mqtt-devices", "--port", broker.port, "--devices", 5, "--rate", 1000, "--count", 50, "--qos", qos, "--mqtt",
                           level) as fleet:
                done = fleet.event("done", 20)
                assert done["made"] == 50 and done["acked"] == (50 if qos else 0) and done["lost"] == 0


def test_source_makes_nothing_until_somebody_subscribes_and_keeps_to_its_window():
    with Simulator(SIM, "mqtt-source", "--devices", 3, "--window", 4) as source:
        source.ask("run 10")
        client = Client(source.port, 4)
        assert source.ask("stats")["made"] == 0
        client.subscribe("sensors/+/data")
        seen = [client.message() for _ in range(4)]
        assert source.ask("stats")["made"] == 4
        assert [topic for topic, *_ in seen] == [f"sensors/dev0000{i % 3}/data" for i in range(4)]
        for *_, packet_id, _ in seen:
            client.puback(packet_id)
        for _ in range(6):
            message = client.message()
            seen.append(message)
            client.puback(message[2])
        assert [json.loads(payload)["seq"] for _, payload, *_ in seen] == list(range(10))
        assert set(json.loads(seen[0][1])) == {"ts", "seq", "sent", "temperature", "humidity", "pressure", "voltage", "current", "rpm", "running",
                                               "state"}
        assert source.event("done", 20)["accepted"] == 10


@pytest.mark.parametrize("level", [4, 5])
def test_kept_session_is_sent_again_what_it_did_not_acknowledge(level):
    with Simulator(SIM, "mqtt-source", "--window", 3) as source:
        source.ask("run 3")
        client = Client(source.port, level, clean=False, expiry=100)
        assert not client.session_present
        client.subscribe("sensors/+/data")
        first = [client.message() for _ in range(3)]
        client.puback(first[0][2])
        client.close()
        client = Client(source.port, level, clean=False, expiry=100)
        assert client.session_present
        again = [client.message() for _ in range(2)]
        assert [(packet_id, dup) for *_, packet_id, dup in again] == [(packet_id, True) for *_, packet_id, _ in first[1:]]
        for *_, packet_id, _ in again:
            client.puback(packet_id)
        done = source.event("done", 20)
        assert (done["accepted"], done["n_unaccepted"], done["resent"]) == (3, 0, 2)


def test_clean_session_gives_up_what_was_not_acknowledged():
    with Simulator(SIM, "mqtt-source", "--window", 3) as source:
        source.ask("run 3")
        client = Client(source.port, 4)
        client.subscribe("sensors/+/data")
        messages = [client.message() for _ in range(3)]
        client.puback(messages[1][2])
        client.ping()
        client.packet()
        client.close()
        done = source.event("done", 20)
        assert (done["accepted"], done["unaccepted"]) == (1, [0, 2])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", directory / "key.pem", "-out",
                    directory / "cert.pem"], check=True, capture_output=True, timeout=20)
    return directory


def test_platform_over_tls_is_reached_by_a_mosquitto_client(certificate):
    with Simulator(SIM, "platform", "--cert", certificate / "cert.pem", "--key", certificate / "key.pem") as platform:
        subprocess.run(["mosquitto_pub", "--cafile", certificate / "cert.pem", "-h", "127.0.0.1", "-p", str(platform.port), "-u", "T", "-q", "1",
                        "-t", "v1/gateway/telemetry", "-m", '{"A":[{"t":1}]}'], check=True, timeout=20)
        assert platform.ask("stats")["values"] == 1


def test_fleet_speaks_tls_and_verifies(certificate):
    with Simulator(SIM, "mqtt-source", "--cert", certificate / "cert.pem", "--key", certificate / "key.pem") as broker:
        with Simulator(SIM, "mqtt-devices", "--port", broker.port, "--ca", certificate / "cert.pem", "--rate", 1000, "--count", 20) as fleet:
            assert fleet.event("done", 20)["acked"] == 20
