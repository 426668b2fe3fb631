#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures gateways side by side: one JSON line a run on standard output, progress on standard error. See --help."""
import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "sim")]

import config  # noqa: E402
import report  # noqa: E402
from process import Gateway  # noqa: E402
from steer import Simulator, SimError  # noqa: E402

PEER = "thingsboard-gateway==3.8.5"
N_VALUES = len(config.KEYS)
LIMITS = {"maxPayloadSize": 65536, "maxInflightMessages": 1000,
          "rateLimits": {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""},
          "gatewayRateLimits": {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""}}


LIMITED = dict(LIMITS, gatewayRateLimits={"messages": "1000:1", "telemetryMessages": "", "telemetryDataPoints": ""})


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """Platform, source and gateway of one run, in a directory of its own."""

    def __init__(self, args, command, devices, storage="memory", window=1000, limits=None, has_requests=False):
        self.work = tempfile.TemporaryDirectory(prefix="iotgw-bench-")
        self.command = command
        self.storage = storage
        self.has_requests = has_requests
        self.gateway = None
        self.is_clean = True
        sim = args.build / "iotgw-sim"
        self.platform = Simulator(sim, "platform", "--shared-seq", "--limits", json.dumps(limits or LIMITS))
        try:
            self.source = Simulator(sim, "mqtt-source", "--devices", max(devices, 1), "--window", window)
        except BaseException:
            self.platform.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.gateway:
            self.gateway.stop()
        self.source.close()
        self.platform.close()
        self.work.cleanup()

    def start(self):
        directory = pathlib.Path(self.work.name) / "config"
        directory.mkdir(exist_ok=True)
        config.write(directory, self.platform.port, self.source.port, self.storage, self.has_requests, self.is_clean)
        self.gateway = Gateway(self.command, directory, pathlib.Path(self.work.name))

    def subscribed(self, seconds=60):
        if not self.source.event("subscribed", seconds):
            raise SimError(f"the gateway did not subscribe; its last lines:\n{self.gateway.last_words()}")

    def arrived(self, n, patience_s):
        """Waits until n different messages are there, or nothing has come for patience_s. The platform's counts."""
        last, since = -1, time.monotonic()
        while True:
            event = self.platform.event("arrived", 1)
            if event:
                return event
            if not self.gateway.is_running():
                raise SimError(f"the gateway ended; its last lines:\n{self.gateway.last_words()}")
            stats = self.platform.ask("stats")
            if stats["uniq"] != last:
                last, since = stats["uniq"], time.monotonic()
            if time.monotonic() - since > patience_s:
                return stats

    def warm_up(self, devices):
        """One message of each device, which is not counted."""
        self.platform.ask(f"await {devices}")
        self.source.ask(f"run {devices}")
        stats = self.arrived(devices, 60)
        if stats["uniq"] < devices or not self.source.event("done", 30):
            raise SimError(f"warm-up: {stats['uniq']} of {devices} arrived; the gateway's last lines:\n{self.gateway.last_words()}")
        time.sleep(0.5)
        self.platform.ask("reset")
        return self.source.ask("stats")

    def run(self, n, rate=0, patience_s=20):
        """n messages; figures of the flow."""
        before = self.source.ask("stats")
        self.platform.ask(f"await {n}")
        cpu, fine = self.gateway.cpu_s(), self.gateway.cpu_fine_s()
        self.source.ask(f"run {n} {rate}")
        stats = self.arrived(n, patience_s)
        cpu, fine = self.gateway.cpu_s() - cpu, self.gateway.cpu_fine_s() - fine
        rss = self.gateway.peak_rss_kib()
        self.source.event("done", 10)
        time.sleep(0.5)  # a duplicate would come now
        after, end = self.source.ask("stats"), self.platform.ask("stats")
        accepted = after["accepted"] - before["accepted"]
        seconds = max((stats["last_us"] - after["start_us"]) / 1e6, 1e-6)
        return figures(n, seconds, cpu if cpu >= 1 else fine, rss, accepted, end)


