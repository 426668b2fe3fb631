# SPDX-License-Identifier: Apache-2.0
"""Invariant 13: what a message and a burst cost in allocations, locks, clock readings, system calls and wake-ups, counted, not timed."""
import mmap
import os
import signal
import struct
import time

import pytest
from plant import BUILD, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

COUNTED = BUILD / "tests" / "peers" / "counted.so"
COUNTS = ("allocations", "locks", "clocks", "writes", "reads", "waits", "others", "wakes", "looks")
KEYS = ("seq", "sent", "temperature", "humidity", "pressure", "voltage", "current", "rpm", "running", "state")
pytestmark = pytest.mark.skipif("build-asan" in str(BUILD), reason="the sanitizer has its own allocator")


class Plant:
    def __init__(self, made, tmp_path, storage=None):
        path = tmp_path / "counts"
        path.write_bytes(bytes(8 * len(COUNTS)))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        self.platform, self.source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 1000)
        self.gateway = made(Gateway, self.platform.port, {"Plant": mqtt_connector(self.source.port, [mqtt_mapping(keys=KEYS)])}, storage=storage,
                            env={"LD_PRELOAD": str(COUNTED), "IOTGW_COUNTS": str(path)})
        self.gateway.wait_log("Plant: connected")
        self.n = 0

    def counts(self):
        return dict(zip(COUNTS, struct.unpack_from(f"{len(COUNTS)}Q", self.map)))

    def run(self, n):
        """What n messages cost, as the source happens to send them."""
        before = self.counts()
        self.n += n
        self.source.ask(f"run {n}")
        wait_until(lambda: self.platform.stats()["uniq"] >= self.n, f"{self.n} values", limit_s=60)
        after = self.counts()
        return {what: after[what] - before[what] for what in COUNTS}

    def signal(self, number):
        os.kill(self.gateway.process.pid, number)

    def settled(self):
        """Counts, when they have stood still for a moment."""
        counts = None
        while counts != (counts := self.counts()):
            time.sleep(0.03)
        return counts

    def burst(self):
        """What 1000 messages cost that are all there when the gateway looks: it is stopped until they are. So are the platform's answers."""
        self.platform.ask("stop-acking")
        self.signal(signal.SIGSTOP)
        before = self.counts()
        self.n += 1000
        self.source.ask("run 1000")
        wait_until(lambda: self.source.stats()["made"] >= self.n, "all are made")
        self.signal(signal.SIGCONT)
        wait_until(lambda: self.platform.stats()["uniq"] >= self.n and self.source.stats()["inflight"] == 0, f"{self.n} values")
        self.platform.ask("ack")
        wait_until(lambda: self.platform.stats()["withheld"] == 0, "acknowledged")
        after = self.settled()
        return {what: after[what] - before[what] for what in COUNTS}


# DESIGN 6: 4 reads and the writing of answers, 3 for the platform, 2 waits.
MEMORY = {"calls": 9, "wakes": 0}
# The store's thread is woken, writes, syncs and wakes back; once more for the acknowledgement, with a state file: at most 50 times a second.
FILE = {"calls": 17 + 6, "wakes": 2 + 1}


@pytest.mark.parametrize("storage, table", [(None, MEMORY), ("file", FILE)], ids=["memory", "file"])
def test_invariant_13_a_burst_of_1000_messages_stays_within_its_table_of_calls_and_wake_ups(made, tmp_path, storage, table):
    conf = {"type": "file", "data_folder_path": str(tmp_path / "data"), "max_file_count": 100, "max_records_per_file": 10000}
    plant = Plant(made, tmp_path, conf if storage else None)
    plant.run(20000)
    bursts = [plant.burst() for _ in range(15)]
    print(*bursts, sep="\n")

    def usual(cost):
        """A burst that the machine had no other use for its processors in: a quarter of them are no dearer."""
        return sorted(map(cost, bursts))[len(bursts) // 4]

    assert usual(lambda one: one["writes"] + one["reads"] + one["waits"] + one["others"]) <= table["calls"]
    assert usual(lambda one: one["wakes"]) <= table["wakes"]
    assert usual(lambda one: one["looks"]) <= table["wakes"] + 4
    assert usual(lambda one: one["allocations"]) <= 30  # of a burst, not of a message


def test_invariant_13_a_message_costs_no_allocation_lock_clock_reading_or_system_call_of_its_own(made, tmp_path):
    n, plant = 200000, Plant(made, tmp_path)
    plant.run(20000)
    each = {what: count / n for what, count in plant.run(n).items()}
    # Whatever a message had of its own would show as 1 at least; what a burst costs depends on how fast the source is here.
    assert all(value < 0.5 for value in each.values()), each
    # Spans and messages to the platform come from pools: not even a message to the platform costs an allocation.
    assert each["allocations"] < 0.1, each
