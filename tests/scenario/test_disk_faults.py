# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, fails, hangs or lies, and files that are damaged between two runs (DESIGN 7: invariants 1, 2, 6)."""
import errno
import os
import random as random_module
import signal
import subprocess
import time

import pytest
from faulty import Faults, chance
from plant import BUILD, IS_INSTRUMENTED, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

ROUNDS = int(os.environ.get("IOTGW_KILLS", 12))
STORAGES = {
    "file": {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 100},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/", "size_limit": 8, "max_db_amount": 50},
}
needs_shim = pytest.mark.skipif(IS_INSTRUMENTED, reason="the shim is made for the plain program")


@pytest.fixture(params=STORAGES)
def storage(request):
    return STORAGES[request.param]


class Plant:
    def __init__(self, made, tmp_path, storage, *, has_faults=True, window=300):
        self.platform = made(Platform, "--shared-seq")
        self.source = made(Source, "--devices", 10, "--window", window)
        connector = mqtt_connector(self.source.port, [mqtt_mapping(keys=("seq",))], clientId="disk", cleanStart=False, sessionExpiryInterval=3600)
        self.gateway = made(Gateway, self.platform.port, {"Plant": connector}, storage=storage, start=False)
        self.data = self.gateway.directory.resolve() / "data"
        if has_faults:
            self.faults = Faults(tmp_path / "faults", self.data)
            self.gateway.env.update(self.faults.env())
        self.gateway.start()
        self.gateway.wait_log("Plant: connected")

    def accepted(self):
        return self.source.stats()["accepted"]

    def store(self, n):
        """n messages are on the disk, and the platform does not get them."""
        self.platform.ask("down")
        before = self.accepted()
        self.source.ask(f"run {n}")
        wait_until(lambda: self.accepted() == before + n, f"{n} are accepted")

    def assert_held(self):
        """Sources are held back: everything that the source may send is on its way, and none of it is acknowledged any more."""
        wait_until(lambda: self.source.stats()["inflight"] >= 1, "the source waits")
        before = self.accepted()
        n = self.faults.n_failed
        wait_until(lambda: self.faults.n_failed > n, "it is tried again", 12)  # at least every 5 s
        assert self.accepted() == before

    def finish(self, missing=0):
        """Everything that was accepted is there, but for so much."""
        self.source.ask("stop")
        wait_until(lambda: self.source.stats()["inflight"] == 0, "everything is accepted", 40)
        made = self.source.stats()["made"]
        assert self.accepted() == made
        self.platform.ask("up")
        wait_until(lambda: self.platform.stats()["uniq"] >= made - missing, f"{made} of {self.platform.stats()['uniq']}", 40)
        assert self.platform.ask(f"missing 0 {made}")["n"] <= missing
        assert self.platform.stats()["ooo"] == 0, self.platform.stats()
        assert self.gateway.stop() == 0, self.gateway.log_text()[-2000:]


FAILURES = {
    "full": ({"room": 64 * 1024}, "disk full"),
    "EIO on write": ({"write_errno": errno.EIO}, "disk error"),
    "EIO on fsync": ({"sync_errno": errno.EIO}, "disk error"),
    "ENOSPC on fsync": ({"sync_errno": errno.ENOSPC}, "disk full"),
    "read-only": ({"write_errno": errno.EROFS, "make_errno": errno.EROFS, "sync_errno": errno.EROFS}, "read-only"),
    "quota": ({"write_errno": errno.EDQUOT}, "disk full"),
}


@needs_shim
@pytest.mark.parametrize("what", FAILURES)
def test_invariant_1_a_failing_disk_holds_sources_back_is_named_and_recovers_by_itself(made, tmp_path, storage, what):
    """Invariants 1, 2, 3: what is stored goes on being delivered meanwhile."""
    faults, name = FAILURES[what]
    plant = Plant(made, tmp_path, storage)
    plant.store(500)
    for field, value in faults.items():
        setattr(plant.faults, field, value)
    plant.source.ask("run 0 20000")
    plant.gateway.wait_log("nothing can be stored: sources wait, delivery goes on")
    assert name in plant.gateway.log_text(), plant.gateway.log_text()[-1500:]
    plant.assert_held()
    plant.platform.ask("up")
    wait_until(lambda: plant.platform.stats()["uniq"] >= 500, "what is stored is delivered while the disk fails")
    plant.faults.heal()
    plant.gateway.wait_log("storing works again")
    before = plant.accepted()
    wait_until(lambda: plant.accepted() > before, "acknowledgements go on")
    plant.finish()


