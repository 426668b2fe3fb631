# SPDX-License-Identifier: Apache-2.0
"""Invariant 13: what a message and a burst cost in allocations, locks, clock readings, system calls and wake-ups, counted, not timed."""
import mmap
import os
import pathlib
import signal
import struct
import time

import pytest
from plant import BUILD, Gateway, Platform, Source, mqtt_connector, mqtt_mapping, wait_until

COUNTED = BUILD / "tests" / "peers" / "counted.so"
COUNTS = ("allocations", "locks", "clocks", "writes", "reads", "waits", "others", "wakes", "looks", "pieces", "groups")
KEYS = ("seq", "sent", "temperature", "humidity", "pressure", "voltage", "current", "rpm", "running", "state")
pytestmark = pytest.mark.skipif("build-asan" in str(BUILD), reason="the sanitizer has its own allocator")


class Plant:
    def __init__(self, made, tmp_path, storage=None):
        path = tmp_path / "counts"
        path.write_bytes(bytes(8 * len(COUNTS)))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        self.storage = pathlib.Path(storage["data_folder_path"]) if storage else None
        self.platform, self.source = made(Platform, "--shared-seq"), made(Source, "--devices", 10, "--window", 1000)
        self.gateway = made(Gateway, self.platform.port, {"Plant": mqtt_connector(self.source.port, [mqtt_mapping(keys=KEYS)])}, storage=storage,
                            env={"LD_PRELOAD": str(COUNTED), "IOTGW_COUNTS": str(path)})
        self.gateway.wait_log("Plant: connected")
        self.n = 0

    def counts(self):
        return dict(zip(COUNTS, struct.unpack_from(f"{len(COUNTS)}Q", self.map)))

    def since(self, before):
        after = self.counts()
        return {what: after[what] - before[what] for what in COUNTS}

    def run(self, n):
        """What n messages cost, as the source happens to send them."""
        before = self.counts()
        self.n += n
        self.source.ask(f"run {n}")
        wait_until(lambda: self.platform.stats()["uniq"] >= self.n, f"{self.n} values", limit_s=60)
        return self.since(before)

    def signal(self, number):
        os.kill(self.gateway.process.pid, number)

    def stands_still(self, look, times=3):
        """What look shows, when it shows the same a few times."""
        seen = []
        while len(seen) < times or len(set(seen[-times:])) > 1:
            time.sleep(0.01)
            seen.append(look())
        return seen[-1]

    def on_the_way(self):
        """Bytes that the source has written and the gateway has not read, as the kernel has them on either side."""
        rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        port = f":{self.source.port:04X}"
        return tuple(sorted(row[4] for row in rows if port in (row[1][-5:], row[2][-5:]) and row[3] == "01"))

    def is_saved(self):
        """The state file says that all is delivered: nothing of an earlier burst is left to be done."""
        return not self.storage or f"acked {self.n * len(KEYS)}\n" in (self.storage / "state").read_text()

    def burst(self):
        """
        What 1000 messages cost that are all there when the gateway looks: it is stopped until they are; and what the platform's answers
        cost, which come when all else is done.
        """
        wait_until(self.is_saved, "the state is saved")
        self.platform.ask("stop-acking")
        self.stands_still(lambda: str(self.counts()))
        self.signal(signal.SIGSTOP)
        before = self.counts()
        self.n += 1000
        self.source.ask("run 1000")
        wait_until(lambda: self.source.stats()["made"] >= self.n, "all are made")
        self.stands_still(self.on_the_way)
        self.signal(signal.SIGCONT)
        wait_until(lambda: self.platform.stats()["uniq"] >= self.n and self.source.stats()["inflight"] == 0, f"{self.n} values")
        self.stands_still(lambda: str(self.counts()))
        data, before = self.since(before), self.counts()
        self.platform.ask("ack")
        wait_until(lambda: self.platform.stats()["withheld"] == 0, "acknowledged")
        wait_until(self.is_saved, "the state is saved")
        self.stands_still(lambda: str(self.counts()))
        return data, self.since(before)


# DESIGN 6: 4 reads and the writing of answers, 3 for the platform, 2 waits.
MEMORY = {"groups": 0, "wakes": 0, "answer_wakes": 0, "calls": 9}
# The store's thread is woken, writes, syncs and wakes back; once more for the acknowledgement, with a state file: at most 50 times a second.
FILE = {"groups": 1, "wakes": 2, "answer_wakes": 1, "calls": 17 + 6}


@pytest.mark.parametrize("storage, table", [(None, MEMORY), ("file", FILE)], ids=["memory", "file"])
def test_invariant_13_a_burst_of_1000_messages_stays_within_its_table_of_calls_and_wake_ups(made, tmp_path, storage, table):
    # one segment for all of it: where one ends in the middle of a burst, that is two commits
    conf = {"type": "file", "data_folder_path": str(tmp_path / "data"), "max_file_count": 10, "max_records_per_file": 100000}
    plant = Plant(made, tmp_path, conf if storage else None)
    plant.run(20000)
    bursts = [plant.burst() for _ in range(int(os.environ.get("IOTGW_BURSTS", 15)))]
    for data, answers in bursts:
        print(data, answers, sep="\n", end="\n\n")

    # What the program decides, in every burst: what one read has brought is one commit, and each thread on its way is woken once.
    for data, answers in bursts:
        assert data["groups"] <= table["groups"] * data["pieces"], data
        assert data["wakes"] <= table["wakes"] * data["pieces"], data
        assert answers["wakes"] <= table["answer_wakes"], answers

    def cheapest(cost):
        """Of the burst that no timer fell into and that neither socket cut in pieces: all that is counted beside a burst makes it dearer."""
        return min(cost({what: data[what] + answers[what] for what in COUNTS}) for data, answers in bursts)

    assert cheapest(lambda one: one["pieces"]) == 1
    assert cheapest(lambda one: one["writes"] + one["reads"] + one["waits"] + one["others"]) <= table["calls"]
    assert cheapest(lambda one: one["looks"]) <= table["wakes"] + table["answer_wakes"] + 4
    assert cheapest(lambda one: one["allocations"]) <= 30  # of a burst, not of a message


def test_invariant_13_a_message_costs_no_allocation_lock_clock_reading_or_system_call_of_its_own(made, tmp_path):
    n, plant = 200000, Plant(made, tmp_path)
    plant.run(20000)
    each = {what: count / n for what, count in plant.run(n).items()}
    # Whatever a message had of its own would show as 1 at least; what a burst costs depends on how fast the source is here.
    assert all(value < 0.5 for value in each.values()), each
    # Spans and messages to the platform come from pools: not even a message to the platform costs an allocation.
    assert each["allocations"] < 0.1, each