def figures(n, seconds, cpu, rss, accepted, stats, **more):
    values = stats["uniq"] * N_VALUES
    return {"messages": n, "seconds": round(seconds, 3), "msgs_per_s": round(stats["uniq"] / seconds),
            "values_per_s": round(values / seconds), "cpu_s": round(cpu, 3),
            "cpu_s_per_Mvalue": round(cpu / values * 1e6, 4) if values else None, "cpu_percent": round(100 * cpu / seconds, 3),
            "peak_rss_kib": rss, "lat_p50_ms": stats["lat_p50_ms"], "lat_p99_ms": stats["lat_p99_ms"], "accepted": accepted,
            "uniq": stats["uniq"], "lost": accepted - stats["uniq"], "dup": stats["dup"], "ooo": stats["ooo"],
            "same_ts": stats["same_ts"], "before_connect": stats["before_connect"], "packets": stats["telemetry"], **more}


# --- scenarios ------------------------------------------------------------------------------------------------------------

def flow(args, gateway, devices, storage="memory", delay_ms=0, window=1000):
    n = args.messages or (20000 if gateway == "peer" else 1000000)
    with Bench(args, args.gateways[gateway], devices, storage, window) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(devices)
        bench.platform.ask(f"delay {delay_ms}")
        result = bench.run(n)
    return {"devices": devices, "storage": storage, "window": window, "ack_delay_ms": delay_ms, **result}


def latency(args, gateway, rate, seconds=20):
    with Bench(args, args.gateways[gateway], 100) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(100)
        result = bench.run(rate * seconds, rate)
    return {"devices": 100, "rate": rate, **result}


def devices(args, gateway, n, idle_s=20):
    with Bench(args, args.gateways[gateway], n) as bench:
        bench.start()
        bench.subscribed()
        time.sleep(2)
        cpu, fine, alone_kib = bench.gateway.cpu_s(), bench.gateway.cpu_fine_s(), bench.gateway.rss_kib()
        result = {}
        if n:
            bench.platform.ask(f"await {n}")
            bench.source.ask(f"run {n} 200")
            stats = bench.arrived(n, 60)
            after = bench.source.ask("stats")
            cpu, fine = bench.gateway.cpu_s() - cpu, bench.gateway.cpu_fine_s() - fine
            seconds = (stats["last_us"] - after["start_us"]) / 1e6
            result = figures(n, seconds, cpu if cpu >= 1 else fine, bench.gateway.peak_rss_kib(), after["accepted"], stats)
        time.sleep(2)
        fine, since = bench.gateway.cpu_fine_s(), time.monotonic()
        time.sleep(idle_s)
        idle = (bench.gateway.cpu_fine_s() - fine) / (time.monotonic() - since)
        rss_kib = bench.gateway.rss_kib()
        return {"devices": n, **result, "rss_kib": rss_kib, "peak_rss_kib": bench.gateway.peak_rss_kib(),
                "bytes_per_device": round((rss_kib - alone_kib) * 1024 / n) if n else None, "idle_cpu_percent": round(100 * idle, 4)}


def announced(args, gateway, n=10000, limits=None):
    """The platform comes back: until it knows all devices again."""
    with Bench(args, args.gateways[gateway], n, limits=limits) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(n)
        before, fine = bench.platform.ask("stats")["sessions"], bench.gateway.cpu_fine_s()
        bench.platform.ask("down")
        bench.platform.ask("reset")
        bench.platform.ask("up")
        if not wait_for(lambda: bench.platform.ask("stats")["connects"] >= n, 120):
            raise SimError(f"not all devices are announced: {bench.platform.ask('stats')}")
        now_us = time.monotonic_ns() // 1000
        cpu, stats = bench.gateway.cpu_fine_s() - fine, bench.platform.ask("stats")
        return {"devices": n, "announced_ms": round((now_us - stats["connected_us"]) / 1000), "cpu_us_per_device": round(cpu / n * 1e6, 2),
                "sessions": stats["sessions"] - before, "peak_rss_kib": bench.gateway.peak_rss_kib()}


