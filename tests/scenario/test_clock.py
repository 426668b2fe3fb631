# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps (DESIGN 7, invariant 15)."""
import json
import signal
import subprocess
import time

import pytest
from faulty import Faults
from plant import BUILD, IS_INSTRUMENTED, Broker, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

HOUR_MS = 3600 * 1000
YEAR_MS = 365 * 24 * HOUR_MS
STEPS = {"1 h on": HOUR_MS, "1 h back": -HOUR_MS, "50 years on": 50 * YEAR_MS, "50 years back": -50 * YEAR_MS}
STORAGES = {
    "memory": {"type": "memory", "max_records_count": 100000},
    "file": {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 100},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/", "messages_ttl_in_days": 1},
}
pytestmark = pytest.mark.skipif(IS_INSTRUMENTED, reason="the shim is made for the plain program")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("storage", STORAGES)
def test_invariant_15_a_step_of_the_clock_deletes_nothing_and_stops_no_timer(made, tmp_path, storage, step):
    """Invariant 15: over the step, with data waiting, over a reconnect (a timer), and back again; order and count stay."""
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 300)
    connector = mqtt_connector(source.port, [mqtt_mapping(keys=("seq",))], clientId="clock", cleanStart=False, sessionExpiryInterval=3600)
    gateway = made(Gateway, platform.port, {"Plant": connector}, storage=STORAGES[storage], start=False)
    faults = Faults(tmp_path / "faults")
    gateway.env.update(faults.env())
    gateway.start()
    n = 0
    for by in (STEPS[step], 0):
        platform.ask("down")
        source.ask("run 500")
        n += 500
        wait_until(lambda: source.stats()["accepted"] == n, "stored before the step")
        faults.wall_ms = by
        source.ask("run 500")
        n += 500
        wait_until(lambda: source.stats()["accepted"] == n, "stored after the step")
        platform.ask("up")  # the pause before the next attempt is a timer
        wait_until(lambda: platform.stats()["uniq"] == n, f"{n} of {platform.stats()}")
    stats = platform.stats()
    assert stats["dup"] == 0 and stats["ooo"] == 0, stats
    source.ask("drop")  # the source's link has a timer, too
    source.ask("run 100")
    wait_until(lambda: platform.stats()["uniq"] == n + 100, "it goes on")
    assert gateway.stop() == 0


@pytest.mark.parametrize("step", STEPS)
def test_invariant_15_what_waits_survives_a_restart_with_another_clock(made, tmp_path, step):
    """Invariant 15: sqlite has an age limit of a day here; the process is restarted under the other clock."""
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 300)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(source.port, [mqtt_mapping(keys=("seq",))])}, storage=STORAGES["sqlite"], start=False)
    faults = Faults(tmp_path / "faults")
    gateway.env.update(faults.env())
    faults.wall_ms = STEPS[step]
    gateway.start()
    platform.ask("down")
    source.ask("run 1000")
    wait_until(lambda: source.stats()["accepted"] == 1000, "stored")
    gateway.stop()
    faults.wall_ms = 0
    gateway.start()
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] == 1000, f"{platform.stats()}")
    assert platform.stats()["ooo"] == 0
    assert gateway.stop() == 0


def now_ms():
    return int(time.time() * 1000)


def stamp(platform, device):
    return platform.values(device)["telemetry"]["seq"]["ts"]


@pytest.mark.parametrize("storage", ("memory", "file", "killed"))
def test_invariant_15_what_comes_before_the_clock_is_set_gets_its_time_when_it_is(made, tmp_path, storage):
    """Invariant 15: 50 years back at the start; values without a time of their own wait, those with one do not; nothing is stamped before the program.
    killed: the process that took the values is not the one that sends them."""
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, [mqtt_mapping(keys=("seq",))])},
                   storage=STORAGES["memory" if storage == "memory" else "file"], start=False)
    faults = Faults(tmp_path / "faults")
    gateway.env.update(faults.env())
    faults.wall_ms = -50 * YEAR_MS
    gateway.start()
    wait_until(lambda: platform.stats()["sessions"] > 0, "a session")
    own = now_ms() - HOUR_MS
    broker.publish("sensors/own/data", {"seq": 1, "ts": own}, args=("-r",))
    platform.wait_for("own", seq=1)
    assert stamp(platform, "own") == own
    begin = now_ms()
    broker.publish("sensors/A/data", {"seq": 1})
    broker.publish("sensors/dateless/data", {"seq": 1, "ts": "03:04:05"})  # of which day, nobody knows
    end = now_ms() + 1000
    gateway.wait_log("the clock is not set")
    status = subprocess.run([str(BUILD / "iotgw"), "status", "--json", "-c", str(gateway.directory)], capture_output=True, text=True, check=True, env=gateway.env)
    assert "clock" in json.loads(status.stdout)["storage"]["trouble"]
    assert "seq" not in platform.values("A").get("telemetry", {})
    if storage == "killed":
        gateway.stop(signal.SIGKILL)
        gateway.start()
        wait_until(lambda: platform.stats()["sessions"] > 1, "a session of the second process")
    time.sleep(2)  # so that a stamp of now would be seen
    faults.wall_ms = 0
    platform.wait_for("A", seq=1)
    assert begin <= stamp(platform, "A") <= end
    platform.wait_for("dateless", seq=1)
    assert begin <= stamp(platform, "dateless") <= end
    for device, by in (("B", 0), ("C", -50 * YEAR_MS)):  # the last: what was believed is still known
        faults.wall_ms = by
        begin = now_ms()
        broker.publish(f"sensors/{device}/data", {"seq": 1})
        platform.wait_for(device, seq=1)
        assert begin - 1000 <= stamp(platform, device) <= now_ms() + 1000
    faults.wall_ms = 0
    assert gateway.stop() == 0


def test_invariant_15_ages_are_looked_at_and_only_what_is_old_is_dropped(made, tmp_path):
    """Invariant 15: what was stored three days ago goes, at the first look (a minute after the start), so the look did take place; what was
    stored under a clock that was wrong by 50 years stays, whichever way."""
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 300)
    connector = mqtt_connector(source.port, [mqtt_mapping(keys=("seq",))], clientId="age", cleanStart=False, sessionExpiryInterval=3600)
    gateway = made(Gateway, platform.port, {"Plant": connector}, storage=STORAGES["sqlite"], start=False)
    faults = Faults(tmp_path / "faults")
    gateway.env.update(faults.env())
    platform.ask("down")
    n = 0
    for by, count in ((-72 * HOUR_MS, 30000), (50 * YEAR_MS, 500), (-50 * YEAR_MS, 500)):  # old: more than the reader has ready
        faults.wall_ms = by
        gateway.start()
        source.ask(f"run {count}")
        n += count
        wait_until(lambda: source.stats()["accepted"] == n, f"stored at {by}")
        gateway.stop()
    faults.wall_ms = 0
    gateway.start()
    wait_until(lambda: "records are older than the limit and are dropped" in gateway.log_text(), "the look", 90)
    platform.ask("up")
    wait_until(lambda: platform.ask(f"missing 30000 {n}")["n"] == 0, "what is not old")
    assert 0 < platform.stats()["uniq"] < n
    assert gateway.stop() == 0