@needs_shim
def test_invariant_1_a_disk_that_fails_and_works_again_many_times(made, tmp_path, storage):
    """Invariants 1, 3: another failure each time, some with the end of the process in the midst of it."""
    random = chance("disk")
    plant = Plant(made, tmp_path, storage)
    plant.source.ask("run 0 3000")
    for _ in range(max(1, ROUNDS // 2)):
        for field, value in random.choice(list(FAILURES.values()))[0].items():
            setattr(plant.faults, field, random.randint(0, 20000) if field == "room" else value)
        failed = plant.faults.n_failed
        wait_until(lambda failed=failed: plant.faults.n_failed > failed, "something fails", 12)
        if random.random() < 0.3:
            assert plant.gateway.stop(signal.SIGKILL) == -signal.SIGKILL
            plant.faults.heal()
            plant.gateway.start()
        plant.faults.heal()
        before = plant.accepted()
        wait_until(lambda before=before: plant.accepted() > before, f"it goes on: {plant.gateway.log_text()[-1500:]}")
    plant.finish()


@needs_shim
def test_invariant_1_short_writes_are_continued(made, tmp_path, storage):
    """Invariants 1, 4: the disk takes 100 bytes at a time."""
    plant = Plant(made, tmp_path, storage)
    plant.faults.short_bytes = 100
    plant.source.ask("run 500")
    wait_until(lambda: plant.accepted() == 500, "all are accepted")
    plant.finish()
    assert plant.platform.stats()["dup"] == 0


@needs_shim
def test_invariant_6_a_hung_disk_hangs_nothing_else(made, tmp_path, storage):
    """Invariants 1, 6: fsync does not return. Sources wait, the platform is answered, and stopping takes no longer than it may."""
    plant = Plant(made, tmp_path, storage)
    plant.source.ask("run 100")
    wait_until(lambda: plant.platform.stats()["uniq"] == 100, "it flows")
    plant.faults.is_hung = 1
    plant.source.ask("run 0 2000")
    wait_until(lambda: plant.faults.n_hung >= 1 and plant.source.stats()["inflight"] == 300, f"the disk hangs: {plant.source.stats()}")
    before = plant.accepted()
    plant.platform.ask('publish v1/devices/me/rpc/request/7 {"method":"gateway_ping","params":{}}')
    replies = wait_until(lambda: plant.platform.ask("replies")["replies"], "a command is answered")
    assert "7" in replies[0]["topic"]
    assert plant.accepted() == before
    began = time.monotonic()
    plant.gateway.stop()
    assert time.monotonic() - began < 10 + 2
    assert "the disk does not answer" in plant.gateway.log_text()
    plant.faults.heal()
    plant.gateway.start()
    plant.finish()


@needs_shim
def test_invariant_6_a_slow_disk_slows_sources_and_nothing_else(made, tmp_path, storage):
    """Invariants 1, 3, 4: each fsync takes 100 ms; group commit carries many messages each."""
    plant = Plant(made, tmp_path, storage)
    plant.faults.sync_ms = 100
    syncs = plant.faults.n_syncs
    plant.source.ask("run 3000")
    wait_until(lambda: plant.accepted() == 3000, "all are accepted")
    assert plant.faults.n_syncs - syncs < 3000 / 10
    plant.faults.sync_ms = 0
    plant.finish()
    assert plant.platform.stats()["dup"] == 0


@needs_shim
@pytest.mark.parametrize("end", (signal.SIGTERM, signal.SIGKILL), ids=("stopped", "killed"))
def test_invariant_1_what_waits_in_a_directory_that_has_become_read_only_is_delivered_from_the_start_on(made, tmp_path, storage, end):
    plant = Plant(made, tmp_path, storage)
    plant.store(500)
    plant.gateway.stop(end)
    for field in ("write_errno", "make_errno", "sync_errno"):
        setattr(plant.faults, field, errno.EROFS)
    plant.gateway.start()
    plant.platform.ask("up")
    wait_until(lambda: plant.platform.stats()["uniq"] >= 500, "what is stored is delivered")
    plant.source.ask("run 0 20000")
    plant.gateway.wait_log("nothing can be stored: sources wait, delivery goes on")
    assert "read-only" in plant.gateway.log_text(), plant.gateway.log_text()[-1500:]
    plant.assert_held()
    plant.faults.heal()
    plant.gateway.wait_log("storing works again")
    before = plant.accepted()
    wait_until(lambda: plant.accepted() > before, "acknowledgements go on")
    plant.finish()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named_at_the_start(made, tmp_path):
    """Invariant 1: without a store nothing is acknowledged."""
    data = tmp_path / "readonly"
    data.mkdir(mode=0o555)
    platform, source = made(Platform, "--shared-seq"), made(Source, "--devices", 1, "--window", 10)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(source.port, [mqtt_mapping(keys=("seq",))])},
                   storage={**STORAGES["file"], "data_folder_path": str(data / "data")}, start=False)
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"] if os.geteuid() == 0 else []
    for path in (tmp_path, *tmp_path.parents):
        if path != path.parent and os.stat(path).st_uid == os.geteuid() and path.name.startswith(("pytest-", "popen-", tmp_path.name)):
            os.chmod(path, os.stat(path).st_mode | 0o055)
    os.chmod(gateway.directory, 0o777)
    done = subprocess.run([*drop, str(BUILD / "iotgw"), "run", "-c", str(gateway.directory)], cwd="/", capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "the storage cannot be opened" in done.stderr and str(data / "data") in done.stderr, done.stderr
    assert source.stats()["accepted"] == 0


# --- damage between two runs ---------------------------------------------------------------------------------------------------


def cut(path, random):
    size = path.stat().st_size
    os.truncate(path, random.randint(0, size))


def flip(path, random):
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0")) or 1
    for _ in range(random.randint(1, 5)):
        data[random.randrange(used)] ^= 1 << random.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
def test_invariant_2_segments_damaged_between_runs_cost_only_what_is_damaged(made, tmp_path, damage):
    """Invariants 2, 3: one segment in each round; all the others arrive, and the gateway starts and goes on every time."""
    random = chance(f"damage {damage.__name__}")
    plant = Plant(made, tmp_path, STORAGES["file"], has_faults=False, window=100)
    n_rounds = max(2, ROUNDS // 3)
    for _ in range(n_rounds):
        plant.store(1000)
        assert plant.gateway.stop(signal.SIGKILL) == -signal.SIGKILL
        segments = sorted(plant.data.glob("events-*.log"))
        assert len(segments) >= 5
        damage(random.choice(segments[-4:-1]), random)
        plant.gateway.start()
    plant.finish(missing=n_rounds * 400)
    if damage is flip:
        assert "a part of the storage cannot be used" in plant.gateway.log_text()
        assert list((plant.data / "quarantine").iterdir())


@pytest.mark.parametrize("damage", ["deleted", "garbled", "cut", "older", "empty"])
def test_invariant_4_a_damaged_state_file_repeats_and_loses_nothing(made, tmp_path, damage):
    """Invariants 1, 4: what was delivered may come twice, what was not comes."""
    plant = Plant(made, tmp_path, STORAGES["file"], has_faults=False)
    state = plant.data / "state"
    plant.source.ask("run 300")
    wait_until(lambda: plant.platform.stats()["uniq"] == 300 and state.exists(), "it flows")
    older = state.read_bytes()
    plant.source.ask("run 300")
    wait_until(lambda: plant.platform.stats()["uniq"] == 600, "more of it")
    plant.store(700)
    assert plant.gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    random = random_module.Random(damage)
    if damage == "deleted":
        state.unlink()
    elif damage == "garbled":
        state.write_bytes(bytes(random.randrange(256) for _ in range(500)))
    elif damage == "cut":
        os.truncate(state, state.stat().st_size // 2)
    elif damage == "older":
        state.write_bytes(older)
    else:
        state.write_bytes(b"")
    plant.gateway.start()
    plant.finish()
    assert plant.platform.stats()["dup"] <= 600
