# SPDX-License-Identifier: Apache-2.0
"""What the Python gateway, or a storage of another type, has left is delivered first, and nothing of it is lost (delivery.md)."""
import base64
import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import time

import pytest
from plant import BUILD, Broker, Gateway, LIMIT_S, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

N = 20000
FIRST_MS = 1700000000000
OWN = {
    "memory": {"type": "memory", "max_records_count": 1000000, "read_records_count": 100},
    "file": {"type": "file", "data_folder_path": "./data/", "max_file_count": 1000, "max_records_per_file": 1000},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/data.db"},
}
PATHS = {"data_folder_path": "./data/", "data_file_path": "./data/data.db"}


def event(i, device=None, **more):
    """As the Python gateway stores it: every third in the form of its older versions."""
    device = device or f"dev-{i % 7}"
    entry = {"ts": FIRST_MS + i, "values": {"seq": i, "temperature": i / 4}}
    if i % 3:
        return {"deviceName": device, "deviceType": "sensor", "telemetry": [entry], "attributes": {}, **more}
    return {"deviceName": device, "deviceType": "sensor", "telemetry": entry, "attributes": [{"place": f"hall {i % 4}"}], **more}


def text(event):
    return json.dumps(event, separators=(",", ":"))


def line(event):
    return base64.b64encode((event if isinstance(event, str) else text(event)).encode()) + b"\n"


