# SPDX-License-Identifier: Apache-2.0
"""With file or sqlite storage nothing that was acknowledged to its source is lost: kills, outages, a full disk (DESIGN 7, invariants 1, 2, 3, 4)."""
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess

import pytest
from books import ledger
from plant import BUILD, Gateway, IS_INSTRUMENTED, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

STORAGE = {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 1000}
SQLITE = {"type": "sqlite", "data_file_path": "./data/", "size_limit": 8, "max_db_amount": 50}
ROUNDS = int(os.environ.get("IOTGW_KILLS", 12))


def connector(source, **broker):
    """A persistent session: what was not acknowledged to the source is sent again."""
    return mqtt_connector(source.port, [mqtt_mapping(keys=("seq", "temperature", "state"))], clientId="durable", cleanStart=False, sessionExpiryInterval=3600, **broker)


@pytest.fixture(params=[STORAGE, SQLITE], ids=lambda kind: kind["type"])
def kind(request):
    return request.param


def plant(made, *, devices=20, window=300, storage=None, **gateway):
    platform = made(Platform, "--shared-seq")
    source = made(Source, "--devices", devices, "--window", window)
    return platform, source, made(Gateway, platform.port, {"Plant": connector(source)}, storage=storage if storage and "type" in storage else {**STORAGE, **(storage or {})}, **gateway)


def finish(source):
    """No more messages; all that were made are accepted in the end. Gives how many."""
    source.ask("stop")
    wait_until(lambda: source.stats()["inflight"] == 0, "all are acknowledged")
    return source.stats()["accepted"]


def assert_all_arrived(platform, accepted):
    wait_until(lambda: platform.stats()["uniq"] >= accepted, f"{accepted} of {platform.stats()}")
    assert platform.ask(f"missing 0 {accepted}")["missing"] == []
    assert platform.stats()["uniq"] == accepted


def is_blocked(gateway):
    done = subprocess.run([BUILD / "iotgw", "--config", gateway.directory, "status", "--json"], capture_output=True, text=True, timeout=20)
    return done.returncode == 0 and json.loads(done.stdout)["storage"]["blocked"]


def kill(gateway):
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL


