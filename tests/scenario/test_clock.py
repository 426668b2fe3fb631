# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps (DESIGN 7, invariant 15)."""
import pytest
from faulty import Faults
from plant import IS_INSTRUMENTED, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

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
