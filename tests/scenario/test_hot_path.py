# SPDX-License-Identifier: Apache-2.0
"""Invariant 13: what a message costs in allocations, locks, clock readings and system calls, counted, not timed."""
import json
import os
import signal

import pytest
from plant import BUILD, Gateway, Platform, Sim, mqtt_connector, mqtt_mapping, wait_until

COUNTED = BUILD / "tests" / "peers" / "counted.so"


class Source(Sim):
    """The broker and its devices in one, which makes messages when told to."""

    def __init__(self):
        super().__init__("mqtt-source", "--devices", 10, "--window", 1000)


@pytest.mark.skipif("build-asan" in str(BUILD), reason="the sanitizer has its own allocator")
def test_a_message_costs_no_allocation_lock_clock_reading_or_system_call_of_its_own(made, tmp_path):
    counts = tmp_path / "counts"
    keys = ("seq", "sent", "temperature", "humidity", "pressure", "voltage", "current", "rpm", "running", "state")
    platform, source = made(Platform, "--shared-seq"), made(Source)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(source.port, [mqtt_mapping(keys=keys)])},
                   env={"LD_PRELOAD": str(COUNTED), "IOTGW_COUNTS": str(counts)})
    gateway.wait_log("Plant: connected")

    def run(n, total):
        source.ask(f"run {n}")
        wait_until(lambda: platform.stats()["uniq"] >= total, f"{total} values", limit_s=60)
        lines = len(counts.read_text().splitlines()) if counts.exists() else 0
        os.kill(gateway.process.pid, signal.SIGUSR2)
        wait_until(lambda: counts.exists() and len(counts.read_text().splitlines()) > lines, "the counts")
        return json.loads(counts.read_text().splitlines()[-1])

    n = 200000
    before, after = run(20000, 20000), run(n, 20000 + n)
    each = {what: (after[what] - before[what]) / n for what in after}
    # Whatever a message had of its own would show as 1 at least; what a burst costs depends on how fast the source is here.
    assert all(value < 0.5 for value in each.values()), each
    # Spans and messages to the platform come from pools: not even a message to the platform costs an allocation.
    assert each["allocations"] < 0.1, each
