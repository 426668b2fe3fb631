# SPDX-License-Identifier: Apache-2.0
"""What the running gateway says over its socket, and the ledger in it (invariant 2)."""
import json
import subprocess

import plant

FIELDS = ("collected", "delivered", "waiting", "overflow", "age", "rejected", "damaged")


def iotgw(gateway, *args, env=None, limit_s=plant.LIMIT_S):
    """A command of ours to the gateway; without what is preloaded into that one."""
    env = {key: value for key, value in {**gateway.env, **(env or {})}.items() if key != "LD_PRELOAD"}
    return subprocess.run([str(plant.BUILD / "iotgw"), *args, "-c", str(gateway.directory)], capture_output=True, text=True, timeout=limit_s, env=env)


def ask(gateway, *args):
    done = iotgw(gateway, *args, "--json")
    assert done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def assert_balances(row):
    assert row["collected"] == sum(row[k] for k in FIELDS[1:]), row
    assert row["read"] == row["collected"] - row["repeated"] + row["unchanged"] + row["failed"], row
    assert all(v < 1 << 62 for v in row.values()), row


def ledger(gateway):
    """In total; balanced, as each connector's and each device's."""
    status, devices = ask(gateway, "status"), ask(gateway, "status", "--devices")["devices"]
    assert_balances(status["ledger"])
    for part in [*status["connectors"], *devices]:
        if "ledger" in part:
            assert_balances(part["ledger"])
    return status["ledger"]
