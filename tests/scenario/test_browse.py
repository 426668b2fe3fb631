# SPDX-License-Identifier: Apache-2.0
"""A connector by itself, without the gateway: whether its links can be made and why not, and what is found behind them."""
import json
import signal
import socket
import subprocess

from plant import BUILD, LIMIT_S, Broker, Certificates, Gateway, Platform, free_port, mqtt_connector


def iotgw(gateway, *args, **kwargs):
    return subprocess.run([str(BUILD / "iotgw"), "-c", str(gateway.directory), *map(str, args)], capture_output=True, text=True, timeout=LIMIT_S,
                          check=False, **kwargs)


def configured(made, port, **broker):
    return made(Gateway, 1883, {"Plant": mqtt_connector(port, **broker)}, start=False)


def failed(gateway):
    run = iotgw(gateway, "test-connection", "Plant")
    assert run.returncode == 1 and run.stdout.startswith("Plant: not connected: "), run.stdout + run.stderr
    return run.stdout


def test_a_link_that_can_be_made_is_told_so(made):
    broker = made(Broker)
    gateway = configured(made, broker.port)
    run = iotgw(gateway, "test-connection", "Plant")
    assert (run.returncode, run.stdout, run.stderr) == (0, "Plant: connected\n", "")
    run = iotgw(gateway, "test-connection", "Plant", "--json")
    assert json.loads(run.stdout) == {"connector": "Plant", "type": "mqtt", "ok": True, "links": [{"link": "", "state": "up", "reason": ""}]}


def test_each_failure_says_what_it_is(made):
    assert "refused" in failed(configured(made, free_port()))
    gateway = configured(made, free_port())
    path = gateway.directory / "plant.json"
    path.write_text(path.read_text().replace('"127.0.0.1"', '"no-such-host.invalid"'))
    assert 'the name "no-such-host.invalid" cannot be resolved' in failed(gateway)

    broker = made(Broker, users={"plant": "right"})
    said = failed(configured(made, broker.port, security={"type": "basic", "username": "plant", "password": "wrong-secret"}))
    assert "uthori" in said and "wrong-secret" not in said  # "not authorized", "bad user name or password"
    gateway = configured(made, broker.port, security={"type": "basic", "username": "plant", "password": "right"})
    assert iotgw(gateway, "test-connection", "Plant").returncode == 0


def test_a_certificate_that_is_not_trusted_is_named(made):
    ours, theirs = made(Certificates), made(Certificates)
    broker = made(Broker, tls=theirs)
    said = failed(configured(made, broker.port, security={"type": "certificates", "pathToCACert": ours.ca}))
    assert "certificate" in said.lower() or "unknown ca" in said.lower()
    gateway = configured(made, broker.port, security={"type": "certificates", "pathToCACert": theirs.ca})
    assert iotgw(gateway, "test-connection", "Plant").returncode == 0


def test_a_server_that_says_nothing_is_told_after_the_time(made):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        run = iotgw(configured(made, mute.getsockname()[1]), "test-connection", "Plant", "--seconds", 1)
    assert run.returncode == 1 and run.stdout == "Plant: no answer: within 1 s\n"


def test_a_gateway_that_runs_loses_neither_its_session_nor_a_message(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, clientId="the one", cleanSession=False, cleanStart=False)})
    gateway.wait_log("Plant: connected")
    for n in range(3):
        broker.publish("sensors/boiler/data", {"seq": n})
        assert iotgw(gateway, "test-connection", "Plant").returncode == 0
        assert iotgw(gateway, "browse", "Plant", "--seconds", 1).returncode == 0
    platform.wait_for("boiler", seq=2)
    assert platform.stats()["uniq"] == 3
    assert gateway.log_text().count("Plant: connected") == 1 and "not connected" not in gateway.log_text()


def test_wrong_use_and_wrong_names_are_told(made):
    gateway = configured(made, free_port())
    for args, code, said in ((("test-connection", "Plent"), 78, 'did you mean "Plant"'), (("test-connection",), 64, "CONNECTOR"),
                             (("browse", "Plant", "a/#/b"), 1, "must stand alone"), (("browse", "Plant", "--seconds", "0"), 64, "1 to 3600"),
                             (("browse", "Plant"), 1, "refused")):
        run = iotgw(gateway, *args)
        assert run.returncode == code and said in run.stderr, run


def browsing(gateway, *args):
    return subprocess.Popen([str(BUILD / "iotgw"), "-c", str(gateway.directory), "browse", "Plant", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(browse):
    """As with Ctrl-C."""
    browse.send_signal(signal.SIGINT)
    out, err = browse.communicate(timeout=LIMIT_S)
    assert browse.returncode == 0, err
    return out


def retain(broker, topic, payload):
    broker.publish(topic, payload, args=("-r",))


def test_topics_are_shown_with_type_and_sample(made):
    broker = made(Broker)
    retain(broker, "sensors/boiler/data", '{"temperature": 21.5}')
    retain(broker, "plain", "21.5")
    retain(broker, "words", "on\x1b[31m now")
    browse = browsing(configured(made, broker.port), "--seconds", "60")
    lines = sorted(browse.stdout.readline() for _ in range(3))
    assert lines == ["plain  number  21.5\n", 'sensors/boiler/data  object  {"temperature": 21.5}\n', "words  text  on [31m now\n"]
    ended(browse)

    browse = browsing(configured(made, broker.port), "sensors/#", "--json", "--seconds", "60")
    item = json.loads(browse.stdout.readline())
    assert (item["name"], item["type"], item["retained"], item["bytes"]) == ("sensors/boiler/data", "object", True, 21)
    assert item["configuration"]["topicFilter"] == "sensors/boiler/data"
    assert item["configuration"]["converter"]["deviceInfo"]["deviceNameExpression"] == "boiler"
    ended(browse)


def test_the_configuration_that_is_printed_is_ready(made):
    platform, broker = made(Platform), made(Broker)
    payload = '{"temperature": 21, "pump": {"on": true, "mode": "auto"}, "list": [1], "odd.key": 1}'
    for name in ("boiler", "tank (2)"):
        retain(broker, f"hall-1.x/{name}/data", payload)
    gateway = configured(made, broker.port)
    run = iotgw(gateway, "browse", "Plant", "hall-1.x/+/data", "--configuration", "--seconds", 2)
    mapping = json.loads(run.stdout)
    assert run.returncode == 0 and len(mapping) == 1 and mapping[0]["topicFilter"] == "hall-1.x/+/data"

    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, mapping)})
    assert iotgw(gateway, "check").returncode == 0
    platform.wait_for("boiler", **{"temperature": 21, "pump.on": True, "pump.mode": "auto"})
    platform.wait_for("tank (2)", **{"temperature": 21})
    assert set(platform.latest("boiler")) == {"temperature", "pump.on", "pump.mode"}