def startup(args, gateway):
    with Bench(args, args.gateways[gateway], 10) as bench:
        bench.source.ask("run 100000 1000")  # waits until somebody subscribes
        bench.start()
        bench.subscribed()
        until = time.monotonic() + 30
        while not (stats := bench.platform.ask("stats"))["first_us"]:
            if time.monotonic() > until:
                raise SimError("no telemetry in 30 s")
            time.sleep(0.01)
        started = bench.gateway.started_us
        return {"connect_ms": round((stats["connected_us"] - started) / 1000, 1),
                "first_telemetry_ms": round((stats["first_us"] - started) / 1000, 1)}


def accepted(bench, n, rate, patience_s):
    """n messages while the platform is away; gives how many the gateway acknowledged, and its CPU seconds for them."""
    before, fine = bench.source.ask("stats")["accepted"], bench.gateway.cpu_fine_s()
    bench.source.ask(f"run {n} {rate}")
    if not bench.source.event("done", patience_s):
        bench.source.ask("stop")
    return bench.source.ask("stats")["accepted"] - before, bench.gateway.cpu_fine_s() - fine


def drained(bench, n, patience_s):
    bench.platform.ask(f"await {n}")
    bench.arrived(n, patience_s)
    time.sleep(0.5)  # a duplicate would come now
    return bench.platform.ask("stats")


