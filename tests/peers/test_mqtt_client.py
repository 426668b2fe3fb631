# SPDX-License-Identifier: Apache-2.0
"""The MQTT client against real brokers (mosquitto, and aMQTT where it is installed: pip install amqtt) and beside another
client library, paho."""
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from conftest import BUILD, TIMEOUT_S, accepts, free_port

VERSIONS = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}


class Client:
    """The driver tests/peers/mqtt_client.c: commands in, one line an event out."""

    def __init__(self):
        self.process = subprocess.Popen([BUILD / "tests" / "peers" / "mqtt_client"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1,
                                        env={**os.environ, "IOTGW_MODULE_DIR": str(BUILD)})
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def wait(self, pattern):
        """The next line that matches; those before it stay in seen."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no {pattern!r}; seen: {self.seen[-20:]}")
            if line is None:
                pytest.fail(f"ended without {pattern!r}; seen: {self.seen[-20:]}")
            self.seen.append(line)
            if found := re.fullmatch(pattern, line):
                return found

    def barrier(self, topic="barrier"):
        """Everything the broker had sent before is in seen: a message of our own comes back."""
        self.say(f"sub 0 {topic}")
        self.wait(r"subscribed .*")
        self.say(f"pub 0 {topic} here")
        self.wait(rf"msg .* {topic} here")

    def connect(self, port, **options):
        words = {"host": "127.0.0.1", "port": port, **options}
        self.say("connect " + " ".join(f"{key}={value}" for key, value in words.items()))
        return self.wait(r"connected session=(\d) rmax=(\d+) qos=(\d) keepalive=(\d+) id=(.*)")

    def refused(self, port, **options):
        words = {"host": "127.0.0.1", "port": port, **options}
        self.say("connect " + " ".join(f"{key}={value}" for key, value in words.items()))
        found = self.wait(r"(closed|connected)( (\w+) (\d+) (.*)| .*)")
        assert found[1] == "closed"
        return found[3], int(found[4]), found[5]

    def subscribe(self, *words):
        self.say("sub " + " ".join(words))
        return self.wait(r"subscribed \d+ (.*)")[1]

    def disconnect(self):
        self.say("disconnect")
        self.wait(r"closed OK .*")

    def n_seen(self, pattern):
        return sum(bool(re.fullmatch(pattern, line)) for line in self.seen)


@pytest.fixture
def client():
    made = []

    def make():
        made.append(Client())
        return made[-1]

    make.all = made
    yield make
    for driver in made:
        driver.process.stdin.close()
        assert driver.process.wait(TIMEOUT_S) == 0


def publish(broker, topic, text, qos=1, version=4, *more):
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-V", VERSIONS[version], "-q", str(qos), "-t", topic, "-m", text,
                    *more], check=True, timeout=TIMEOUT_S)


def publish_numbers(broker, topic, n, qos=1):
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", str(qos), "-t", topic, "-l"], check=True,
                   timeout=TIMEOUT_S, text=True, input="".join(f"{i}\n" for i in range(n)))


@pytest.mark.parametrize("qos", (0, 1, 2))
@pytest.mark.parametrize("version", VERSIONS)
def test_messages_pass_both_ways(mosquitto, client, version, qos):
    c = client()
    c.connect(mosquitto.port, version=version)
    assert c.subscribe(str(qos), "down/+") == str(qos)
    publish(mosquitto, "down/a", "hello world", qos, version)
    found = c.wait(r"msg qos=(\d) retain=0 dup=0 id=(\d+) down/a hello world")
    assert int(found[1]) == qos and (int(found[2]) > 0) == (qos > 0)
    with subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(mosquitto.port), "-V", VERSIONS[version], "-q", "2", "-t", "up/#", "-C", "1",
                           "-F", "%q %t %p", "-W", str(TIMEOUT_S)], stdout=subprocess.PIPE, text=True) as listener:
        while listener.poll() is None:  # until it has subscribed, nothing comes of it
            c.say(f"pub {qos} up/b good day")
            found = c.wait(r"pub (\d+)")
            if qos:
                c.wait(rf"acked {found[1]} \d+")
            try:
                listener.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
        assert listener.stdout.read() == f"{qos} up/b good day\n"
    c.disconnect()


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_come_first(mosquitto, client, version):
    c = client()
    c.connect(mosquitto.port, version=version)
    c.say("pub 1r state/a kept")
    c.wait(r"acked \d+ \d+")
    c.subscribe("1", "state/#")
    c.wait(r"msg qos=1 retain=1 dup=0 id=\d+ state/a kept")


@pytest.mark.parametrize("qos", (1, 2))
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_not_acknowledged_comes_again_in_a_resumed_session(mosquitto, client, version, qos):
    c = client()
    session = {"version": version, "id": "resumed", "clean": 0, **({"expiry": 300} if version == 5 else {})}
    c.connect(mosquitto.port, **session)
    c.say("manual")
    c.subscribe(str(qos), "q/#")
    publish_numbers(mosquitto, "q/a", 3, qos)
    first = [c.wait(rf"msg qos={qos} retain=0 dup=0 id=(\d+) q/a {i}")[1] for i in range(3)]
    c.say(f"ack {qos} {first[0]}")
    if qos == 1:
        c.barrier()  # the PUBACK has arrived
    c.disconnect()
    again = c.connect(mosquitto.port, **session)
    if version != 3:
        assert again[1] == "1"
    ids = [c.wait(rf"msg qos={qos} retain=0 dup=1 id=(\d+) q/a {i}")[1] for i in (1, 2)]
    for packet_id in ids:
        c.say(f"ack {qos} {packet_id}")
    c.barrier("barrier2")
    c.disconnect()
    c.connect(mosquitto.port, **session)
    c.barrier("barrier3")
    assert c.n_seen(r"msg .* q/a \d") == 5
    if qos == 1 or version != 3:
        assert c.n_seen(r"msg .* q/a 0") == 1


def test_withheld_acknowledgements_stop_the_broker_at_the_receive_maximum(mosquitto, client):
    c = client()
    c.connect(mosquitto.port, rmax=5)
    c.say("manual")
    c.subscribe("1", "r/#")
    publish_numbers(mosquitto, "r/a", 20)
    ids = [c.wait(r"msg qos=1 .* r/a \d+")[0].split("id=")[1].split()[0] for _ in range(5)]
    c.barrier()
    assert c.n_seen(r"msg .* r/a \d+") == 5
    c.say(f"ack 1 {ids[0]}")
    c.wait(r"msg qos=1 .* r/a 5")
    # How many more come is the broker's: mosquitto 2.0.11 forgets its count then.


def test_while_paused_nothing_is_read_and_then_everything(mosquitto, client):
    c = client()
    c.connect(mosquitto.port)
    c.subscribe("0", "p/#")
    c.say("pause")
    c.say("pub 1 elsewhere x")  # the pause is in force once this has been said
    c.wait(r"pub \d+")
    publish_numbers(mosquitto, "p/a", 2000, 0)
    assert c.n_seen(r"msg .*") == 0
    c.say("resume")
    c.wait(r"msg .* p/a 1999")
    assert c.n_seen(r"msg .* p/a \d+") == 2000


@pytest.mark.parametrize("version", VERSIONS)
def test_large_and_many_messages_pass(mosquitto, client, version):
    c, listener = client(), client()
    listener.connect(mosquitto.port, version=version)
    listener.subscribe("1", "many/#")
    listener.subscribe("2", "large/#")
    c.connect(mosquitto.port, version=version)
    c.say("many 5 1000000 2 large/a")
    c.say("many 3000 300 1 many/a")
    for _ in range(3000):
        listener.wait(r"msg qos=1 .* many/a 300 bytes")
    for _ in range(5 - listener.n_seen(r"msg qos=2 .* large/a 1000000 bytes")):
        listener.wait(r"msg qos=2 .* large/a 1000000 bytes")
    for _ in range(3005 - c.n_seen(r"acked \d+ 0")):
        c.wait(r"acked \d+ 0")
    assert c.n_seen(r"error .*") == 0


def test_no_local_keeps_our_own_messages_away(mosquitto, client):
    c = client()
    c.connect(mosquitto.port)
    c.subscribe("1n", "n/#")
    c.say("pub 1 n/a mine")
    c.wait(r"acked \d+ 0")
    publish(mosquitto, "n/a", "theirs")
    c.wait(r"msg .* n/a theirs")
    assert c.n_seen(r"msg .* n/a mine") == 0


@pytest.mark.parametrize("version", (4, 5))
def test_a_shared_subscription_gives_each_message_to_one(mosquitto, client, version):
    clients = [client(), client()]
    for c in clients:
        c.connect(mosquitto.port, version=version)
        assert c.subscribe("1", "$share/group/s/#") == "1"
    publish_numbers(mosquitto, "s/a", 20)
    for c in clients:
        c.barrier(f"barrier{clients.index(c)}")
    numbers = [line.rsplit(" ", 1)[1] for c in clients for line in c.seen if " s/a " in line]
    assert sorted(numbers, key=int) == [str(i) for i in range(20)]


def test_unsubscribing_ends_the_flow(mosquitto, client):
    c = client()
    c.connect(mosquitto.port)
    c.subscribe("1", "u/a", "1", "u/b")
    c.say("unsub u/a u/none")
    assert c.wait(r"subscribed \d+ (.*)")[1] == "0 17"
    publish(mosquitto, "u/a", "gone")
    publish(mosquitto, "u/b", "there")
    c.wait(r"msg .* u/b there")
    assert c.n_seen(r"msg .* u/a gone") == 0


@pytest.mark.parametrize("version,code", ((3, 5), (4, 5), (5, 135)))
def test_user_and_password_are_asked_for(start_mosquitto, tmp_path, client, version, code):
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "plant", "secret"], check=True, capture_output=True)
    broker = start_mosquitto("listener {port} 127.0.0.1", f"password_file {users}")
    c = client()
    error, got, why = c.refused(broker.port, version=version, user="plant", **{"pass": "wrong"})
    assert (error, got) == ("AUTH", code) and "uthorized" in why
    assert c.refused(broker.port, version=version)[0] == "AUTH"
    c.connect(broker.port, version=version, user="plant", **{"pass": "secret"})


def test_the_broker_may_die_and_come_back(mosquitto, client):
    c = client()
    c.connect(mosquitto.port)
    mosquitto.kill()
    c.wait(r"closed CLOSED .*")
    assert c.refused(mosquitto.port)[0] == "REFUSED"
    mosquitto.restart()
    c.connect(mosquitto.port)
    mosquitto.stop()
    assert c.wait(r"closed CLOSED (\d+) (.*)")[1] in ("0", "139")  # 2.0.11 closes without a word


def test_a_second_client_with_the_same_id_takes_over(mosquitto, client):
    first, second = client(), client()
    first.connect(mosquitto.port, id="same")
    second.connect(mosquitto.port, id="same")
    assert first.wait(r"closed CLOSED (\d+) (.*)")[1] in ("0", "142")  # 2.0.11 closes without a word
    second.barrier()


def test_an_empty_client_id_gets_one(mosquitto, client):
    c = client()
    assert c.connect(mosquitto.port, version=5)[5] != ""
    c.disconnect()
    c.connect(mosquitto.port, version=4)
    c.disconnect()
    c.connect(mosquitto.port, version=3)


def test_the_keep_alive_holds_the_link(mosquitto, client):
    c = client()
    c.connect(mosquitto.port, keepalive=1)
    publish(mosquitto, "x", "y")
    until = time.monotonic() + 3.5  # the broker closes after 1.5 s of silence
    while time.monotonic() < until:
        c.process.poll()
        time.sleep(0.1)
    c.barrier()
    assert c.n_seen(r"closed .*") == 0


def test_tls_is_verified(start_mosquitto, certificates, client):
    broker = start_mosquitto("listener {port} 127.0.0.1", "allow_anonymous true", f"cafile {certificates}/ca.pem",
                             f"certfile {certificates}/server.pem", f"keyfile {certificates}/server.key")
    c = client()
    assert c.refused(broker.port, ca=certificates / "other-ca.pem")[0] == "TLS"
    error, _, why = c.refused(broker.port, ca=certificates / "ca.pem", name="elsewhere.example")
    assert error == "TLS" and "elsewhere.example" in why
    c.connect(broker.port, ca=certificates / "ca.pem", name="localhost")
    c.subscribe("1", "large/#")
    c.say("many 20 200000 1 large/a")
    while c.n_seen(r"msg .* large/a 200000 bytes") < 20:
        c.wait(r"msg .*")
    c.disconnect()
    c.connect(broker.port, insecure=1)


def test_a_client_certificate_is_shown(start_mosquitto, certificates, client):
    broker = start_mosquitto("listener {port} 127.0.0.1", "allow_anonymous true", f"cafile {certificates}/ca.pem",
                             f"certfile {certificates}/server.pem", f"keyfile {certificates}/server.key",
                             "require_certificate true", "use_identity_as_username true")
    c = client()
    assert c.refused(broker.port, ca=certificates / "ca.pem")[0] in ("TLS", "CLOSED", "IO")
    c.connect(broker.port, ca=certificates / "ca.pem", cert=certificates / "client.pem", key=certificates / "client.key")
    c.barrier()


# --- another broker -----------------------------------------------------------------------------------------------------

AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
                     "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def amqtt(tmp_path):
    pytest.importorskip("amqtt", reason="aMQTT is not installed")
    port = free_port()
    with open(tmp_path / "amqtt.log", "wb") as log:
        process = subprocess.Popen([sys.executable, "-c", AMQTT, str(port)], stdout=log, stderr=log)
    end = time.monotonic() + TIMEOUT_S
    while not accepts(port):
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "amqtt.log").read_text()
        time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


@pytest.mark.parametrize("qos", (0, 1, 2))
def test_amqtt_messages_pass_both_ways(amqtt, client, qos):
    a, b = client(), client()
    for c, name in ((a, "a"), (b, "b")):
        c.connect(amqtt, version=4, id=name)
        assert c.subscribe(str(qos), f"to/{name}/+") == str(qos)
    for sender, topic, receiver in ((a, "to/b/x", b), (b, "to/a/x", a)):
        for i in range(20):
            sender.say(f"pub {qos} {topic} {i}")
        for i in range(20):
            receiver.wait(rf"msg qos={qos} .* {topic} {i}")
        if qos:
            while sender.n_seen(r"acked \d+ 0") < 20:
                sender.wait(r"acked \d+ 0")
    a.disconnect()
    b.disconnect()


def test_amqtt_retained_and_large_messages(amqtt, client):
    c = client()
    c.connect(amqtt, version=4, id="r")
    c.say("pub 1r state/a kept")
    c.wait(r"acked \d+ 0")
    c.subscribe("1", "state/#")
    c.wait(r"msg qos=1 retain=1 .* state/a kept")
    c.subscribe("1", "large/#")
    c.say("many 3 200000 1 large/a")
    for _ in range(3):
        c.wait(r"msg qos=1 .* large/a 200000 bytes")


def test_amqtt_disconnects_and_comes_again(amqtt, client):
    c = client()
    for _ in range(3):
        c.connect(amqtt, version=4, id="again")
        c.disconnect()


# --- another client library ------------------------------------------------------------------------------------------------

class Paho:
    """A client of the library paho, connected and subscribed; what it receives stands in got."""

    def __init__(self, port, version, *filters):
        first = () if not hasattr(paho, "CallbackAPIVersion") else (paho.CallbackAPIVersion.VERSION2,)
        self.client = paho.Client(*first, client_id="paho", protocol=version)
        self.got, ready = queue.Queue(), threading.Event()
        self.client.on_message = lambda client, data, message: self.got.put(message)
        self.client.on_subscribe = lambda *args: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if filters:
            self.client.subscribe([(f, 2) for f in filters])
            assert ready.wait(TIMEOUT_S)

    def publish(self, topic, payload, qos, properties=None):
        self.client.publish(topic, payload, qos, properties=properties).wait_for_publish(TIMEOUT_S)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("qos", (0, 1, 2))
@pytest.mark.parametrize("version", VERSIONS)
def test_paho_and_our_client_understand_each_other(mosquitto, client, version, qos):
    ours, theirs = client(), Paho(mosquitto.port, version, "from/us/#")
    try:
        ours.connect(mosquitto.port, version=version, id="ours")
        assert ours.subscribe(str(qos), "from/paho/#") == str(qos)
        for i in range(50):
            ours.say(f"pub {qos} from/us/{i} {i}")
            if qos:
                ours.wait(r"acked \d+ 0")  # a broker takes only so many at once
        # Beyond paho's receive maximum of 20 the broker lets a new message overtake those that it has queued.
        got = [theirs.got.get(timeout=TIMEOUT_S) for _ in range(50)]
        assert sorted((m.topic, m.payload, m.qos) for m in got) == sorted((f"from/us/{i}", str(i).encode(), qos) for i in range(50))
        for i in range(50):
            theirs.publish(f"from/paho/{i}", f"value {i}", qos)
        for i in range(50):
            ours.wait(rf"msg qos={qos} .* from/paho/{i} value {i}")
    finally:
        theirs.close()


def test_properties_that_paho_sends_disturb_nothing(mosquitto, client):
    ours, theirs = client(), Paho(mosquitto.port, 5)
    try:
        ours.connect(mosquitto.port, version=5, id="ours")
        ours.subscribe("1", "p/#")
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("unit", "°C"), ("unit", "K")]
        properties.ContentType = "application/json"
        properties.ResponseTopic = "answers/here"
        properties.CorrelationData = b"\x00\x01\xff"
        properties.MessageExpiryInterval = 60
        properties.PayloadFormatIndicator = 1
        theirs.publish("p/a", "with properties", 1, properties)
        ours.wait(r"msg qos=1 .* p/a with properties")
    finally:
        theirs.close()


assert shutil.which("mosquitto_pub"), "mosquitto-clients is needed"
