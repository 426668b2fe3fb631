# SPDX-License-Identifier: Apache-2.0
"""Another storage while the gateway runs: what waits in the former one is delivered first, also after a restart."""
import json
import subprocess

import pytest

from plant import BUILD, Broker, Gateway, Platform, mqtt_connector, mqtt_mapping, wait_until


@pytest.fixture
def plant(tmp_path):
    platform, broker = Platform(), Broker(tmp_path / "broker")
    gateway = Gateway(tmp_path / "gateway", platform.port, {"Plant": mqtt_connector(broker.port, [mqtt_mapping(keys=("seq", "temperature", "state"))])}, thingsboard={"remoteConfiguration": True},
                      storage={"type": "file", "data_folder_path": str(tmp_path / "a"), "max_file_count": 100, "max_records_per_file": 1000})
    gateway.wait_log("connected to the platform")
    gateway.wait_log("Plant: connected")
    yield platform, broker, gateway, tmp_path
    gateway.close()
    broker.close()
    platform.close()


def storage_status(gateway):
    done = subprocess.run([str(BUILD / "iotgw"), "status", "--json", "-c", str(gateway.directory)], capture_output=True, text=True, env=gateway.env)
    return json.loads(done.stdout)["storage"]


def section(gateway):
    return json.loads((gateway.directory / "tb_gateway.json").read_text())["storage"]


def change(gateway, **storage):
    path = gateway.directory / "tb_gateway.json"
    main = json.loads(path.read_text())
    main["storage"].update(storage)
    path.write_text(json.dumps(main, indent=2))


def rows(first, last):
    return [{"ts": 1700000000000 + i, "seq": i, "temperature": 1.5} for i in range(first, last)]


def complete(platform, n):
    wait_until(lambda: platform.stats()["uniq"] >= n, f"{n} values; have {platform.stats()}")
    stats = platform.stats()
    assert stats["ooo"] == 0, stats


def test_a_backlog_is_delivered_before_what_the_new_storage_holds(plant):
    platform, broker, gateway, tmp_path = plant
    platform.ask("down")
    broker.publish_lines("sensors/d/data", rows(0, 500))
    change(gateway, data_folder_path=str(tmp_path / "b"))
    gateway.wait_log("the storage has changed")
    assert (gateway.directory / "former_storage.json").exists()
    broker.publish_lines("sensors/d/data", rows(500, 1000))
    platform.ask("up")
    complete(platform, 1000)
    gateway.wait_log("a former storage is delivered and closed")
    wait_until(lambda: not (gateway.directory / "former_storage.json").exists(), "the note is gone")
    broker.publish_lines("sensors/d/data", rows(1000, 1100))
    complete(platform, 1100)
    assert platform.stats()["dup"] == 0


def test_after_a_restart_the_former_storage_is_delivered_too(plant):
    platform, broker, gateway, tmp_path = plant
    platform.ask("down")
    broker.publish_lines("sensors/d/data", rows(0, 500))
    change(gateway, data_folder_path=str(tmp_path / "b"))
    gateway.wait_log("the storage has changed")
    broker.publish_lines("sensors/d/data", rows(500, 1000))
    gateway.stop()
    gateway.start()
    platform.ask("up")
    complete(platform, 1000)
    gateway.wait_log("a former storage is delivered and closed")
    wait_until(lambda: not (gateway.directory / "former_storage.json").exists(), "the note is gone")


def test_a_storage_that_cannot_be_opened_changes_nothing(plant):
    platform, broker, gateway, tmp_path = plant
    (tmp_path / "no").write_text("a file is no directory")
    before = section(gateway)
    value = {**before, "data_folder_path": str(tmp_path / "no" / "x"), "max_file_count": 7}
    platform.ask("publish v1/devices/me/attributes " + json.dumps({"storage_configuration": value}))

    def errors():
        return (platform.ask("values")["attributes"].get("configuration_errors") or {}).get("value", {}).get("storage_configuration")
    wait_until(errors, "the error is told")
    assert [error["path"] for error in errors()] == ["data_folder_path"]
    assert section(gateway) == before
    broker.publish_lines("sensors/d/data", rows(0, 100))
    complete(platform, 100)


