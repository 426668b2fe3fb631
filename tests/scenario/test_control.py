# SPDX-License-Identifier: Apache-2.0
"""Local control: what the running gateway says and does when it is asked over its socket."""
import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import time

import faulty
import plant
import pytest
from books import ask, iotgw, ledger

def is_running(gateway):
    return iotgw(gateway, "status", "--json").returncode == 0 and ask(gateway, "status")["gateway"]["state"] == "running"


@pytest.fixture
def plant_of(made):
    def make(n=1, **kwargs):
        platform, broker = made(plant.Platform), made(plant.Broker)
        connectors = {f"Plant {i}" if i else "Plant": plant.mqtt_connector(broker.port) for i in range(n)}
        gateway = made(plant.Gateway, platform.port, connectors, **kwargs)
        if gateway.process:
            plant.wait_until(lambda: is_running(gateway), "the gateway runs")
        return platform, broker, gateway
    return make


def publish(broker, n, device="a", first=0):
    broker.publish_lines(f"sensors/{device}/data", [{"seq": i, "temperature": i / 2} for i in range(first, first + n)])


def test_without_a_gateway_the_commands_say_so(plant_of):
    _, _, gateway = plant_of(start=False)
    done = iotgw(gateway, "status")
    assert done.returncode == 69
    assert "no gateway runs" in done.stderr


def test_status_tells_of_links_storage_and_values(plant_of):
    platform, broker, gateway = plant_of()
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    publish(broker, 100)
    plant.wait_until(lambda: ledger(gateway)["delivered"] == 200, "all is delivered")
    status = ask(gateway, "status")
    assert status["platform"]["state"] == "up" and status["platform"]["port"] == platform.port
    assert status["storage"]["type"] == "memory" and status["storage"]["events"] == 0 and status["storage"]["trouble"] is None
    assert [c["name"] for c in status["connectors"]] == ["Plant"]
    assert status["connectors"][0]["links"][0]["state"] == "up"
    assert status["connectors"][0]["counters"]["messagesIn"] >= 100
    assert status["connectors"][0]["counters"]["telemetryValues"] == 200
    assert status["ledger"]["collected"] == 200 and status["ledger"]["waiting"] == 0
    device = ask(gateway, "status", "--devices", "a")["devices"]
    assert device[0]["name"] == "a" and device[0]["connector"] == "Plant" and device[0]["ledger"]["delivered"] == 200
    text = iotgw(gateway, "status").stdout
    assert "Plant" in text and "200 collected" in text, text
    assert iotgw(gateway, "status", "--devices", "nobody").returncode == 1


def test_a_second_gateway_on_the_same_configuration_is_refused(plant_of):
    _, _, gateway = plant_of()
    second = iotgw(gateway, "run")
    assert second.returncode == 1
    assert "another gateway runs with this configuration" in second.stderr
    assert is_running(gateway)
    gateway.stop(plant.signal.SIGKILL)
    gateway.start()  # neither the lock nor the socket file that is left stands in its way
    plant.wait_until(lambda: is_running(gateway), "it runs again")
    gateway.stop()
    assert iotgw(gateway, "status").returncode == 69


def test_connectors_are_stopped_started_and_restarted(plant_of):
    platform, broker, gateway = plant_of(2)
    state = lambda name: {c["name"]: c["state"] for c in ask(gateway, "status")["connectors"]}[name]
    assert iotgw(gateway, "connector", "stop", "Plant 1").returncode == 0
    assert state("Plant 1") == "stopped" and state("Plant") == "running"
    assert iotgw(gateway, "connector", "start", "Plant 1").returncode == 0
    assert iotgw(gateway, "connector", "restart", "Plant 1").returncode == 0
    assert state("Plant 1") == "running"
    assert "Plant 1\tmqtt\trunning\t" in iotgw(gateway, "connector", "list").stdout
    unknown = iotgw(gateway, "connector", "stop", "Plnat")
    assert unknown.returncode == 1 and "Plnat" in unknown.stderr
    assert iotgw(gateway, "connector", "stop").returncode == 64
    assert iotgw(gateway, "connector", "paint", "Plant").returncode == 64