def test_kills_at_random_moments_lose_nothing(made, kind):
    """Invariant 1: accepted − delivered = 0, whether the platform was there or not."""
    chance = random.Random(20)
    platform, source, gateway = plant(made, storage=kind)
    source.ask("run 0 4000")
    is_up = True
    for _ in range(ROUNDS):
        more = source.stats()["accepted"] + chance.randint(1, 2500)
        wait_until(lambda: source.stats()["accepted"] >= more, "it goes on")
        if chance.random() < 0.3:
            is_up = not is_up
            platform.ask("up" if is_up else "down")
        kill(gateway)
        gateway.start()
    if not is_up:
        platform.ask("up")
    wait_until(lambda: source.stats()["accepted"] > 1000, "some are accepted")
    accepted = finish(source)
    assert_all_arrived(platform, accepted)
    assert gateway.stop() == 0
    assert not list((gateway.directory / "data").glob("events-*.log")), "a drained store leaves no segment"
    for name in (gateway.directory / "data").glob("events-*.db"):
        with contextlib.closing(sqlite3.connect(name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_killed_twice_before_the_platform_was_ever_reached(made, kind):
    platform, source, gateway = plant(made, storage=kind)
    platform.ask("down")
    for n in (2000, 4000):
        source.ask("run 2000")
        wait_until(lambda n=n: source.stats()["accepted"] == n, f"{n} are accepted")
        kill(gateway)
        gateway.start()
    platform.ask("up")
    assert_all_arrived(platform, 4000)
    assert platform.stats()["dup"] == 0, "nothing was in flight"
    assert platform.stats()["ooo"] == 0


def test_an_outage_without_a_crash_repeats_nothing_and_keeps_the_order(made, kind):
    """Invariants 3 and 4."""
    platform, source, gateway = plant(made, storage=kind)
    source.ask("run 1000")
    wait_until(lambda: platform.stats()["uniq"] == 1000, "it flows")
    platform.ask("down")
    source.ask("run 20000")
    wait_until(lambda: source.stats()["accepted"] == 21000, "all are accepted while nobody is there")
    assert IS_INSTRUMENTED or gateway.rss_kib() < 24 * 1024
    platform.ask("up")
    assert_all_arrived(platform, 21000)
    assert platform.stats()["dup"] == 0 and platform.stats()["ooo"] == 0


def test_a_stop_and_a_start_repeat_nothing(made, kind):
    """Clean stops: what the platform acknowledged is in the state file."""
    platform, source, gateway = plant(made, storage=kind)
    source.ask("run 0 3000")
    for _ in range(3):
        seen = platform.stats()["uniq"]
        wait_until(lambda seen=seen: platform.stats()["uniq"] > seen + 200, "it flows")
        assert gateway.stop() == 0
        gateway.start()
    accepted = finish(source)
    assert_all_arrived(platform, accepted)
    assert platform.stats()["dup"] <= 300, "at most what the source sent again"


def test_a_full_store_holds_the_source_back_and_loses_nothing(made):
    platform, source, gateway = plant(made, window=50, storage={"max_file_count": 5, "max_records_per_file": 100})
    platform.ask("down")
    source.ask("run 3000")
    wait_until(lambda: source.stats()["accepted"] >= 400, "the store fills")
    wait_until(lambda: is_blocked(gateway), "it is full")
    assert source.stats()["accepted"] <= 500
    platform.ask("up")
    wait_until(lambda: source.stats()["accepted"] == 3000, "the rest follows")
    assert_all_arrived(platform, 3000)


def test_a_full_disk_stops_acknowledgements_and_recovers_by_itself(made, kind, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        platform, source, gateway = plant(made, storage={**kind, "data_folder_path": str(disk / "data"), "data_file_path": f"{disk}/data/", "max_records_per_file": 100})
        platform.ask("down")
        source.ask("run 0 5000")
        wait_until(lambda: "nothing can be stored" in gateway.log_text(), "the full disk is named")
        assert "disk full" in gateway.log_text()
        wait_until(lambda: source.stats()["inflight"] == 300, "the source has its window full, and waits")
        filled = source.stats()["accepted"]
        wait_until(lambda: is_blocked(gateway), "it is told")
        assert source.stats()["accepted"] == filled, "nothing is acknowledged that is not on the disk"
        platform.ask("up")  # what is delivered makes room
        wait_until(lambda: "storing works again" in gateway.log_text(), "it recovers")
        wait_until(lambda: source.stats()["accepted"] > filled, "acknowledgements go on")
        accepted = finish(source)
        assert_all_arrived(platform, accepted)
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_second_gateway_cannot_have_the_same_directory(made):
    platform, _, gateway = plant(made)
    wait_until(lambda: (gateway.directory / "data").exists(), "it runs")
    gateway.wait_log("gateway is running")

    def second(directory):
        done = subprocess.run([str(BUILD / "iotgw"), "run", "-c", str(directory)], cwd=gateway.directory, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        return done.stderr

    assert "another gateway runs with this configuration" in second(gateway.directory)
    copy = gateway.directory / "copy"  # another configuration, the same data
    copy.mkdir()
    for file in gateway.directory.glob("*.json"):
        shutil.copy(file, copy)
    assert "in use by another process" in second(copy)
    assert platform


def test_a_damaged_segment_costs_only_what_is_damaged(made):
    platform, source, gateway = plant(made)
    platform.ask("down")
    source.ask("run 5000")
    wait_until(lambda: source.stats()["accepted"] == 5000, "all are accepted")
    kill(gateway)
    segments = sorted((gateway.directory / "data").glob("events-*.log"))
    assert len(segments) >= 4
    data = bytearray(segments[1].read_bytes())
    data[5000] ^= 0x10
    segments[1].write_bytes(data)
    gateway.start()
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] >= 4999, "the others arrive")
    assert len(platform.ask("missing 0 5000")["missing"]) == 1
    assert len(list((gateway.directory / "data" / "quarantine").iterdir())) == 1
    assert "a part of the storage cannot be used" in gateway.log_text()
    wait_until(lambda: ledger(gateway)["waiting"] == 0, "all is delivered")
    books = ledger(gateway)
    assert (books["collected"], books["delivered"], books["damaged"]) == (15000, 14997, 3), books


def store(*args):
    return subprocess.run([str(BUILD / "iotgw"), "store", *map(str, args)], capture_output=True, text=True, timeout=30)


def test_the_offline_commands_read_databases_and_change_nothing(made):
    platform, source, gateway = plant(made, storage=SQLITE)
    platform.ask("down")
    source.ask("run 2500")
    wait_until(lambda: source.stats()["accepted"] == 2500, "all are accepted")
    directory = gateway.directory / "data"
    kill(gateway)
    before = sorted((path.name, path.read_bytes()) for path in directory.glob("*.db*") if not path.name.endswith("-shm"))
    stats = json.loads(store("stats", "--json", directory).stdout)
    assert (stats["type"], stats["events"], stats["values"], stats["corruptStretches"]) == ("sqlite", 2500, 7500, 0)
    lines = [json.loads(line) for line in store("dump", directory).stdout.splitlines()]
    assert [line["values"]["seq"] for line in lines] == list(range(2500))
    fine = store("verify", directory)
    assert fine.returncode == 0 and "0 problems" in fine.stdout
    assert before == sorted((path.name, path.read_bytes()) for path in directory.glob("*.db*") if not path.name.endswith("-shm"))


def test_a_directory_without_a_storage_is_not_taken_for_a_sound_one(tmp_path):
    (tmp_path / "file").write_text("x")
    for what in ("verify", "dump", "stats", "rejected"):
        for at, reason in ((tmp_path, "no storage lies there"), (tmp_path / "file", "not a directory"), (tmp_path / "none", "not found")):
            answer = store(what, at)
            assert (answer.returncode, answer.stdout) == (1, "") and reason in answer.stderr, answer
    (tmp_path / "state").write_text("")
    assert store("rejected", tmp_path).returncode == 0


def test_a_storage_folder_without_a_name_is_the_working_directory(made):
    storage = {"type": "file", "data_folder_path": "", "max_file_count": 10, "max_records_per_file": 100}
    platform, source, gateway = plant(made, storage=storage)
    platform.ask("down")
    source.ask("run 50")
    wait_until(lambda: source.stats()["accepted"] == 50, "all are accepted")
    assert list(gateway.directory.glob("events-*.log"))
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 50, "all arrive")
    assert gateway.stop() == 0


def test_a_storage_folder_that_is_a_file_is_named(made):
    platform = made(Platform)
    gateway = made(Gateway, platform.port, {}, storage=STORAGE, start=False)
    (gateway.directory / "data").write_text("x")
    ended = subprocess.run([str(BUILD / "iotgw"), "run", "-c", str(gateway.directory)], cwd=gateway.directory, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "not a directory" in ended.stderr + ended.stdout


def test_the_offline_commands_show_what_waits(made):
    platform, source, gateway = plant(made)
    platform.ask("down")
    source.ask("run 2500")
    wait_until(lambda: source.stats()["accepted"] == 2500, "all are accepted")
    directory = gateway.directory / "data"
    assert "in use by a gateway" in store("stats", directory).stderr
    kill(gateway)
    stats = json.loads(store("stats", "--json", directory).stdout)
    assert (stats["events"], stats["values"], stats["corruptStretches"]) == (2500, 7500, 0)
    lines = [json.loads(line) for line in store("dump", directory).stdout.splitlines()]
    assert [line["values"]["seq"] for line in lines] == list(range(2500))
    assert {line["device"] for line in lines} == {f"dev{i:05}" for i in range(20)}
    fine = store("verify", directory)
    assert fine.returncode == 0 and "0 problems" in fine.stdout
    segment = sorted(directory.glob("events-*.log"))[0]
    data = bytearray(segment.read_bytes())
    data[3000] ^= 1
    segment.write_bytes(data)
    damaged = store("verify", directory)
    assert damaged.returncode == 1 and f"{segment.name}: bytes" in damaged.stdout and "1 problems" in damaged.stdout
    (directory / "state").write_text("nonsense")
    assert "state: data is corrupt" in store("verify", directory).stdout
    assert store("verify", directory / "nowhere").returncode == 1
    assert store("look", directory).returncode == 64
