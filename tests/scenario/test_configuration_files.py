# SPDX-License-Identifier: Apache-2.0
"""What the gateway itself does with its configuration files: the older YAML form, and identities of connectors."""
import json

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector


def as_yaml(value, indent=0):
    """Block style, texts in double quotes; what people wrote by hand for the older gateway."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"\n{pad}{key}:{as_yaml(item, indent + 1)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"\n{pad}-{as_yaml(item, indent + 1)}" for item in value)
    return " " + json.dumps(value)


def to_yaml(path):
    conf = json.loads(path.read_text())
    path.with_suffix(".yaml").write_text("# by hand" + as_yaml(conf) + "\n")
    path.unlink()
    return conf


def plant(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    return platform, broker, gateway


def deliver(platform, broker, gateway, value):
    gateway.start()
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": value})
    platform.wait_for("a", seq=value)
    assert gateway.stop() == 0
    gateway.log_path.unlink()


def test_an_old_installation_in_yaml_delivers_and_is_json_from_then_on(made):
    platform, broker, gateway = plant(made)
    files = {name: gateway.directory / name for name in ("tb_gateway.json", "plant.json")}
    confs = {name: to_yaml(path) for name, path in files.items()}
    deliver(platform, broker, gateway, 1)
    written = {name: json.loads(path.read_text()) for name, path in files.items()}
    assert written["tb_gateway.json"] == confs["tb_gateway.json"]
    assert written["plant.json"].pop("id")
    assert written["plant.json"] == confs["plant.json"]
    before = {name: path.read_bytes() for name, path in files.items()}
    for path in files.values():
        path.with_suffix(".yaml").unlink()
    deliver(platform, broker, gateway, 2)
    assert {name: path.read_bytes() for name, path in files.items()} == before


@pytest.mark.parametrize("known", [None, "0b1c"])
def test_a_connector_keeps_its_id_over_restarts(made, known):
    platform, broker, gateway = plant(made)
    path = gateway.directory / "plant.json"
    conf = json.loads(path.read_text()) | ({"id": known} if known else {})
    path.write_text(json.dumps(conf))
    deliver(platform, broker, gateway, 1)
    first = json.loads(path.read_text())
    assert first == conf | {"id": known or first["id"]}
    assert list(first)[:len(conf)] == list(conf)
    deliver(platform, broker, gateway, 2)
    assert json.loads(path.read_text()) == first
