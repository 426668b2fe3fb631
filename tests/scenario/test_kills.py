# SPDX-License-Identifier: Apache-2.0
"""Gateway and platform are killed at any moment, again and again: what a source was told is stored arrives (DESIGN 7: invariants 1 to 5).

IOTGW_KILLS scales the number of rounds: at its default there are about 490, with some 580 kills of gateway and platform. About a
hundred share a plant, so that a round costs a tenth of a second. IOTGW_SEED makes other moments."""
import contextlib
import json
import os
import signal

import pytest
from books import iotgw, ledger
from faulty import Faults, MortalPlatform, chance
from plant import IS_INSTRUMENTED, Gateway, Source, mqtt_connector, mqtt_mapping, wait_until

ROUNDS = int(os.environ.get("IOTGW_KILLS", 12 if IS_INSTRUMENTED else 36))
STORAGES = {
    "file": {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 200, "max_read_records_count": 50},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/", "size_limit": 8, "max_db_amount": 50, "max_read_records_count": 50},
}
WINDOW = 200    # messages that the source has in flight at most
IN_FLIGHT = 20  # messages of up to 50 events to the platform
# Of one kill of the gateway: what the source sends again, what was in flight, what the platform acknowledged since the state file.
TWICE = WINDOW + IN_FLIGHT * 50 + 1000


@pytest.fixture(params=STORAGES)
def storage(request):
    return STORAGES[request.param]


class Plant:
    """Source, gateway and platform; the gateway can be killed at a given call on its directory."""

    def __init__(self, made, tmp_path, storage, is_kept=True, *, devices=10):
        self.platform = made(MortalPlatform, tmp_path / "journal", "--shared-seq", max_inflight=IN_FLIGHT)
        self.source = made(Source, "--devices", devices, "--window", WINDOW)
        session = {"clientId": "killed", "cleanStart": False, "sessionExpiryInterval": 3600} if is_kept else {}
        connector = mqtt_connector(self.source.port, [mqtt_mapping(keys=("seq",))], **session)
        self.faults = Faults(tmp_path / "faults")
        self.gateway = made(Gateway, self.platform.port, {"Plant": connector}, storage=storage, start=False)
        self.faults.__dict__["directory"] = (self.gateway.directory / "data").resolve()
        self.gateway.env.update(self.faults.env())
        self.n_kills = self.n_platform_kills = 0

    def start(self):
        self.log_from = len(self.gateway.log_text()) if self.gateway.log_path.exists() else 0
        self.gateway.start()

    def run_until_killed_at(self, call):
        """A life of the gateway that ends before the so many-th call that changes its directory, or by the test when nothing more is to be done."""
        self.faults.kill_at = call
        if self.gateway.process is None or self.gateway.process.poll() is not None:
            self.start()
        wait_until(lambda: self.gateway.process.poll() is not None, f"killed at call {call}; log:\n{self.gateway.log_text()[-1500:]}")
        assert self.gateway.process.returncode == -signal.SIGKILL, self.gateway.log_text()[-2000:]
        self.n_kills += 1

    def kill_platform(self):
        self.platform.kill()
        self.platform.start()
        self.n_platform_kills += 1

    def finish(self):
        """All that was accepted is there, and what the invariants say of the rest."""
        self.faults.heal()
        if self.gateway.process.poll() is not None:
            self.start()
        self.source.ask("stop")
        wait_until(lambda: self.source.stats()["inflight"] == 0, f"everything is accepted or given up: {self.source.stats()}")
        made_, forgotten = self.source.stats()["made"], set(self.source.stats()["unaccepted"])
        assert len(forgotten) == self.source.stats()["n_unaccepted"], "the source lists them all"
        wait_until(lambda: self.platform.stats()["uniq"] >= self.source.stats()["accepted"], f"{self.platform.stats()} {self.source.stats()}")
        wait_until(lambda: not self.missing(made_) - forgotten, f"what was accepted arrives: {self.missing(made_) - forgotten}")
        stats = self.platform.stats()
        assert stats["dup"] <= self.n_kills * TWICE + self.n_platform_kills * IN_FLIGHT * 50, stats
        # A signal that comes before the process has got as far as to wait for signals just ends it.
        wait_until(lambda: "gateway is running" in self.gateway.log_text()[self.log_from:], "it runs")
        wait_until(lambda: ledger(self.gateway)["waiting"] == 0, "nothing waits in the ledger either")
        assert self.gateway.stop() == 0, self.gateway.log_text()[-2000:]
        return stats

    def check_books(self):
        """Invariant 2: the ledger balances at whatever moment it is read, in total and for each device."""
        if iotgw(self.gateway, "status", "--json").returncode == 0:  # not before it has started
            ledger(self.gateway)

    def missing(self, made):
        answer = self.platform.ask(f"missing 0 {made}")
        return {i for first, last in answer["missing"] for i in range(first, last + 1)}


