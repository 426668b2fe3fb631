# SPDX-License-Identifier: Apache-2.0
"""The peer's own main file, loggers, device filter and statistics commands, byte for byte, run and do what they say. They are read where
they stand, beside the checkout; without them these tests are skipped."""
import json
import os
import pathlib
import re
import shutil

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until

PEER = pathlib.Path(os.environ.get("IOTGW_PEER_FILES", pathlib.Path(__file__).resolve().parents[3] / "shared" / "configs" / "peer"))
pytestmark = pytest.mark.skipif(not PEER.is_dir(), reason="the peer's example files are not here")


def with_peers_main(made, names=("tb_gateway.json", "logs.json", "list.json")):
    """What differs from one place to another comes from the environment, so that no byte of a file is changed."""
    platform = made(Platform)
    gateway = made(Gateway, platform.port, {}, start=False,
                   env={"TB_GW_HOST": "127.0.0.1", "TB_GW_PORT": str(platform.port), "TB_GW_ACCESS_TOKEN": "token"})
    for name in names:
        shutil.copy(PEER / name, gateway.directory)
    gateway.start()
    gateway.wait_log("gateway is running")
    return platform, gateway


def test_main_file_and_loggers_run_unmodified(made):
    platform, gateway = with_peers_main(made)
    wait_until(lambda: platform.latest("").get("totalMemory"), "the session is up, and the machine told of")
    log = gateway.log_text()
    assert "no effect" not in log and "ERROR" not in log, log
    logs = gateway.directory / "logs"
    wait_until(lambda: (logs / "service.log").exists(), "its files are written")
    lines = (logs / "service.log").read_text().splitlines()
    form = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} - \|[A-Z]+\| - \[\w+\.[ch]\] - \w+ - \w+ - \d+ - .+"
    assert lines and all(re.fullmatch(form, line) for line in lines), lines
    assert gateway.stop() == 0
    for name in ("tb_gateway.json", "logs.json", "list.json"):
        assert (gateway.directory / name).read_bytes() == (PEER / name).read_bytes(), name


def test_each_logger_of_the_file_has_the_file_it_names(made):
    """The main file is ours here, as the peer's has no connector."""
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    shutil.copy(PEER / "logs.json", gateway.directory)
    gateway.start()
    gateway.wait_log("gateway is running")
    broker.publish("sensors/boiler/data", "no json")
    logs = gateway.directory / "logs"
    wait_until(lambda: (logs / "plant_converter.log").exists() and (logs / "plant_connector.log").exists(), "the connector's files are written")
    assert gateway.stop() == 0
    loggers = {logger for logger, conf in json.loads((PEER / "logs.json").read_text())["loggers"].items() if conf["handlers"]}
    names = {path.name.rsplit(".", 1)[0] for path in logs.iterdir()}
    assert names <= loggers | {"plant_connector", "plant_converter"} and "service" in names


def test_device_filter_denies_and_allows_what_the_file_says(made):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"MQTT Broker Connector": mqtt_connector(broker.port)},
                   thingsboard={"deviceFiltering": {"enable": True, "filterFile": str(PEER / "list.json")}})
    gateway.wait_log("connected")
    denied, allowed = ("Temperature Device", "user@example.com"), ("My Temperature Sensor", "any other")
    for name in (*denied, *allowed):
        broker.publish(f"sensors/{name}/data", '{"temperature": 1}')
    for name in allowed:
        platform.wait_for(name, temperature=1)
    assert not set(denied) & {device["device"] if isinstance(device, dict) else device for device in platform.devices()}
    assert "list.json" not in gateway.log_text()


def test_statistics_commands_of_the_file_run(made):
    file = PEER / "statistics" / "statistics_linux.json"
    platform = made(Platform)
    broker = made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={
        "statistics": {"enable": True, "statsSendPeriodInSeconds": 60, "customStatsSendPeriodInSeconds": 1, "configuration": str(file)}})
    gateway.wait_log("connected")
    wait_until(lambda: "CPU" in platform.latest(""), "results come")
    latest = platform.latest("")
    assert isinstance(latest["CPU"], (int, float))
    programs = {"IP address": "hostname", "OS": "lsb_release", "Uptime": "uptime", "USBs": "lsusb"}
    for attribute, program in programs.items():
        if shutil.which(program):
            assert not str(latest.get(attribute, "")).endswith("\n")
        else:  # the shell does not find it: left out, and said
            assert attribute not in latest and re.search(f'attribute="?{attribute}"?', gateway.log_text()), attribute
    if shutil.which("uptime"):
        assert "load average" in latest["Uptime"]
    assert "statistics_linux.json" not in gateway.log_text()