def test_the_gateway_answers_requests_as_to_the_platform(plant_of):
    _, _, gateway = plant_of()
    assert ask(gateway, "rpc", "", "gateway_ping")["reply"] == {"code": 200, "resp": "pong"}
    assert "reply" in ask(gateway, "rpc", "nobody", "set", '{"a":1}')
    assert iotgw(gateway, "rpc", "a", "set", "{broken").returncode == 64
    assert iotgw(gateway, "rpc", "a").returncode == 64


def test_reload_takes_over_what_was_edited_and_says_what_is_wrong(plant_of):
    _, broker, gateway = plant_of()
    assert ask(gateway, "check", "--diff")["plan"] == []
    path = gateway.directory / "plant.json"
    conf = json.loads(path.read_text())
    conf["mapping"][0]["topicFilter"] = "elsewhere/+/data"
    path.write_text(json.dumps(conf))
    assert iotgw(gateway, "reload").returncode == 0
    assert iotgw(gateway, "check", "--diff").stdout.strip() == "nothing changes"
    path.write_text("{")
    broken = iotgw(gateway, "reload")
    assert broken.returncode == 78 and "plant.json" in broken.stdout, broken
    assert ask(gateway, "status")["connectors"][0]["state"] == "running"


def test_log_levels_change_while_it_runs(plant_of):
    _, _, gateway = plant_of()
    assert iotgw(gateway, "log-level", "Plant", "debug").returncode == 0
    assert iotgw(gateway, "log-level", "error").returncode == 0
    assert iotgw(gateway, "log-level", "Nobody", "debug").returncode == 1
    loud = iotgw(gateway, "log-level", "Plant", "loud")
    assert loud.returncode == 1 and "loud" in loud.stderr


def test_the_storage_of_the_running_gateway_is_shown(plant_of):
    _, _, gateway = plant_of()
    assert ask(gateway, "store", "stats")["type"] == "memory"
    assert ask(gateway, "store")["type"] == "memory"
    shown = iotgw(gateway, "store").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["type", "waiting", "oldest", "acknowledged", "dropped", "rejected"]
    assert "waiting            0 events" in iotgw(gateway, "store", "stats").stdout
    assert iotgw(gateway, "store", "rejected").returncode == 0
    assert iotgw(gateway, "store", "verify").returncode == 64


def control_path(gateway):
    """The socket that the gateway made, as its process has it open."""
    text = pathlib.Path("/proc/net/unix").read_text()
    inodes = {os.readlink(f)[8:-1] for f in pathlib.Path(f"/proc/{gateway.process.pid}/fd").iterdir() if os.readlink(f).startswith("socket:")}
    names = [line.split()[7] for line in text.splitlines()[1:] if len(line.split()) > 7 and line.split()[6] in inodes]
    name = next(n.rsplit("/", 1)[1] for n in names if "control" in n)
    for directory in ("/run/iotgw", os.environ.get("XDG_RUNTIME_DIR", "/nowhere") + "/iotgw", gateway.directory / "run"):
        path = pathlib.Path(directory) / name
        if path.exists():
            return path
    raise AssertionError(name)


def talk(path, data):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(plant.LIMIT_S)
        s.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # what is too long is cut off
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(65536):
            answer += part
            if answer.count(b"\n") >= data.count(b"\n"):
                break
        return [json.loads(line) for line in answer.splitlines()]