def losses(args, gateway, storage, is_clean=True, rate=0, wait_s=0, n_kills=1):
    """Half of the messages, kill -9, a start, the other half, perhaps once more: all without the platform."""
    n = args.messages or 10000
    with Bench(args, args.gateways[gateway], 10, storage) as bench:
        bench.is_clean = is_clean
        bench.start()
        bench.subscribed()
        bench.warm_up(10)
        bench.platform.ask("down")
        n_accepted = 0
        for life in range(n_kills + 1):
            part, _ = accepted(bench, n // 2 if life < 2 else 0, rate, 60 + (n / rate if rate else 0)) if life < 2 else (0, 0)
            n_accepted += part
            if life == n_kills:
                break
            time.sleep(wait_s)
            bench.gateway.kill()
            bench.start()
            bench.subscribed()
        bench.platform.ask("up")
        stats = drained(bench, n_accepted, 60)
        return {"storage": storage, "clean_session": is_clean, "rate": rate, "wait_s": wait_s, "kills": n_kills, "messages": n,
                "accepted": n_accepted, "uniq": stats["uniq"], "lost": n_accepted - stats["uniq"], "dup": stats["dup"],
                "ooo": stats["ooo"], "peak_rss_kib": bench.gateway.peak_rss_kib()}


def drain(args, gateway, storage):
    """An outage, and what waits is delivered."""
    n = args.messages or (20000 if gateway == "peer" else 90000 if storage == "memory" else 900000)
    with Bench(args, args.gateways[gateway], 10, storage) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(10)
        bench.platform.ask("down")
        n_accepted, store_cpu = accepted(bench, n, 0, 120)
        rss = bench.gateway.peak_rss_kib()
        time.sleep(5)
        fine = bench.gateway.cpu_fine_s()
        up_us = time.monotonic_ns() // 1000
        bench.platform.ask("up")
        stats = drained(bench, n_accepted, 60)
        cpu = bench.gateway.cpu_fine_s() - fine
        seconds = max((stats["last_us"] - stats["first_us"]) / 1e6, 1e-6)
        is_whole = n_accepted and stats["uniq"] > 0.99 * n_accepted  # the pace of a few that were not lost says nothing
        return {"storage": storage, "messages": n, "accepted": n_accepted, "uniq": stats["uniq"],
                "reconnect_ms": round((stats["connected_us"] - up_us) / 1000), "events_per_s": round(stats["uniq"] / seconds) if is_whole else None,
                "store_us": round(1e6 * store_cpu / max(n_accepted, 1), 3), "drain_us": round(1e6 * cpu / n_accepted, 3) if is_whole else None,
                "lost": n_accepted - stats["uniq"], "dup": stats["dup"], "ooo": stats["ooo"],
                "peak_rss_kib": bench.gateway.peak_rss_kib(), "store_rss_kib": rss}


def recovery(args, gateway, storage="file-large", n_bytes=10**9):
    """A gigabyte waits in the storage: from exec until the sources are served again, the platform being away."""
    with Bench(args, args.gateways[gateway], 10, storage) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(10)
        bench.platform.ask("down")
        n_accepted = log_bytes = 0
        while log_bytes < n_bytes and (not args.messages or n_accepted < args.messages):
            n_now, _ = accepted(bench, 200000, 0, 120)
            if not n_now:
                raise SimError(f"nothing more is taken at {log_bytes} bytes")
            n_accepted += n_now
            log_bytes = sum(path.stat().st_size for path in pathlib.Path(bench.work.name, "data").glob("**/*") if path.is_file())
        bench.gateway.kill()
        bench.start()
        bench.subscribed(120)
        ready_ms = (time.monotonic_ns() // 1000 - bench.gateway.started_us) / 1000
        rss = bench.gateway.peak_rss_kib()
        bench.platform.ask("up")
        stats = drained(bench, n_accepted, 60)
        return {"storage": storage, "accepted": n_accepted, "log_bytes": log_bytes, "recovery_ms": round(ready_ms, 1), "peak_rss_kib": rss,
                "uniq": stats["uniq"], "lost": n_accepted - stats["uniq"], "dup": stats["dup"], "ooo": stats["ooo"]}


def overload(args, gateway, storage="memory", seconds=60):
    """The platform takes some hundred messages a second, the source gives what it is let."""
    with Bench(args, args.gateways[gateway], 100, storage, limits=dict(LIMITS, maxInflightMessages=2)) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(100)
        before = bench.source.ask("stats")["accepted"]
        bench.platform.ask("delay 500")
        bench.source.ask("run 0")
        since, samples = time.monotonic(), []
        while time.monotonic() - since < (args.seconds or seconds):
            time.sleep(1)
            samples.append(bench.gateway.rss_kib())
        bench.source.ask("stop")
        held = bench.source.ask("stats")
        arrived = bench.platform.ask("stats")["uniq"]
        bench.platform.ask("delay 0")
        if not bench.source.event("done", 30):
            raise SimError("what was under way was never acknowledged")
        accepted = bench.source.ask("stats")["accepted"] - before
        bench.platform.ask(f"await {accepted}")
        end = bench.arrived(accepted, 10)
        third = max(len(samples) // 3, 1)
        result = figures(accepted, time.monotonic() - since, bench.gateway.cpu_s(), bench.gateway.peak_rss_kib(), accepted, end)
        return {"devices": 100, "storage": storage, **result, "arrived_under_load": arrived, "held_back": held["inflight"],
                "rss_kib_first_third": max(samples[:third]), "rss_kib_last_third": max(samples[-third:])}


def requests(args, gateway, rate, seconds=20, devices=100):
    """Requests of the platform to devices that answer at once."""
    n = rate * (args.seconds or seconds)
    with Bench(args, args.gateways[gateway], devices, has_requests=True) as bench:
        bench.start()
        bench.subscribed()
        bench.warm_up(devices)
        bench.platform.ask(f"requests {rate} {rate} {devices}")  # not counted
        if not bench.platform.event("answered", 30):
            raise SimError(f"warm-up: {bench.platform.ask('requests')}; its last lines:\n{bench.gateway.last_words()}")
        cpu = bench.gateway.cpu_fine_s()
        bench.platform.ask(f"requests {n} {rate} {devices}")
        stats = bench.platform.event("answered", n / rate + 30) or bench.platform.ask("requests")
        cpu = bench.gateway.cpu_fine_s() - cpu
        return {"devices": devices, "rate": rate, "requests": n, "rpc_per_s": round(stats["answered"] / stats["seconds"]),
                "unanswered": n - stats["answered"], "twice": stats["twice"], "failed": stats["failed"],
                **{key: stats.get(key) for key in ("lat_p50_ms", "lat_p99_ms", "lat_max_ms")},
                "cpu_us_per_rpc": round(cpu / n * 1e6, 1), "peak_rss_kib": bench.gateway.peak_rss_kib()}


def polls(args, gateway, servers=500, hung=0, seconds=30):
    """HTTP servers that are polled each second."""
    seconds = args.seconds or seconds
    with tempfile.TemporaryDirectory(prefix="iotgw-bench-") as work, \
            Simulator(args.build / "iotgw-sim", "platform", "--limits", json.dumps(LIMITS)) as platform, \
            Simulator(args.build / "iotgw-sim", "web-servers", "--servers", servers + hung, "--hung", hung) as web:
        directory = pathlib.Path(work) / "config"
        directory.mkdir()
        config.write_request(directory, platform.port, web.ports)
        with Gateway(args.gateways[gateway], directory, pathlib.Path(work)) as process:
            time.sleep(5)
            before, cpu, fine, since = web.ask("reset"), process.cpu_s(), process.cpu_fine_s(), time.monotonic()
            time.sleep(seconds)
            after, cpu, fine = web.ask("stats"), process.cpu_s() - cpu, process.cpu_fine_s() - fine
            since, cpu = time.monotonic() - since, cpu if cpu >= 1 else fine
            n = after["requests"] - before["requests"]
            return {"devices": servers, "hung": hung, "polls": n, "polls_per_s": round(n / since, 1),
                    "least": after["least"] - before["least"], "most": after["most"] - before["most"], "seconds": round(since, 2),
                    **{key: after[key] for key in ("connections", "off_p50_ms", "off_p99_ms", "off_max_ms")},
                    "cpu_us_per_poll": round(cpu / n * 1e6, 1) if n else None,
                    "cpu_percent": round(100 * cpu / since, 2), "peak_rss_kib": process.peak_rss_kib()}


def posts(args, gateway, storage="file", connections=256, n=300000):
    """HTTP clients that keep their connections; each request is answered when its data is durable."""
    n = args.messages or (n if gateway != "peer" else 10000)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="iotgw-bench-") as work, \
            Simulator(args.build / "iotgw-sim", "platform", "--shared-seq", "--limits", json.dumps(LIMITS)) as platform:
        directory = pathlib.Path(work) / "config"
        directory.mkdir()
        config.write_rest(directory, platform.port, port, storage)
        with Gateway(args.gateways[gateway], directory, pathlib.Path(work)) as process:
            await_port(port, process)
            with Simulator(args.build / "iotgw-sim", "web-clients", "--port", port, "--connections", connections) as clients:
                clients.ask("run 2000")  # not counted
                if not clients.event("done", 60):
                    raise SimError(f"warm-up: {clients.ask('stats')}; its last lines:\n{process.last_words()}")
                wait_for(lambda: platform.ask("stats")["uniq"] >= 2000, 60)
                platform.ask("reset")
                cpu, fine = process.cpu_s(), process.cpu_fine_s()
                clients.ask(f"run {n}")
                stats = clients.event("done", n / 100 + 60) or clients.ask("stats")
                cpu, fine = process.cpu_s() - cpu, process.cpu_fine_s() - fine
                wait_for(lambda: platform.ask("stats")["uniq"] >= stats["answered"], 60)
                there = platform.ask("stats")
                return {"storage": storage, "connections": connections, "requests": stats["answered"], "refused": stats["refused"],
                        "requests_per_s": round(stats["answered"] / stats["seconds"]), "seconds": round(stats["seconds"], 2),
                        **{key: stats[key] for key in ("lat_p50_ms", "lat_p99_ms", "lat_max_ms")},
                        "lost": stats["answered"] - there["uniq"], "dup": there["dup"],
                        "cpu_us_per_request": round((cpu if cpu >= 1 else fine) / n * 1e6, 1), "peak_rss_kib": process.peak_rss_kib()}


def beats(args, gateway, slaves=10, tags=20, period_ms=1000, units=1, delay_ms=0, dead=0, seconds=20):
    """Modbus slaves polled each period; of the dead ones nobody answers."""
    seconds = args.seconds or seconds
    sim = args.build / "iotgw-sim"
    with tempfile.TemporaryDirectory(prefix="iotgw-bench-") as work, \
            Simulator(sim, "platform", "--limits", json.dumps(LIMITS)) as platform, \
            Simulator(sim, "modbus", "--ports", slaves // units + dead, "--units", units, "--pattern", "bench", "--period", period_ms,
                      "--delay", delay_ms) as plant:
        for i in range(dead):
            plant.ask(f"fault drop 100 port={slaves // units + i}")
        directory = pathlib.Path(work) / "config"
        directory.mkdir()
        config.write_modbus(directory, platform.port, plant.ports or [plant.port], units, tags, period_ms)
        with Gateway(args.gateways[gateway], directory, pathlib.Path(work)) as process:
            if not wait_for(lambda: plant.ask("stats")["units_polled"] >= slaves, 60):
                raise SimError(f"not all are polled: {plant.ask('stats')}; its last lines:\n{process.last_words()}")
            wait_for(lambda: platform.ask("stats")["values"] >= slaves * tags, 60)
            time.sleep(max(3, 2 * period_ms / 1000))
            platform.ask("reset")
            plant.ask("reset")
            cpu, fine, since = process.cpu_s(), process.cpu_fine_s(), time.monotonic()
            time.sleep(seconds)
            polls, there = plant.ask("stats"), platform.ask("stats")
            cpu, fine, since = process.cpu_s() - cpu, process.cpu_fine_s() - fine, time.monotonic() - since
            cpu, wanted = cpu if cpu >= 1 else fine, slaves * since * 1000 / period_ms
            # lost: a poll of each may be under way at the end
            return {"devices": slaves, "tags": tags, "period_ms": period_ms, "dead": dead, "polls": polls["polls"],
                    "lost": max(0, polls["polls"] - there["uniq"] - slaves - dead), "dup": there["dup"], "ooo": there["ooo"],
                    "polls_percent": round(100 * polls["polls"] / wanted, 2), "requests_per_poll": polls["requests_per_poll"],
                    "values_per_s": round(there["values"] / since), "values_percent": round(100 * there["values"] / (wanted * tags), 2),
                    "cpu_s_per_Mvalue": round(cpu / there["values"] * 1e6, 3) if there["values"] else None,
                    "cpu_percent": round(100 * cpu / since, 2), **{key: polls[key] for key in ("jitter_p50_ms", "jitter_p99_ms", "jitter_max_ms")},
                    "drift_percent": round(100 * abs(polls["interval_mean_ms"] - period_ms) / period_ms, 4),
                    "peak_rss_kib": process.peak_rss_kib()}


def await_port(port, process, seconds=60):
    def is_open():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    if not wait_for(is_open, seconds):
        raise SimError(f"the gateway does not listen; its last lines:\n{process.last_words()}")


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


SCENARIOS = {  # name: (what it shows, function, arguments)
    "a": ("throughput, 10 devices, memory", flow, {"devices": 10}),
    "a-1000": ("throughput, 1000 devices, memory", flow, {"devices": 1000}),
    "a-file": ("throughput, 10 devices, file", flow, {"devices": 10, "storage": "file"}),
    "a-sqlite": ("throughput, 10 devices, sqlite", flow, {"devices": 10, "storage": "sqlite"}),
    "a-delay": ("throughput, 10 devices, memory, the platform acknowledges after 50 ms", flow, {"devices": 10, "delay_ms": 50}),
    "a100": ("latency at 100 messages a second", latency, {"rate": 100}),
    "a500": ("latency at 500 messages a second", latency, {"rate": 500}),
    "c0": ("memory and idle load, no device", devices, {"n": 0}),
    "c1000": ("memory and idle load, 1000 devices", devices, {"n": 1000}),
    "c10000": ("memory and idle load, 10 000 devices", devices, {"n": 10000}),
    "d": ("start to CONNECT and to the first telemetry", startup, {}),
    "rpc": ("2000 requests a second to 100 devices", requests, {"rate": 2000}),
    "e-file": ("kill -9 with the platform away, file", losses, {"storage": "file"}),
    "e-file-persistent": ("the same, persistent source session", losses, {"storage": "file", "is_clean": False}),
    "e-file-twice": ("the same, killed twice, at 300 messages a second", losses, {"storage": "file", "rate": 300, "n_kills": 2}),
    "e-sqlite": ("kill -9 with the platform away, sqlite", losses, {"storage": "sqlite"}),
    "e-sqlite-persistent": ("the same, persistent source session", losses, {"storage": "sqlite", "is_clean": False}),
    "e-sqlite-late": ("the same, 5 s before the kill", losses, {"storage": "sqlite", "wait_s": 5}),
    "f-memory": ("drain after an outage, memory", drain, {"storage": "memory"}),
    "f-file": ("drain after an outage, file", drain, {"storage": "file"}),
    "f-sqlite": ("drain after an outage, sqlite", drain, {"storage": "sqlite"}),
    "recovery": ("start with a gigabyte in the storage, file", recovery, {}),
    "recovery-sqlite": ("the same, sqlite", recovery, {"storage": "sqlite-large"}),
    "reconnect": ("10 000 devices are announced again after an outage", announced, {}),
    "reconnect-limited": ("the same, 1000 messages of devices a second", announced, {"limits": LIMITED}),
    "request": ("500 HTTP servers polled each second", polls, {}),
    "request-hung": ("the same, and one server that never answers", polls, {"hung": 1}),
    "rest": ("256 connections that POST ten values at a time, file", posts, {}),
    "rest-memory": ("the same, memory", posts, {"storage": "memory"}),
    "b": ("10 Modbus slaves of 20 tags each second", beats, {}),
    "b-100": ("100 slaves of 20 tags each second, five on a connection", beats, {"slaves": 100, "units": 5}),
    "b-fast": ("10 slaves of 20 tags ten times a second", beats, {"period_ms": 100}),
    "b-100-fast": ("100 slaves of 20 tags ten times a second, five on a connection", beats,
                   {"slaves": 100, "units": 5, "period_ms": 100}),
    "b-wide": ("one slave of 100 tags each second", beats, {"slaves": 1, "tags": 100}),
    "b-slow": ("10 slaves of 20 tags each second that take 10 ms to answer", beats, {"delay_ms": 10}),
    "b-99": ("99 slaves of 20 tags each second, each with a connection of its own", beats, {"slaves": 99}),
    "b-dead": ("the same, and one that never answers", beats, {"slaves": 99, "dead": 1}),
    "b-2000": ("2000 slaves of 20 tags each second, ten on a connection", beats, {"slaves": 2000, "units": 10}),
    "overload": ("the source is faster than the platform for a minute", overload, {}),
    "overload-file": ("the same, file, up to 100 000 events", overload, {"storage": "file-small"}),
}
MQTT = ["a", "a-1000", "a-delay", "a100", "a500", "c0", "c1000", "c10000", "d", "rpc", "reconnect", "reconnect-limited", "overload"]
STORE = ["a", "a-file", "a-sqlite", "e-file", "e-file-persistent", "e-file-twice", "e-sqlite", "e-sqlite-persistent", "e-sqlite-late",
         "f-memory", "f-file", "f-sqlite", "recovery", "recovery-sqlite", "overload", "overload-file"]
MODBUS = ["b", "b-100", "b-fast", "b-100-fast", "b-wide", "b-slow", "b-99", "b-dead", "b-2000"]
GROUPS = {"mqtt": MQTT, "store": STORE, "modbus": MODBUS}
SLOW_FOR_PEER = {"b-2000",  # overloads it for good
                 "c10000", "reconnect", "reconnect-limited",  # ten minutes for 10 000 devices
                 "recovery", "recovery-sqlite"}  # cannot be asked of it


SMOKE = [  # scenario, messages, seconds, CPU seconds per million values at most: three times the goal, for busy machines
    ("a", 100000, None, 3 * 0.6), ("e-file", 5000, None, None), ("b-fast", None, 5, 3 * 2.5)]


def smoke(args):
    """Short and judged: exit code 1 when a limit is broken."""
    broken = []
    for name, args.messages, args.seconds, limit in SMOKE:
        try:
            result = run_one(args, name, "iotgw")
        except SimError as error:
            broken.append(f"{name}: {error}")
            continue
        must = ("lost", "ooo") if name.startswith("e") else ("lost", "ooo", "dup")  # what was under way at a kill comes again
        broken += [f"{name}: {key} is {result[key]}, must be 0" for key in must if result[key]]
        if limit and (result["cpu_s_per_Mvalue"] or limit + 1) > limit:
            broken.append(f"{name}: cpu_s_per_Mvalue is {result['cpu_s_per_Mvalue']}, must be at most {limit}")
    for text in broken:
        say(f"smoke: {text}")
    return 1 if broken else 0


def run_one(args, scenario, gateway):
    what, function, arguments = SCENARIOS[scenario]
    say(f"{scenario}: {what}: {gateway}")
    result = {"scenario": scenario, "gateway": gateway, **function(args, gateway, **arguments)}
    print(json.dumps(result), flush=True)
    return result


def peer_command(args):
    """The peer's command line: IOTGW_PEER names its program or a Python that has it; or an environment of our own."""
    program = os.environ.get("IOTGW_PEER")
    if args.no_peer or args.names == ["smoke"] or args.report or args.only == ["iotgw"]:
        return None
    if not program:
        directory = ROOT / ".venv" / "peer"
        program = str(directory / "bin" / "thingsboard-gateway")
        if not pathlib.Path(program).exists():
            say(f"installing {PEER} into {directory.relative_to(ROOT)}")
            try:
                venv.create(directory, with_pip=True)
                subprocess.run([directory / "bin" / "pip", "install", "-q", PEER], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                say(f"the peer cannot be installed ({error}): iotgw is measured alone")
                return None
    module = " -m thingsboard_gateway.tb_gateway" if pathlib.Path(program).name.startswith("python") else ""
    return f"env TB_GW_CONFIG_DIR={{config}} {program}{module}"


def parse():
    parser = argparse.ArgumentParser(
        prog="bench", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="scenarios:\n" + "\n".join(f"  {name:10} {what}" for name, (what, *_) in SCENARIOS.items()) +
        "\n  mqtt       everything without storage on a disk (the default)\n  store      storage: a over each kind, e, f, recovery, overload\n  modbus     b\n  smoke      short, with limits: exit code 1 when one is broken")
    parser.add_argument("names", nargs="*", metavar="SCENARIO", default=["mqtt"])
    parser.add_argument("--gateway", action="append", default=[], metavar="NAME=COMMAND",
                        help="a gateway to measure; {config} becomes its directory. Default: iotgw and the peer")
    parser.add_argument("--only", action="append", metavar="NAME", help="measure only this one of the gateways")
    parser.add_argument("--no-peer", action="store_true",
                        help=f"do not measure the peer ({PEER}), which is installed into .venv/peer unless IOTGW_PEER names it")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each scenario (3)")
    parser.add_argument("--messages", type=int, metavar="N", help="messages of scenario a (1 000 000; the peer 20 000)")
    parser.add_argument("--seconds", type=int, metavar="N", help="length of the overload (60)")
    parser.add_argument("--slow", action="store_true", help="also what takes the peer many minutes: " + ", ".join(sorted(SLOW_FOR_PEER)))
    parser.add_argument("--save", type=pathlib.Path, metavar="FILE", help="append the results to FILE")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="no run: write the tables of bench/README.md from FILE")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build")))
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.gateways = {"iotgw": f"{args.build / 'iotgw'} run -c {{config}}"}
    if command := peer_command(args):
        args.gateways["peer"] = command
    for text in args.gateway:
        name, _, command = text.partition("=")
        if "{config}" not in command:
            parser.error(f"--gateway {text}: NAME=COMMAND with {{config}} in it")
        args.gateways[name] = command
    args.names = [part for name in args.names for part in GROUPS.get(name, [name])]
    for name in args.names:
        if name not in SCENARIOS and name != "smoke":
            parser.error(f"no scenario {name}")
    return args


def main():
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what was started
    if args.report:
        report.write(args.report, HERE / "README.md", SCENARIOS)
        return 0
    if args.names == ["smoke"]:
        return smoke(args)
    n_failed = 0
    for name in args.names:
        for _ in range(args.runs):  # side by side: the gateways take turns
            for gateway in args.only or args.gateways:
                if gateway == "peer" and name in SLOW_FOR_PEER and not args.slow:
                    continue
                try:
                    result = run_one(args, name, gateway)
                except SimError as error:
                    say(f"{name}: {gateway}: {error}")
                    n_failed += 1
                    continue
                if args.save:
                    with open(args.save, "a", encoding="utf-8") as out:
                        out.write(json.dumps(result) + "\n")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
