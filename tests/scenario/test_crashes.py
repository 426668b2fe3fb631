# SPDX-License-Identifier: Apache-2.0
"""A connector whose code ends the program: it begins anew, loses nothing, and is held back when it does so again (P4, invariant 14)."""
import json
import re
import signal
import subprocess
import time

import pytest
from plant import BUILD, Broker, Gateway, IS_INSTRUMENTED, Platform, mqtt_connector, wait_until

pytestmark = pytest.mark.skipif(IS_INSTRUMENTED, reason="a sanitizer has handlers of its own")


ENDS = (signal.SIGABRT, signal.SIGILL, signal.SIGSEGV)


def rows(first, count):
    return [{"ts": 1700000000000 + i, "seq": i, "temperature": i} for i in range(first, first + count)]


def plant(made, tmp_path, names=("Bad",), storage=None, start=True, env=None):
    platform, broker = made(Platform), made(Broker)
    folder = tmp_path / "data"
    session = {"clientId": "gw", "cleanStart": False, "cleanSession": False, "sessionExpiryInterval": 3600}
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port, **session)}, start=False,
                   storage=storage or {"type": "file", "data_folder_path": str(folder)},
                   env={"IOTGW_MODULE_DIR": str(BUILD / "tests" / "modules"), **(env or {})})
    main = json.loads((gateway.directory / "tb_gateway.json").read_text())
    for name in names:
        (gateway.directory / f"{name}.json").write_text(json.dumps({"trigger": str(tmp_path / f"{name}.trigger"), "id": name}))
        main["connectors"].append({"type": "crasher", "name": name, "configuration": f"{name}.json"})
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(main))
    if start:
        gateway.start()
        gateway.wait_log("gateway is running")
    return platform, broker, gateway, folder


def fall(gateway, tmp_path, folder, how="null", times=1):
    """The module's trigger stays for so many faults; they are within milliseconds of each other, so one more may come."""
    size = len(gateway.log_text())
    (tmp_path / "Bad.trigger").write_text(how)
    wait_until(lambda: len(records(folder)) >= times, "it is recorded")
    (tmp_path / "Bad.trigger").unlink()
    wait_until(lambda: "gateway is running" in gateway.log_text()[size:], "it runs again")


def records(folder):
    return [json.loads(line) for line in (folder / "crashes.jsonl").read_text().splitlines() if line.strip()]


def status(gateway):
    done = subprocess.run([BUILD / "iotgw", "--config", gateway.directory, "status", "--json"], capture_output=True, text=True, timeout=20)
    return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.mark.parametrize("how", ["null", "library", "jump", "divide", "stack", "abort"])
def test_every_kind_of_fault_names_the_connector(made, tmp_path, how):
    _, _, gateway, folder = plant(made, tmp_path, names=("Good", "Bad", "Other"))
    fall(gateway, tmp_path, folder, how)
    record = records(folder)[0]
    assert (record["connector"], record["type"]) == ("Bad", "crasher")
    assert gateway.process.poll() is None  # the same process
    gateway.wait_log("a fault has ended the program, which has begun anew")
    assert gateway.stop() in (0, *(-number for number in ENDS))  # it may have been about to fall once more


def test_a_stop_that_comes_while_a_fault_replaces_the_program_is_obeyed(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path)
    for _ in range(10):
        size = len(gateway.log_text())
        (tmp_path / "Bad.trigger").write_text("null")
        while "begins anew" not in gateway.log_text()[size:]:  # said just before; with a pause the moment would be missed
            assert gateway.process.poll() is None
        assert gateway.stop() in (0, *(-number for number in ENDS))  # it may fall once more while it stops
        (tmp_path / "Bad.trigger").unlink()
        (folder / "crashes.jsonl").unlink()  # so that it is not held back
        size = len(gateway.log_text())
        gateway.start()
        wait_until(lambda: "gateway is running" in gateway.log_text()[size:], "it runs again")


def test_nothing_acknowledged_is_lost(made, tmp_path):
    platform, broker, gateway, folder = plant(made, tmp_path)
    gateway.wait_log("Plant: connected")
    platform.ask("down")
    broker.publish_lines("sensors/a/data", rows(0, 1000))
    fall(gateway, tmp_path, folder)
    broker.publish_lines("sensors/a/data", rows(1000, 1000))
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] >= 2000, f"all values; have {platform.stats()}")
    assert platform.stats()["uniq"] == 2000