def test_the_socket_is_private_and_takes_any_bytes(plant_of):
    _, _, gateway = plant_of()
    path = control_path(gateway)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answers = talk(path, b'{"id":7,"method":"nothing"}\n[]\n{"id":"x","method":"status","params":3}\n\xff\xfe\n{"id":{},"method":1}\n')
    assert [a["id"] for a in answers] == [7, None, "x", None, None]
    assert [a["error"]["code"] for a in answers] == ["UNSUPPORTED", "PROTO", "TYPE", "SYNTAX", "PROTO"]
    assert talk(path, b"x" * (2 << 20) + b"\n")[0]["error"]["code"] == "LIMIT"
    idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for s in idle:
        s.connect(str(path))  # waits while the queue is full
        s.settimeout(plant.LIMIT_S)
    try:
        assert b"too many" in idle[0].recv(1000), "the one that was silent for longest makes room"
        idle[39].sendall(b'{"id":8,"method":"nothing"}\n')
        assert b'"id":8' in idle[39].recv(1000)
        assert is_running(gateway)
    finally:
        for s in idle:
            s.close()
    plant.wait_until(lambda: is_running(gateway), "there is room again")


STORAGES = [{"type": "file", "data_folder_path": "./data/", "max_file_count": 100, "max_records_per_file": 1000},
            {"type": "sqlite", "data_file_path": "./data/"}]


@pytest.mark.parametrize("storage", STORAGES, ids=lambda s: s["type"])
def test_the_ledger_goes_on_after_a_restart_and_balances_after_a_kill(plant_of, storage):
    platform, broker, gateway = plant_of(storage=storage)
    running = lambda: is_running(gateway) and ask(gateway, "status")["connectors"][0]["link"]["state"] == "up"
    plant.wait_until(running, "all is connected")
    publish(broker, 50)
    plant.wait_until(lambda: ledger(gateway)["delivered"] == 100, "all is delivered")
    platform.ask("down")
    publish(broker, 30, device="b")
    plant.wait_until(lambda: ledger(gateway)["waiting"] == 60, "the rest waits")
    assert gateway.stop() == 0
    gateway.start()
    plant.wait_until(running, "it runs again")
    row = ledger(gateway)
    assert row["collected"] == 160 and row["delivered"] == 100 and row["waiting"] == 60, row
    assert ask(gateway, "status", "--devices", "a")["devices"][0]["ledger"]["delivered"] == 100
    publish(broker, 20, device="b")
    plant.wait_until(lambda: ledger(gateway)["collected"] == 200, "more has come")
    gateway.stop(plant.signal.SIGKILL)
    gateway.start()
    plant.wait_until(running, "it runs after the kill")
    row = ledger(gateway)
    assert row["collected"] == 200 and row["waiting"] == 100, row
    platform.ask("up")
    plant.wait_until(lambda: ledger(gateway)["waiting"] == 0, "the rest is delivered")
    assert ledger(gateway)["delivered"] == 200


def test_a_broken_ledger_is_put_aside(plant_of):
    _, broker, gateway = plant_of(storage=STORAGES[0])
    publish(broker, 10)
    gateway.stop()
    path = gateway.directory / "data" / "ledger.json"
    path.write_text('{"version":1,"devices":[["a",-1]]}')
    gateway.start()
    plant.wait_until(lambda: is_running(gateway), "it runs again")
    ledger(gateway)
    assert (gateway.directory / "data" / "ledger.json.broken").exists()


def test_what_overflows_is_in_the_ledger(plant_of):
    platform, broker, gateway = plant_of(storage={"max_records_count": 100, "overflow": "drop_oldest"})
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    platform.ask("down")
    publish(broker, 1000)
    plant.wait_until(lambda: ledger(gateway)["collected"] == 2000, "all is collected")
    plant.wait_until(lambda: ledger(gateway)["overflow"] > 1000, "most of it is dropped")
    row = ledger(gateway)
    assert row["waiting"] == ask(gateway, "status")["storage"]["values"], row


def test_what_the_platform_refuses_is_in_the_ledger(plant_of):
    platform, broker, gateway = plant_of()
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    publish(broker, 1)
    platform.wait_for("a", seq=0)
    platform.ask("puback 0x99 666666")
    broker.publish_lines("sensors/a/data", [{"seq": 666666 if i == 57 else i, "temperature": i} for i in range(1, 200)])
    plant.wait_until(lambda: ledger(gateway)["waiting"] == 0 and ledger(gateway)["collected"] == 400, "all has come to its end")
    row = ask(gateway, "status", "--devices", "a")["devices"][0]["ledger"]
    assert row["rejected"] == 2 and row["delivered"] == 398, row
    assert ask(gateway, "status")["platform"]["rejectedValues"] == 2