def test_the_platform_changes_the_storage_under_load(plant):
    platform, broker, gateway, tmp_path = plant
    value = {"type": "memory", "max_records_count": 100000, "ts": 1}
    broker.publish_lines("sensors/d/data", rows(0, 2000))
    platform.ask("publish v1/devices/me/attributes " + json.dumps({"storage_configuration": value}))
    broker.publish_lines("sensors/d/data", rows(2000, 4000))
    wait_until(lambda: section(gateway).get("type") == "memory", "the change is saved")
    complete(platform, 4000)
    assert platform.stats()["dup"] == 0


def test_books_and_rejected_file_are_where_the_storage_is(plant):
    platform, broker, gateway, tmp_path = plant
    broker.publish_lines("sensors/d/data", rows(0, 100))
    complete(platform, 100)
    change(gateway, data_folder_path=str(tmp_path / "b"))
    gateway.wait_log("the storage has changed")
    wait_until((tmp_path / "b" / "ledger.json").exists, "the books are in the new directory")
    platform.ask("puback 0x99 POISON")
    broker.publish_lines("sensors/d/data", [{"ts": 1700000001000, "seq": 1, "state": "POISON"}])
    wait_until((tmp_path / "b" / "rejected.jsonl").exists, "the rejected file is in the new directory")
    wait_until(lambda: "POISON" in (tmp_path / "b" / "rejected.jsonl").read_text(), "what was refused is in it")
    gateway.stop()
    devices = json.loads((tmp_path / "b" / "ledger.json").read_text())["devices"]
    assert [row[:2] for row in devices] == [["d", 202]], devices  # what the former storage brought is in the books too
    gateway.start()
    wait_until(lambda: gateway.log_text().count("Plant: connected") == 2, "the source is connected again")
    broker.publish_lines("sensors/d/data", rows(2000, 2100))
    complete(platform, 200)


def test_other_limits_of_the_storage_hold_at_once(plant):
    platform, broker, gateway, tmp_path = plant
    platform.ask("down")
    change(gateway, max_file_count=1, max_records_per_file=100, overflow="drop_newest")
    gateway.wait_log("the storage has other limits")
    broker.publish_lines("sensors/d/data", rows(0, 500))
    wait_until(lambda: (status := storage_status(gateway))["droppedEvents"] + status["events"] == 500, "what is too much is dropped")
    kept = storage_status(gateway)["events"]
    assert 0 < kept < 500  # room is decided for a burst as a whole
    change(gateway, max_file_count=100, max_records_per_file=1000)
    wait_until(lambda: gateway.log_text().count("the storage has other limits") == 2, "the limits are raised")
    broker.publish_lines("sensors/d/data", rows(500, 600))
    platform.ask("up")
    wait_until(lambda: platform.stats()["uniq"] >= kept + 100, "what was kept, and what came later")
    assert "takes effect at the next start" not in gateway.log_text()


def test_what_memory_holds_behind_a_former_storage_is_delivered_at_a_stop_or_named(plant):
    platform, broker, gateway, tmp_path = plant
    platform.ask("down")
    broker.publish_lines("sensors/d/data", rows(0, 500))
    change(gateway, type="memory")
    gateway.wait_log("the storage has changed")
    broker.publish_lines("sensors/d/data", rows(500, 600))
    wait_until(lambda: storage_status(gateway)["events"] == 600, "all of it waits")
    gateway.stop()
    assert "what memory holds ends with the program" in gateway.log_text() and "events=100" in gateway.log_text()
    gateway.start()
    platform.ask("up")
    complete(platform, 500)  # the former one, by its note
    wait_until(lambda: not (gateway.directory / "former_storage.json").exists(), "the note is gone")
    assert platform.stats()["dup"] == 0 and "taken over" not in gateway.log_text()
