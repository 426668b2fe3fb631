# SPDX-License-Identifier: Apache-2.0
"""Tables of bench/README.md from saved results: min / median / max of each figure, and how far apart the gateways are."""
import json
import pathlib
import platform
import statistics

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
FIGURES = {  # field: heading, better is
    "msgs_per_s": ("messages/s", max), "values_per_s": ("values/s", max), "cpu_s_per_Mvalue": ("CPU s per million values", min),
    "cpu_percent": ("CPU %", min), "cpu_s": ("CPU s", min), "lat_p50_ms": ("latency p50 ms", min), "lat_p99_ms": ("latency p99 ms", min),
    "peak_rss_kib": ("peak RSS KiB", min), "rss_kib": ("RSS KiB", min), "idle_cpu_percent": ("idle CPU %", min),
    "connect_ms": ("CONNECT after ms", min), "first_telemetry_ms": ("first telemetry after ms", min),
    "rss_kib_first_third": ("RSS KiB, first third", min), "rss_kib_last_third": ("RSS KiB, last third", min),
    "rpc_per_s": ("answers/s", max), "lat_max_ms": ("longest ms", min), "cpu_us_per_rpc": ("CPU µs a request", min),
    "polls_per_s": ("polls/s", max), "cpu_us_per_poll": ("CPU µs a poll", min), "connections": ("connections opened", min),
    "off_p50_ms": ("off the beat p50 ms", min), "off_p99_ms": ("off the beat p99 ms", min), "off_max_ms": ("longest off the beat ms", min),
    "requests_per_s": ("requests/s", max), "cpu_us_per_request": ("CPU µs a request", min), "refused": ("refused", min),
    "unanswered": ("unanswered", min), "failed": ("failed", min), "twice": ("answered twice", min),
    "polls_percent": ("polls that came, %", max), "values_percent": ("values that arrived, %", max),
    "requests_per_poll": ("requests a poll", min), "jitter_p50_ms": ("jitter p50 ms", min), "jitter_p99_ms": ("jitter p99 ms", min),
    "drift_percent": ("drift of the period %", min),
    "accepted": ("accepted", max), "reconnect_ms": ("reconnect after ms", min), "events_per_s": ("drained events/s", max),
    "store_us": ("store: CPU µs an event", min), "drain_us": ("drain: CPU µs an event", min),
    "announced_ms": ("all announced after ms", min), "cpu_us_per_device": ("CPU µs a device", min), "sessions": ("sessions for it", min),
    "bytes_per_device": ("bytes resident a device", min),
    "recovery_ms": ("serving again after ms", min), "log_bytes": ("bytes in the log", max),
    "lost": ("lost", min), "dup": ("duplicates", min), "ooo": ("out of order", min)}
SHOWN = {"flow": ["msgs_per_s", "cpu_s_per_Mvalue", "peak_rss_kib", "lost", "dup", "ooo"],
         "latency": ["lat_p50_ms", "lat_p99_ms", "cpu_percent", "lost", "dup", "ooo"],
         "devices": ["rss_kib", "bytes_per_device", "idle_cpu_percent", "cpu_s"],
         "announced": ["announced_ms", "cpu_us_per_device", "sessions", "peak_rss_kib"],
         "losses": ["accepted", "lost", "dup", "ooo"],
         "drain": ["reconnect_ms", "events_per_s", "store_us", "drain_us", "peak_rss_kib", "lost", "dup", "ooo"],
         "recovery": ["log_bytes", "recovery_ms", "peak_rss_kib", "lost", "dup", "ooo"],
         "startup": ["connect_ms", "first_telemetry_ms"],
         "requests": ["rpc_per_s", "lat_p50_ms", "lat_p99_ms", "lat_max_ms", "cpu_us_per_rpc", "unanswered", "failed", "twice"],
         "polls": ["polls_per_s", "cpu_us_per_poll", "off_p50_ms", "off_p99_ms", "off_max_ms", "connections", "peak_rss_kib"],
         "beats": ["polls_percent", "values_percent", "requests_per_poll", "cpu_s_per_Mvalue", "cpu_percent", "jitter_p50_ms",
                   "jitter_p99_ms", "drift_percent", "peak_rss_kib"],
         "posts": ["requests_per_s", "cpu_us_per_request", "lat_p50_ms", "lat_p99_ms", "peak_rss_kib", "refused", "lost", "dup"],
         "overload": ["rss_kib_first_third", "rss_kib_last_third", "msgs_per_s", "lost", "dup", "ooo"]}


def text(value):
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.4g}"


def spread(values):
    low, middle, high = min(values), statistics.median(values), max(values)
    return text(middle) if low == high else f"{text(low)} / **{text(middle)}** / {text(high)}"


def ratio(field, ours, theirs):
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    if not ours or not theirs or field in ("lost", "dup", "ooo", "unanswered", "failed", "twice", "refused"):
        return ""
    return f"{text(ours / theirs if FIGURES[field][1] is max else theirs / ours)} ×"


def table(results, scenario, fields):
    runs = {}
    for result in results:
        if result["scenario"] == scenario:
            runs.setdefault(result["gateway"], []).append(result)
    names = sorted(runs, key=lambda name: (name != "iotgw", name))
    if not names:
        return []
    against = "peer" if "peer" in names and "iotgw" in names else None
    lines = ["| | " + " | ".join(f"{name} ({len(runs[name])} runs)" for name in names) + (" | better by |" if against else " |"),
             "|---|" + "---|" * (len(names) + bool(against))]
    for field in fields:
        values = {name: [run[field] for run in runs[name] if run.get(field) is not None] for name in names}
        if not any(values.values()):
            continue
        cells = [spread(values[name]) if values[name] else "–" for name in names]
        if against:
            cells.append(ratio(field, values["iotgw"], values["peer"]) if values["iotgw"] and values["peer"] else "")
        lines.append(f"| {FIGURES[field][0]} | " + " | ".join(cells) + " |")
    return lines


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    n = sum(line.startswith("processor") for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines())
    release = ".".join(platform.release().split(".")[:2])
    return f"{n} × {model}, Linux {release}; load generator, platform stand-in and gateway share the machine."


def sections(text):
    """The tables that stand in the page, by scenario."""
    return {part.partition(":")[0]: f"### {part.rstrip()}" for part in text.split("\n### ")[1:]}


def write(source, readme, scenarios):
    """The tables of what was measured take the place of the old ones; those of other scenarios stay."""
    results = [json.loads(line) for line in source.read_text().splitlines() if line]
    old = readme.read_text() if readme.exists() else f"{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    stands, _, tail = rest.partition(END)
    tables = sections(stands)
    for name, (what, function, _) in scenarios.items():
        body = table(results, name, SHOWN[function.__name__])
        if body:
            tables[name] = "\n".join([f"### {name}: {what}", "", *body])
    lines = [BEGIN, "", f"Machine: {machine()} Figures are min / **median** / max.", ""]
    for name in scenarios:
        if name in tables:
            lines += [tables[name], ""]
    readme.write_text(head + "\n".join(lines + [END]) + tail)
