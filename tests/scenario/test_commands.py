# SPDX-License-Identifier: Apache-2.0
"""The program as a person uses it: run and check on right and wrong configurations."""
import json
import pathlib
import shutil
import subprocess

import pytest
from plant import BUILD, LIMIT_S, Broker, Gateway, Platform, mqtt_connector

PEER = pathlib.Path(__file__).resolve().parents[3] / "shared" / "configs" / "peer"


def iotgw(*args, **kwargs):
    return subprocess.run([str(BUILD / "iotgw"), *map(str, args)], capture_output=True, text=True, timeout=LIMIT_S, check=False, **kwargs)


def test_wrong_connector_is_marked_failed_and_the_right_one_works(made):
    platform, broker = made(Platform), made(Broker)
    wrong = mqtt_connector(broker.port)
    del wrong["broker"]["host"]
    gateway = made(Gateway, platform.port, {"Wrong": wrong, "Right": mqtt_connector(broker.port)})
    gateway.wait_log("Right: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    platform.wait_for("a", seq=1)
    assert "wrong.json:" in gateway.log_text() and "host" in gateway.log_text()


def test_run_ends_with_78_when_nothing_can_be_started(made, tmp_path):
    (tmp_path / "tb_gateway.json").write_text('{"thingsboard": {"host": }')
    run = iotgw("run", "-c", tmp_path)
    assert run.returncode == 78
    assert "tb_gateway.json:1:26:" in run.stderr


def test_check_names_place_value_and_nearest_key(made, tmp_path):
    gateway = made(Gateway, 1883, {"Plant": mqtt_connector(1884)}, start=False)
    path = gateway.directory / "plant.json"
    conf = json.loads(path.read_text())
    conf["mapping"][0]["topicFliter"] = conf["mapping"][0].pop("topicFilter")
    path.write_text(json.dumps(conf, indent=2))
    run = iotgw("check", "-c", gateway.directory)
    text = run.stdout + run.stderr
    assert run.returncode == 78
    assert 'plant.json:' in text and "mapping[0]" in text and "topicFliter" in text and "topicFilter" in text


def test_check_of_a_right_configuration_is_quiet(made):
    gateway = made(Gateway, 1883, {"Plant": mqtt_connector(1884)}, start=False)
    run = iotgw("check", "-c", gateway.directory)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not PEER.is_dir(), reason="the peer's example files are not here")
def test_the_peers_files_are_accepted_unmodified(tmp_path):
    for name in ("tb_gateway.json", "logs.json", "list.json", "mqtt.json"):
        shutil.copy(PEER / name, tmp_path)
    main = json.loads((tmp_path / "tb_gateway.json").read_text())
    run = iotgw("check", "-c", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("logs.json", "mqtt.json", "tb_gateway.json"):
        run = iotgw("check", tmp_path / name)
        assert run.returncode == 0, run.stdout + run.stderr
    main["connectors"] = [{"type": "mqtt", "name": "MQTT Broker Connector", "configuration": "mqtt.json"}]
    (tmp_path / "tb_gateway.json").write_text(json.dumps(main))
    run = iotgw("check", "-c", tmp_path)
    assert run.returncode == 0 and ": no errors" in run.stdout, run.stdout + run.stderr


def test_convert_is_a_dry_run_for_people(made):
    gateway = made(Gateway, 1883, {"Plant MQTT": mqtt_connector(1884)}, start=False)
    run = iotgw("-c", gateway.directory, "convert", "Plant MQTT", "--json", input='{"topic":"sensors/boiler/data","payload":{"temperature":21.5,"seq":3}}')
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["messages"] == [{"device": "boiler", "profile": "sensor", "telemetry": [{"values": {"seq": 3, "temperature": 21.5}}]}]


def test_schema_is_json_and_knows_the_keys():
    schema = json.loads(iotgw("schema", "mqtt").stdout)
    assert "mapping" in schema["$defs"]["mqtt"]["properties"]


def test_usage_errors_exit_64_and_name_the_nearest():
    run = iotgw("chekc")
    assert run.returncode == 64 and "check" in run.stderr
    assert iotgw("check", "--no-such-option").returncode == 64
    assert iotgw("version").stdout.startswith("iotgw ")
    assert "run" in iotgw("--help").stdout


def test_service_manager_is_told(made, tmp_path):
    import socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(LIMIT_S)
        platform, broker = made(Platform), made(Broker)
        gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        while b"READY=1" not in notify.recv(4096):
            pass
        gateway.process.terminate()
        while b"STOPPING=1" not in notify.recv(4096):
            pass
        assert gateway.process.wait(LIMIT_S) == 0


def test_no_colour_and_no_escape_sequences_when_not_on_a_terminal(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    assert "\033" not in gateway.log_text()