def write_files(folder, events, *, per_file=1000, prefix="", position=None, done=0):
    """data_<ms>.txt of so many events each; position: lines of the file of that number that were delivered."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(0, len(events), per_file):
        names.append(f"{prefix}data_{FIRST_MS + i}.txt")
        (folder / names[-1]).write_bytes(b"".join(line(e) for e in events[i:i + per_file]))
    if position is not None:
        (folder / f"{prefix}state_file.txt").write_text(json.dumps({"position": done, "file": names[position]}))
    return names


def write_database(path, events, *, with_id=True, first_id=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL, message TEXT NOT NULL)" if with_id
                         else "CREATE TABLE messages (timestamp INTEGER NOT NULL, message TEXT NOT NULL)")
        database.execute("CREATE INDEX idx_timestamp ON messages (timestamp)")
        database.executemany("INSERT INTO messages (timestamp, message) VALUES (?, ?)", [(FIRST_MS, e if isinstance(e, (str, bytes)) else text(e)) for e in events])
        database.commit()


def left(gateway):
    """What of the Python gateway still lies there."""
    return sorted(p.name for p in gateway.directory.rglob("*") if p.name.startswith(("data_", "datadata_", "state_", "data.db", "datastate_")))


def status(gateway, *options):
    """What `iotgw status` says of it."""
    done = subprocess.run([str(BUILD / "iotgw"), "status", *options, "-c", str(gateway.directory)], capture_output=True, text=True,
                          timeout=LIMIT_S, check=True, env=gateway.env)
    return json.loads(done.stdout)["storage"]["takeover"] if options else done.stdout


@pytest.fixture
def site(made, tmp_path):
    """A directory to be filled before the gateway starts."""
    def make(storage, **gateway):
        platform, broker = made(Platform, "--shared-seq"), made(Broker)
        return platform, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, storage=storage, start=False, **gateway)
    return make


def assert_all_arrive(platform, n, begin=0, limit_s=LIMIT_S):
    wait_until(lambda: platform.stats()["uniq"] >= n - begin, f"{n - begin} of them are there", limit_s)
    assert platform.ask(f"missing {begin} {n}")["missing"] == []


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("form", ["file", "sqlite"])
def test_events_of_the_python_gateway_arrive_in_order(site, own, form):
    platform, gateway = site({**PATHS, **OWN[own]})
    events = [event(i) for i in range(N)]
    if form == "file":
        write_files(gateway.directory / "data", events, position=2, done=500)
    else:
        write_database(gateway.directory / "data" / "data.db", events[:N // 2])
        write_database(gateway.directory / "data" / f"data_{FIRST_MS}.db", events[N // 2:], with_id=False)
    begin = 2500 if form == "file" else 0
    gateway.start()
    assert_all_arrive(platform, N, begin)
    stats = platform.stats()
    assert stats["ooo"] == 0 and stats["dup"] == 0
    last = N - 1 - (N - 1) % 3
    assert platform.values(f"dev-{last % 7}")["attributes"]["place"]["value"] == f"hall {last % 4}"
    gateway.wait_log("all that waited is taken over")
    assert left(gateway) == []
    gateway.wait_log("gateway is running")
    assert status(gateway, "--json") == {"running": False, "what": None, "events": N - begin, "corrupt": 0, "superseded": 0, "leftOut": 0}
    assert "taken over: " in status(gateway)
    assert gateway.stop() == 0


@pytest.mark.parametrize("own", ["file", "sqlite"])
@pytest.mark.parametrize("form", ["file", "sqlite"])
def test_killed_ten_times_in_the_midst_of_it(site, own, form):
    chance = random.Random(form + own)
    platform, gateway = site({**PATHS, **OWN[own]})
    n = 10 * N
    events = [event(i) for i in range(n)]
    if form == "file":
        write_files(gateway.directory / "data", events)
    else:
        write_database(gateway.directory / "data" / "data.db", events)
    n_interrupted = 0
    for round in range(10):
        gateway.start()
        time.sleep(chance.uniform(0.01, 0.1))  # no condition: any moment is right
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
        n_interrupted += bool(left(gateway))
        platform.ask("up" if round % 3 else "down")
    assert n_interrupted > 2, "it was killed before its end"
    platform.ask("up")
    gateway.start()
    assert_all_arrive(platform, n, limit_s=2 * LIMIT_S)
    wait_until(lambda: not left(gateway), "nothing is left")
    assert gateway.stop() == 0


def test_connectors_start_although_the_platform_is_down_and_the_storage_is_small(site):
    platform, gateway = site({**PATHS, "type": "file", "max_file_count": 5, "max_records_per_file": 400})
    platform.ask("down")
    write_files(gateway.directory / "data", [event(i) for i in range(N)])
    gateway.start()
    gateway.wait_log("gateway is running")
    assert left(gateway), "most of it waits for room where it was"
    assert gateway.stop() == 0
    gateway.start()
    platform.ask("up")
    assert_all_arrive(platform, N)
    assert platform.stats()["ooo"] == 0
    wait_until(lambda: not left(gateway), "nothing is left")
    assert gateway.stop() == 0


def test_garbage_is_named_and_skipped(site):
    platform, gateway = site({**PATHS, **OWN["file"]})
    folder = gateway.directory / "data"
    events = [event(i) for i in range(1000)]
    name = write_files(folder, events)[0]
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    lines[10:10] = [b"%%% no base64 %%%\n", line("{ no json"), line("[1]"), line('{"telemetry":[]}'), b"\n", b"A" * 100000 + b"=\n"]
    (folder / name).write_bytes(b"".join(lines) + line(event(5000))[:-20])
    (folder / "state_file.txt").write_text('{"position": 1')
    write_database(folder / "data.db", [text(event(1000)), "{ no json", b"\xff\xfe", text(event(1001))])
    (folder / f"data_{FIRST_MS}.db").write_bytes(b"no database")
    gateway.start()
    assert_all_arrive(platform, 1002)
    for number in (*range(11, 17), 1007):
        gateway.wait_log(f"line={number}")
    gateway.wait_log("the position cannot be read")
    gateway.wait_log("no database")
    wait_until(lambda: left(gateway) == [f"data_{FIRST_MS}.db"], "only what is no database is left")
    assert gateway.stop() == 0


def test_files_beside_the_folder_when_its_name_has_no_slash(site):
    """The Python gateway puts the folder's text before each name, and after a restart does not find what it wrote."""
    platform, gateway = site({**OWN["file"], "data_folder_path": "./data"})
    (gateway.directory / "data").mkdir()
    write_files(gateway.directory, [event(i) for i in range(3000)], prefix="data", position=2, done=100)
    gateway.start()
    wait_until(lambda: platform.stats()["uniq"] >= 2900, "all but the delivered ones")
    assert platform.ask("missing 0 3000")["missing"] in ([[2000, 2100]], list(range(2000, 2100)), [[2000, 2099]])
    wait_until(lambda: not left(gateway), "nothing is left")
    assert gateway.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_directory_that_cannot_be_written_stays_as_it_is(site):
    platform, gateway = site({**OWN["sqlite"], "data_folder_path": "./former/", "data_file_path": "./data/"})
    folder = gateway.directory / "former"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        write_files(folder, [event(i) for i in range(100)])
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        gateway.start()
        gateway.wait_log("it stays as it is")
        gateway.wait_log("gateway is running")
        assert gateway.stop() == 0
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
        assert platform.stats()["uniq"] == 0, "else it would come again after each start"
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        gateway.start()
        assert_all_arrive(platform, 100)
        assert gateway.stop() == 0
    finally:
        gateway.close()
        subprocess.run(["umount", folder], check=True)