def test_one_that_does_it_twice_is_held_back_while_the_others_run(made, tmp_path):
    platform, broker, gateway, folder = plant(made, tmp_path, names=("Good", "Bad"))
    (tmp_path / "Bad.trigger").write_text("null")  # it stays: the connector falls again after the first restart, and then never more
    gateway.wait_log("Bad: connector is held back")
    broker.publish("sensors/a/data", {"seq": 1, "temperature": 2})
    platform.wait_for("a", seq=1)
    assert [r.get("connector") for r in records(folder)] == ["Bad", "Bad"]
    connectors = {c["name"]: c for c in wait_until(lambda: status(gateway), "it answers")["connectors"]}
    assert connectors["Bad"]["state"] == "failed" and "held back until" in connectors["Bad"]["error"]
    assert connectors["Good"]["state"] == connectors["Plant"]["state"] == "running"

    # Another configuration starts it at once.
    (tmp_path / "Bad.trigger").unlink()
    (gateway.directory / "Bad.json").write_text(json.dumps({"trigger": str(tmp_path / "none"), "id": "Bad"}))
    wait_until(lambda: {c["name"]: c["state"] for c in status(gateway)["connectors"]}["Bad"] == "running", "it is started")


def test_after_its_pause_it_is_tried_again_and_the_pause_grows(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path, start=False)
    folder.mkdir()
    now = int(time.time())
    (folder / "crashes.jsonl").write_text("".join(json.dumps({"at": now - ago, "signal": 11, "connector": "Bad"}) + "\n" for ago in (70, 57)))
    (tmp_path / "Bad.trigger").write_text("abort")
    gateway.start()
    gateway.wait_log("Bad: connector is held back")
    # The pause is over: it is started, and falls.
    wait_until(lambda: gateway.log_text().count("Bad: connector is held back") == 2, "it is held back again")
    assert "3 times in a row" in gateway.log_text()
    until = re.findall(r"held back until \S+ (\d\d):(\d\d):(\d\d) UTC", gateway.log_text())
    moments = [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in until]
    assert 110 < (moments[-1] - (records(folder)[-1]["at"] % 86400)) % 86400 <= 120


def test_a_gateway_of_nothing_else_runs_on_without_it(made, tmp_path):
    platform, _, gateway, folder = plant(made, tmp_path, start=False)
    main = json.loads((gateway.directory / "tb_gateway.json").read_text())
    main["connectors"] = [c for c in main["connectors"] if c["name"] == "Bad"]
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(main))
    (tmp_path / "Bad.trigger").write_text("null")
    gateway.start()
    gateway.wait_log("Bad: connector is held back")
    wait_until(lambda: platform.ask("logins")["logins"], "it is logged in")
    assert gateway.process.poll() is None


def test_after_too_many_faults_the_service_manager_decides(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path, names=("A", "B", "C"), start=False)
    for name in "ABC":
        (tmp_path / f"{name}.trigger").write_text("null")
    gateway.start()
    assert gateway.process.wait(30) == -11
    assert len(records(folder)) == 6 and len({r["connector"] for r in records(folder)}) == 3  # each of them twice
    for name in "ABC":
        (tmp_path / f"{name}.trigger").unlink()
    gateway.start()  # what the service manager does
    gateway.wait_log("Plant: connected")
    assert gateway.process.poll() is None


def test_a_fault_while_it_stops_does_not_begin_it_anew(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path)
    (tmp_path / "Bad.trigger").write_text("stop")
    assert gateway.stop() == -6
    assert [r["connector"] for r in records(folder)] == ["Bad"]


def test_on_request_it_ends_with_the_signal(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path, env={"IOTGW_ON_CRASH": "end"})
    (tmp_path / "Bad.trigger").write_text("null")
    assert gateway.process.wait(20) == -11
    assert records(folder)[0]["connector"] == "Bad"


def test_a_fault_that_comes_from_outside_ends_it(made, tmp_path):
    _, _, gateway, folder = plant(made, tmp_path)
    gateway.process.send_signal(6)
    assert gateway.process.wait(20) == -6
    assert records(folder) == []


def test_memory_storage_has_its_record_beside_the_configuration(made, tmp_path):
    _, _, gateway, _ = plant(made, tmp_path, storage={"type": "memory"})
    (tmp_path / "Bad.trigger").write_text("null")
    wait_until(lambda: [r for r in records(gateway.directory) if r.get("connector") == "Bad"], "it is recorded")