@pytest.mark.skipif(IS_INSTRUMENTED, reason="the shim is made for the plain program")
def test_invariant_1_the_gateway_is_killed_at_every_kind_of_call_on_its_directory(made, tmp_path, storage):
    """Invariants 1, 3, 4: before any write, fsync, rename or removal; the first calls of a life each in turn, later ones at random."""
    random = chance("calls")
    plant = Plant(made, tmp_path, storage)
    plant.source.ask("run 0 3000")
    n_first = 8 * ROUNDS // 12
    for i in range(n_first + ROUNDS * 2):
        plant.run_until_killed_at(i + 1 if i < n_first else random.randint(1, 120))
    stats = plant.finish()
    assert stats["ooo"] == 0, stats
    assert plant.source.stats()["accepted"] > 0


@pytest.mark.parametrize("is_kept", [True, False], ids=["persistent session", "clean session"])
def test_invariants_1_2_4_and_5_gateway_and_platform_are_killed_at_random_moments(made, tmp_path, storage, is_kept):
    """Invariants 1, 2, 4, 5: each of the two, or both, wherever they are."""
    random = chance(f"both {is_kept}")
    plant = Plant(made, tmp_path, storage, is_kept)
    plant.source.ask("run 0 3000")
    plant.start()
    for i in range(2 * ROUNDS):
        if i % 8 == 0:
            plant.check_books()
        who = random.choice(("gateway", "platform", "both"))
        # Progress of the source is the clock here: so a round is short on any machine, and always does something.
        seen, more = plant.source.stats()["made"], random.randint(1, 400)
        wait_until(lambda seen=seen, more=more: plant.source.stats()["made"] >= seen + more, "it flows")
        if who != "gateway":
            plant.platform.kill()
        if who != "platform":
            assert plant.gateway.stop(signal.SIGKILL) == -signal.SIGKILL
            plant.n_kills += 1
            plant.start()
        if who != "gateway":
            plant.platform.start()
            plant.n_platform_kills += 1
    stats = plant.finish()
    assert stats["before_connect"] == 0, stats
    if is_kept:
        assert stats["ooo"] == 0, stats


def test_invariants_3_and_4_only_the_platform_is_killed(made, tmp_path, storage):
    """Invariants 3, 4: at most what was in flight comes twice, and the order is kept."""
    random = chance("platform")
    plant = Plant(made, tmp_path, storage)
    plant.source.ask("run 0 3000")
    plant.start()
    for _ in range(max(1, ROUNDS // 12)):  # the gateway takes its time between attempts
        seen, more = plant.platform.stats()["uniq"], random.randint(1, 300)
        wait_until(lambda seen=seen, more=more: plant.platform.stats()["uniq"] >= seen + more, "it flows")
        plant.kill_platform()
    stats = plant.finish()
    assert stats["ooo"] == 0, stats


def rejected(directory):
    """seq of each value in the rejected file; a line that a kill has torn is none."""
    found = set()
    for path in directory.glob("rejected.jsonl*"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                found |= {item["values"]["seq"] for items in entry["payload"].values() for item in items}
    return found


@pytest.mark.skipif(IS_INSTRUMENTED, reason="the shim is made for the plain program")
def test_invariant_1_what_is_rejected_leaves_the_storage_only_when_its_line_is_on_the_disk(made, tmp_path, storage):
    """Invariants 1, 2: killed before any call on the directory, writing and syncing of the rejected file among them; one device's data are refused."""
    random = chance("rejected")
    plant = Plant(made, tmp_path, storage)
    plant.platform.ask('puback 0x99 "dev00003":')
    plant.source.ask("run 0 1000")
    for _ in range(ROUNDS):
        plant.run_until_killed_at(random.randint(1, 80))
    plant.faults.heal()
    plant.start()
    plant.source.ask("stop")
    wait_until(lambda: plant.source.stats()["inflight"] == 0, "everything is accepted or given up")
    stats = plant.source.stats()
    accepted = set(range(stats["made"])) - set(stats["unaccepted"])
    data = plant.gateway.directory / "data"
    wait_until(lambda: not (accepted & plant.missing(stats["made"])) - rejected(data), "all that was accepted is delivered or in the rejected file", 60)
    assert rejected(data) and not rejected(data) - plant.missing(stats["made"]), "only what was refused"
    assert plant.gateway.stop() == 0, plant.gateway.log_text()[-2000:]
