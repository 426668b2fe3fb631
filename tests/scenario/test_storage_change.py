# SPDX-License-Identifier: Apache-2.0
"""Another storage while the gateway runs: what waits in the former one is delivered first, also after a restart."""
import json

import pytest

from plant import Broker, Gateway, Platform, mqtt_connector, wait_until


@pytest.fixture
def plant(tmp_path):
    platform, broker = Platform(), Broker(tmp_path / "broker")
    gateway = Gateway(tmp_path / "gateway", platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={"remoteConfiguration": True},
                      storage={"type": "file", "data_folder_path": str(tmp_path / "a"), "max_file_count": 100, "max_records_per_file": 1000})
    gateway.wait_log("connected to the platform")
    gateway.wait_log("gateway is running")
    yield platform, broker, gateway, tmp_path
    gateway.close()
    broker.close()
    platform.close()


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
    value = {**before, "data_folder_path": str(tmp_path / "no" / "x")}
    platform.ask("publish v1/devices/me/attributes " + json.dumps({"storage_configuration": value}))
    wait_until(lambda: "storage_configuration" in (platform.ask("values")["attributes"].get("configuration_errors") or {}).get("value", {}), "the error is told")
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