def test_what_cannot_be_converted_is_in_the_ledger_of_its_device(made):
    platform, broker = made(plant.Platform), made(plant.Broker)
    mapping = plant.mqtt_mapping(timeseries=[{"type": "raw", "key": "seq", "value": "${seq}"}, {"type": "int", "key": "n", "value": "${seq * (}"}])
    gateway = made(plant.Gateway, platform.port, {"Plant": plant.mqtt_connector(broker.port, [mapping])})
    plant.wait_until(lambda: is_running(gateway) and ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "it runs")
    publish(broker, 10)
    plant.wait_until(lambda: ledger(gateway)["delivered"] == 10, "what can be is delivered")
    row = ask(gateway, "status", "--devices", "a")["devices"][0]["ledger"]
    counters = ask(gateway, "status")["connectors"][0]["counters"]
    assert row["failed"] == counters["conversionErrors"], (row, counters)


@pytest.mark.parametrize("storage", [
    {"type": "file", "data_folder_path": "./data/", "max_file_count": 4, "max_records_per_file": 100, "overflow": "drop_oldest"},
    {"type": "sqlite", "data_file_path": "./data/", "max_records_count": 400, "overflow": "drop_oldest"}], ids=lambda s: s["type"])
def test_what_overflows_a_durable_storage_is_in_the_ledger_also_after_a_restart(plant_of, storage):
    platform, broker, gateway = plant_of(storage=storage)
    up = lambda: is_running(gateway) and ask(gateway, "status")["connectors"][0]["link"]["state"] == "up"
    plant.wait_until(up, "the broker is connected")
    platform.ask("down")
    publish(broker, 6000)
    plant.wait_until(lambda: ledger(gateway)["collected"] == 12000, "all is collected")
    if storage["type"] == "file":
        plant.wait_until(lambda: ledger(gateway)["overflow"] > 1000, "much of it is dropped")
    row = ledger(gateway)
    assert gateway.stop() == 0
    gateway.start()
    plant.wait_until(up, "it runs again")
    again = ledger(gateway)
    assert (again["collected"], again["overflow"]) >= (row["collected"], row["overflow"]), (row, again)
    platform.ask("up")
    plant.wait_until(lambda: ledger(gateway)["waiting"] == 0, "the rest is delivered")
    row = ledger(gateway)
    assert row["collected"] == row["delivered"] + row["overflow"] == 12000, row


def assert_answers(gateway):
    began = time.monotonic()
    assert ask(gateway, "status")["gateway"]["state"] == "running"
    done = iotgw(gateway, "rpc", "", "gateway_ping")
    assert done.returncode == 0 and "pong" in done.stdout, (done.stdout, done.stderr)
    assert iotgw(gateway, "reload").returncode == 0
    assert time.monotonic() - began < 10


@pytest.mark.skipif(plant.IS_INSTRUMENTED, reason="the shim is made for the plain program")
@pytest.mark.parametrize("fault", ["full", "hung"])
def test_invariant_6_platform_frozen_disk_in_trouble_and_all_full_it_answers_and_stops(made, tmp_path, fault):
    directory = tmp_path / "data"
    faults = faulty.Faults(tmp_path / "faults", directory)
    platform, broker = made(faulty.MortalPlatform, tmp_path / "journal"), made(plant.Broker)
    storage = {"type": "file", "data_folder_path": str(directory), "max_file_count": 4, "max_records_per_file": 250}
    gateway = made(plant.Gateway, platform.port, {"Plant": plant.mqtt_connector(broker.port)}, storage=storage, env=faults.env())
    plant.wait_until(lambda: is_running(gateway) and ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "it runs")
    publish(broker, 100)
    plant.wait_until(lambda: ledger(gateway)["delivered"] == 200, "the beginning is delivered")
    platform.freeze()
    publish(broker, 500, first=100)
    plant.wait_until(lambda: ledger(gateway)["waiting"] > 0, "something waits")
    if fault == "full":
        faults.room = 0
    else:
        faults.is_hung = 1
    publish(broker, 3000, first=600)
    plant.wait_until(lambda: ask(gateway, "status")["storage"]["trouble"], "the trouble is told")
    assert ask(gateway, "status")["storage"]["troubleSince"]
    assert_answers(gateway)
    assert ask(gateway, "status")["storage"]["trouble"].split(" ")[0] in iotgw(gateway, "status").stdout
    began = time.monotonic()
    gateway.stop(limit_s=30)
    assert time.monotonic() - began < 15
    faults.heal()
    platform.thaw()