def test_metadata_and_values_without_time(site):
    platform, gateway = site({**PATHS, **OWN["file"]})
    write_files(gateway.directory / "data", [
        {"deviceName": "a", "deviceType": "t", "telemetry": [{"ts": FIRST_MS, "values": {"x": 1.5}}], "attributes": {}, "metadata": {"connector": "c", "receivedTs": 5}},
        {"deviceName": "c", "telemetry": [{"ts": FIRST_MS, "values": {"x": 2.5}}], "metadata": {"receivedTs": 5}},
        {"deviceName": "b", "deviceType": "t", "telemetry": [{"y": 2}, {"z": "text"}], "attributes": [{"u": 1}, {"v": None}, {"w": [1, {"k": True}]}]}])
    gateway.start()
    platform.wait_for("a", x=1.5)
    platform.wait_for("c", x=2.5)
    platform.wait_for("b", y=2, z="text", u=1)
    assert platform.values("a")["telemetry"]["x"]["ts"] == FIRST_MS
    assert abs(platform.values("b")["telemetry"]["y"]["ts"] - time.time() * 1000) < 60000
    assert gateway.stop() == 0


def test_values_stored_in_one_millisecond_without_a_time_have_each_their_own_within_a_device(site):
    platform, gateway = site({**PATHS, **OWN["sqlite"]})
    events = [{"deviceName": f"dev-{i % 2}", "deviceType": "t", "telemetry": [{"y": i, "text": "a\0b"}], "attributes": {}} for i in range(4000)]
    write_database(gateway.directory / "data" / "data.db", events)
    gateway.start()
    platform.wait_for("dev-0", y=3998, text="a\ufffdb")
    platform.wait_for("dev-1", y=3999)
    for device in ("dev-0", "dev-1"):  # one ms after the other, whatever the other device has
        assert platform.values(device)["telemetry"]["y"]["ts"] == FIRST_MS + 1999
    assert gateway.stop() == 0


def test_attributes_do_not_hide_newer_ones_of_a_connector(made):
    """The take-over is held up by a small storage and a platform that is away, until a connector has brought newer ones."""
    platform, broker = made(Platform, "--shared-seq"), made(Broker)
    mapping = mqtt_mapping(keys=(), attributes=[{"type": "string", "key": "place", "value": "${place}"}])
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mapping])}, start=False,
                   storage={**PATHS, "type": "file", "max_file_count": 5, "max_records_per_file": 400})
    platform.ask("down")
    events = [event(i, "filler") for i in range(2000)] + [{"deviceName": "one", "deviceType": "sensor", "telemetry": [], "attributes": {"place": "old"}}]
    write_files(gateway.directory / "data", events)
    gateway.start()
    gateway.wait_log("gateway is running")
    gateway.wait_log("connected")
    broker.publish("sensors/one/data", '{"place": "new"}')
    platform.ask("up")
    assert_all_arrive(platform, 2000)
    gateway.wait_log("superseded=1")
    platform.wait_for("one", place="new")
    assert gateway.stop() == 0


@pytest.mark.parametrize("before, after", [("file", "sqlite"), ("sqlite", "file"), ("file", "memory"), ("sqlite", "memory")])
@pytest.mark.parametrize("same_folder", [True, False])
def test_a_storage_of_another_type_is_drained_after_a_change(made, before, after, same_folder):
    platform = made(Platform, "--shared-seq")
    source = made(Source, "--devices", 10, "--window", 1000)
    paths = PATHS if same_folder else {**PATHS, "data_file_path": "./database/"}
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(source.port, [mqtt_mapping(keys=("seq", "temperature", "state"))])},
                   storage={**OWN[before], **paths, "max_file_count": 1000, "max_records_per_file": 1000})
    platform.ask("down")
    source.ask("run 5000")
    wait_until(lambda: source.stats()["accepted"] == 5000, "all are accepted")
    assert gateway.stop() == 0
    conf = json.loads((gateway.directory / "tb_gateway.json").read_text())
    conf["storage"] = {**conf["storage"], **OWN[after], **paths}
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(conf))
    gateway.start()
    if after != "memory":
        gateway.wait_log("data that waits is taken over")
        assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
        gateway.start()
    source.ask("run 500")
    platform.ask("up")
    assert_all_arrive(platform, 5500)
    assert platform.stats()["ooo"] == 0
    pattern = {"file": "*.log", "sqlite": "events-*.db*"}[before]
    former = pathlib.Path(gateway.directory / ("data" if before == "file" or same_folder else "database"))
    wait_until(lambda: not list(former.glob(pattern)), "nothing is left of the former storage")  # it may have been done before the kill
    assert gateway.stop() == 0


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_midst_of_it(site, again):
    platform, gateway = site({**PATHS, **OWN["file"]})
    write_files(gateway.directory / "data", [event(i) for i in range(N)])
    gateway.start()
    gateway.wait_log("data that waits is taken over")
    assert gateway.stop(again) == 0
    gateway.start()
    assert_all_arrive(platform, N)
    stats = platform.stats()
    assert stats["ooo"] == 0 and stats["dup"] < 2000
    assert gateway.stop() == 0
