#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge of the golden vectors: feeds them to `iotgw convert` and compares.

    run.py [--iotgw PATH] [--kind CONNECTOR]... [--show N] [FILE.jsonl ...]

Protocol: every vector is written as one line of JSON {"id","connector","direction","config","input"} to the standard
input of `iotgw convert --vectors`; it answers one line of JSON per vector, in any order, holding "id" and the same members
as the vector's "expect" (messages, requests, response, publish, sent, value, ...). A vector that cannot be served gets {"id":…,"unsupported":"why"}.
"connector" is a connector's type, or `expressions` (expression language) or `core` (report strategies, platform API).
Vectors of extensions also carry "entry" (the connector's entry) and "extensions":{"type","paths"}: directories made for
the run, to be searched like `extensions.paths`.

Comparison: object order never matters; numbers compare by value (1e-9 relative), two integers exactly, booleans are not numbers; an expected "*" stands for
any non-empty text. `messages` are first put together per device, in order, so how data is cut into messages does not matter;
"ts" must be absent where it is absent in the vector (time of reception). Payloads and bodies that are JSON text compare as JSON; of `http` only
the members that the vector has are compared; of a CALLERROR frame in `responses` only the first three elements.
Exit status: 0 when all pass; the last line is 'N passed, M failed'.
"""
import argparse, json, math, pathlib, shutil, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent


def same(want, got):
    if want == "*" and isinstance(got, str):
        return got != ""
    if isinstance(want, bool) or isinstance(got, bool) or want is None or got is None:
        return want is got or (type(want) is type(got) and want == got)
    if isinstance(want, int) and isinstance(got, int):
        return want == got
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        return want == got or math.isclose(want, got, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(want, dict) and isinstance(got, dict):
        if set(want) != set(got):
            return False
        return all(same(want[k], got[k]) for k in want)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(same, want, got))
    return type(want) is type(got) and want == got


def joined(messages):
    """Messages per device: telemetry entries of equal time merged while keys do not collide, attributes merged."""
    devices = {}
    for m in messages:
        d = devices.setdefault(m.get("device"), {"profile": m.get("profile"), "telemetry": [], "attributes": {}})
        for entry in m.get("telemetry") or []:
            last = d["telemetry"][-1] if d["telemetry"] else None
            if last and last.get("ts") == entry.get("ts") and not set(last["values"]) & set(entry["values"]):
                last["values"] = {**last["values"], **entry["values"]}
            else:
                d["telemetry"].append({**entry, "values": dict(entry["values"])})
        d["attributes"].update(m.get("attributes") or {})
    return devices


def as_json(x):
    """A payload given as JSON text counts as its value."""
    if isinstance(x, str):
        try:
            return json.loads(x)
        except ValueError:
            return x
    return x


def publishes(items):
    out = []
    for p in items:
        p = {**p, "payload": as_json(p.get("payload"))}
        if isinstance(p["payload"], dict) and "data" in p["payload"]:
            p["payload"] = {**p["payload"], "data": as_json(p["payload"]["data"])}
        out.append(p)
    return out


def as_document(x):
    """As as_json, but a JSON text that is itself a string stays as it was sent: "on" with quotes is not on without."""
    value = as_json(x)
    return x if isinstance(value, str) else value


def requests(items):
    return [{k: as_document(x) if k in ("payload", "body") else x for k, x in r.items()} if isinstance(r, dict) else r for r in items]


def frames(items):
    return [f[:3] if isinstance(f, list) and f[:1] == [4] else f for f in items]


def values(sent):
    """One row for each value: how values due at one instant are grouped into messages is free."""
    for e in sent:
        for entry in e.get("telemetry") or []:
            for k, v in entry["values"].items():
                yield e["at_ms"], [e.get("device"), e.get("profile"), "telemetry", entry.get("ts"), k, v]
        for k, v in (e.get("attributes") or {}).items():
            yield e["at_ms"], [e.get("device"), e.get("profile"), "attribute", None, k, v]


def sent_matches(want, got, tol):
    rest = list(values(got))
    for at, row in values(want):
        near = [g for g in rest if abs(g[0] - at) <= tol and same(row, g[1])]
        if not near:
            return False
        rest.remove(min(near, key=lambda g: abs(g[0] - at)))
    return not rest


def split_matches(want, got):
    """Properties of a split: limits of each message, and the union of what they carry."""
    pubs = got.get("publish", [])
    if len(pubs) > want.get("messages_max", 10**9):
        return False
    each, points, attributes = want.get("each", {}), [], {}
    for p in pubs:
        text = p["payload"] if isinstance(p["payload"], str) else json.dumps(p["payload"], separators=(",", ":"), ensure_ascii=False)
        if any(k in each and p.get(k) != each[k] for k in ("topic", "qos")) or len(text.encode()) > each.get("payload_bytes_max", 10**9):
            return False
        n = 0
        doc = json.loads(text)
        for entries in [doc] if p["topic"].startswith("v1/devices/me/") else doc.values():
            if isinstance(entries, dict):
                attributes.update(entries)
                n += len(entries)
            else:
                for e in entries:
                    values = e.get("values", e) if "ts" in e or "values" in e else e
                    points += [[e.get("ts"), k, v] for k, v in values.items()]
                    n += len(values)
        if n > each.get("datapoints_max", 10**9):
            return False
    union = want.get("union")
    if isinstance(union, dict):
        return same(union, attributes)
    key = lambda p: json.dumps(p, sort_keys=True)
    return union is None or same(sorted(union, key=key), sorted(points, key=key))


def passes(vector, got):
    want = vector["expect"]
    if "sent" in want:
        return sent_matches(want["sent"], got.get("sent", []), want.get("tol_ms", 0))
    if "each" in want:
        return split_matches(want, got)
    names_only = "gateway_version" in json.dumps(vector["input"])
    for k, w in want.items():
        g = got.get(k)
        if k == "messages":
            ok = same(joined(w), joined(g or []))
        elif k == "publish":
            w, g = publishes(w), publishes(g or [])
            ok = [sorted(p["payload"]) if isinstance(p["payload"], dict) else 0 for p in w] == [sorted(p["payload"]) if isinstance(p["payload"], dict) else 0 for p in g] if names_only else same(w, g)
        elif k == "value" and vector["input"].get("mode") == "body":
            ok = same(as_document(w), as_document(g))
        elif k == "requests":
            ok = same(requests(w), requests(g or []))
        elif k == "responses":
            ok = same(frames(w), frames(g or []))
        elif k == "http":
            ok = isinstance(g, dict) and same({m: as_document(x) for m, x in w.items()}, {m: as_document(x) for m, x in g.items() if m in w})
        elif k == "response" and w == {"error": "*"}:
            ok = isinstance(g, dict) and isinstance(g.get("error"), str) and g["error"] != ""
        else:
            ok = same(w, g) if k in got else w in ([], {}, None)
        if not ok:
            return False
    # What the vector does not expect must not happen: data sent up or requests sent to a device are never extra.
    return all(k in want or not got.get(k) for k in ("messages", "requests"))


def judge(vector, got):
    """A malformed answer is a failed vector, not a failed run."""
    try:
        return got is not None and "unsupported" not in got and passes(vector, got)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def question(vector, work):
    """What is sent to the program; the files of an extension are put where a gateway looks for them."""
    out = {k: vector[k] for k in ("id", "connector", "direction", "config", "entry", "input") if k in vector}
    if "extensions" in vector:
        ext = vector["extensions"]
        root = pathlib.Path(work) / vector["id"]
        (root / ext["type"]).mkdir(parents=True)
        for name in ext["files"]:
            shutil.copy(HERE / "extensions" / name, root / ext["type"] / name)
        out["extensions"] = {"type": ext["type"], "paths": [str(root)]}
    return json.dumps(out, ensure_ascii=False) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--iotgw", default="iotgw", help="the program under test")
    ap.add_argument("--kind", action="append", help="only vectors of this connector")
    ap.add_argument("--show", type=int, default=5, help="failures printed in full per file")
    ap.add_argument("files", nargs="*", type=pathlib.Path)
    a = ap.parse_args()
    total = [0, 0]
    for f in a.files or sorted(HERE.glob("*.jsonl")):
        vectors = [json.loads(l) for l in f.read_text().splitlines() if l.strip()]
        vectors = [v for v in vectors if not a.kind or v["connector"] in a.kind]
        if not vectors:
            continue
        try:
            with tempfile.TemporaryDirectory() as work:
                lines = "".join(question(v, work) for v in vectors)
                run = subprocess.run([a.iotgw, "convert", "--vectors"], input=lines.encode(), stdout=subprocess.PIPE, timeout=120)
            answers = {}
            for line in run.stdout.decode("utf-8", "replace").splitlines():
                o = json.loads(line)
                answers[o["id"]] = o
            note = f" (exit {run.returncode})" if run.returncode else ""
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as e:
            answers, note = {}, f" ({type(e).__name__}: {e})"
        failed = []
        for v in vectors:
            got = answers.get(v["id"])
            if not judge(v, got):
                failed.append((v, got))
        total[0] += len(vectors) - len(failed)
        total[1] += len(failed)
        print(f"{f.stem:18} {len(vectors) - len(failed):4} of {len(vectors):4}{note}")
        for v, got in failed[: a.show]:
            print(f"  {v['id']}: {v.get('note', '')}\n    input {json.dumps(v['input'], ensure_ascii=False)[:400]}\n    want  {json.dumps(v['expect'], ensure_ascii=False)[:600]}\n    got   {json.dumps(got, ensure_ascii=False)[:600]}")
    print(f"{total[0]} passed, {total[1]} failed")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