@contextlib.contextmanager
def tail(gateway, *args):
    process = subprocess.Popen([str(plant.BUILD / "iotgw"), "tail", *args, "-c", str(gateway.directory)], text=True, stdout=subprocess.PIPE,
                               env=gateway.env)
    try:
        yield process
    finally:
        plant.end_process(process)


def test_tail_shows_values_and_wire_as_they_pass(plant_of):
    platform, broker, gateway = plant_of()
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    publish(broker, 1)
    platform.wait_for("a", seq=0)
    with tail(gateway, "--json", "-n", "1") as values, tail(gateway, "--json", "-n", "1", "b") as of_b, \
            tail(gateway, "-n", "1") as text, tail(gateway, "--json", "--wire", "-n", "1", "a") as wire:
        def gone():
            publish(broker, 1, device="a")
            publish(broker, 1, device="b", first=7)
            return all(p.poll() is not None for p in (values, of_b, text, wire))
        plant.wait_until(gone, "each has seen a line")
        assert [p.returncode for p in (values, of_b, text, wire)] == [0] * 4
        line = json.loads(values.stdout.read())
        assert line["connector"] == "Plant" and line["more"] == 0
        assert [v["key"] for v in line["values"]] == ["seq", "temperature"] and line["values"][0]["kind"] == "telemetry"
        line = json.loads(of_b.stdout.read())
        assert line["device"] == "b" and line["values"][0]["value"] == 7
        assert "Plant  " in (shown := text.stdout.read()) and "seq=" in shown
        line = json.loads(wire.stdout.read())
        assert line["direction"] == "in" and line["subject"].startswith("sensors/") and json.loads(line["text"])["seq"] in (0, 7)
    done = iotgw(gateway, "tail", "--wire", "nobody")
    assert done.returncode == 1 and "nobody" in done.stderr
    assert iotgw(gateway, "tail", "-n", "0").returncode == 64


def test_a_tail_that_does_not_read_delays_nothing_and_is_told_what_it_missed(plant_of):
    platform, broker, gateway = plant_of()
    plant.wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] == "up", "the broker is connected")
    with tail(gateway, "--json") as slow:
        os.set_blocking(slow.stdout.fileno(), False)

        def began():
            publish(broker, 1)
            return slow.stdout.readline()
        plant.wait_until(began, "it listens")
        os.set_blocking(slow.stdout.fileno(), True)
        plant.wait_until(lambda: ledger(gateway)["waiting"] == 0, "what came before is delivered")
        before = ledger(gateway)["delivered"]
        publish(broker, 20000, first=1)
        plant.wait_until(lambda: ledger(gateway)["delivered"] == before + 40000, "all is delivered meanwhile")
        shown = missed = 0
        while shown + missed < 20000:
            line = json.loads(slow.stdout.readline())
            shown, missed = shown + ("values" in line), missed + line.get("leftOut", 0)
        assert missed > 1000 and shown > 100, (shown, missed)
        busy = [subprocess.Popen([str(plant.BUILD / "iotgw"), "tail", "-c", str(gateway.directory)], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True, env=gateway.env) for _ in range(8)]
        try:
            plant.wait_until(lambda: any(p.poll() is not None for p in busy), "one too many is refused")
            assert "8 others listen" in next(p for p in busy if p.poll() is not None).stderr.read()
        finally:
            for p in busy:
                plant.end_process(p)
    assert gateway.stop() == 0
