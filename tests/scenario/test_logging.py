# SPDX-License-Identifier: Apache-2.0
"""Log files as logs.json wants them, error counters and log lines on the platform."""
import json
import os
import re
import signal

from plant import Broker, Gateway, Platform, mqtt_connector, wait_until

TOPIC = "sensors/boiler/data"
FILE = "thingsboard_gateway.tb_utility.tb_rotating_file_handler.TimedRotatingFileHandler"


def logs(**more):
    names = ("service", "connector", "converter", "tb_connection", "storage", "extension")
    handlers = {f"{name}Handler": {"class": FILE, "formatter": "F", "filename": f"./logs/{name}.log", "backupCount": 2, "interval": 3, "when": "D",
                                   "maxBytes": 0, "encoding": "utf-8", **more} for name in names}
    return {"version": 1, "disable_existing_loggers": False,
            "formatters": {"F": {"class": "logging.Formatter", "format": "%(asctime)s.%(msecs)03d |%(levelname)s| %(name)s %(filename)s %(funcName)s %(lineno)d - %(message)s",
                                 "datefmt": "%Y-%m-%d %H:%M:%S"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "F", "level": 0, "stream": "ext://sys.stdout"}, **handlers},
            "loggers": {name: {"handlers": [f"{name}Handler", "console"], "level": "INFO", "propagate": False} for name in names},
            "root": {"level": "ERROR", "handlers": ["console"]}}


def running(made, text, name="Plant MQTT", env=None, **connector):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {name: {**mqtt_connector(broker.port), **connector}}, start=False, env=env)
    (gateway.directory / "logs.json").write_text(text if isinstance(text, str) else json.dumps(text))
    gateway.start()
    return platform, broker, gateway


def read(path):
    return path.read_text() if path.exists() else ""


def test_each_logger_and_each_connector_has_its_file(made):
    _, broker, gateway = running(made, logs())
    directory = gateway.directory / "logs"
    wait_until(lambda: "connected" in read(directory / "plant_mqtt_connector.log"), "the connector's file is written")
    wait_until(lambda: "gateway is running" in read(directory / "service.log"), "the service's file is written")
    broker.publish(TOPIC, "no json")
    wait_until(lambda: "left out of a message" in read(directory / "plant_mqtt_converter.log"), "the converter's file is written")
    line = [line for line in read(directory / "service.log").splitlines() if "gateway is running" in line][0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \|INFO\| service gateway\.c fleet_is_started \d+ - gateway is running connectors=1 failed=0", line)
    assert not (directory / "connector.log").exists() and "no effect" not in gateway.log_text()
    assert line in gateway.log_text()  # the console has the same
    assert gateway.stop() == 0
    assert "stopped" in read(directory / "service.log")


def test_the_directory_comes_from_the_environment(made, tmp_path):
    _, _, gateway = running(made, logs(), env={"TB_GW_LOGS_PATH": str(tmp_path / "else" / "where")})
    wait_until(lambda: "gateway is running" in read(tmp_path / "else" / "where" / "service.log"), "it is written there")
    assert not (gateway.directory / "logs").exists()


def test_files_that_others_move_away_are_made_anew(made):
    _, _, gateway = running(made, logs())
    path = gateway.directory / "logs" / "service.log"
    wait_until(lambda: "gateway is running" in read(path), "the file is written")
    path.rename(path.with_name("service.log.1"))
    gateway.process.send_signal(signal.SIGHUP)
    (gateway.directory / "plant_mqtt.json").write_text("{")
    wait_until(lambda: "plant_mqtt.json" in read(path), "a new file is begun")


def test_files_are_put_aside_by_size_and_the_oldest_deleted(made):
    _, _, gateway = running(made, logs(maxBytes=50))  # each line is more
    directory = gateway.directory / "logs"
    gateway.wait_log("gateway is running")
    assert gateway.stop() == 0  # two more lines

    archives = [name for name in os.listdir(directory) if name.startswith("service.log.")]
    assert len(archives) == 2 and "stopped" in read(directory / "service.log")
    assert all(re.fullmatch(r"service\.log\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(\.\d+)?", name) for name in archives)


def test_a_bad_file_is_told_to_the_platform_and_the_gateway_runs(made):
    platform, _, gateway = running(made, '{"version":1,')
    wait_until(lambda: "logs.json" in platform.latest("").get("LOGS", ""), "the platform gets the reason")
    gateway.wait_log("gateway is running")


def test_a_file_that_cannot_be_written_is_told_and_its_lines_are_not_lost(made, tmp_path):
    (tmp_path / "no_directory").write_text("")
    conf = logs()
    conf["handlers"]["serviceHandler"]["filename"] = str(tmp_path / "no_directory" / "service.log")
    conf["loggers"]["service"]["handlers"] = ["serviceHandler"]
    platform, _, gateway = running(made, conf)
    gateway.wait_log("log file cannot be written")
    gateway.wait_log("gateway is running")
    wait_until(lambda: "no_directory" in platform.latest("").get("LOGS", ""), "the platform gets the reason")


def test_errors_are_counted_by_logger(made):
    platform, broker, gateway = running(made, logs())
    gateway.wait_log("gateway is running")
    (gateway.directory / "plant_mqtt.json").write_text("{")
    wait_until(lambda: platform.latest("").get("ALL_ERRORS_COUNT", 0) >= 1, "the count comes")
    latest = platform.latest("")
    assert sum(v for k, v in latest.items() if k.endswith("_ERRORS_COUNT") and k != "ALL_ERRORS_COUNT") == latest["ALL_ERRORS_COUNT"]


def test_lines_of_a_connector_that_wants_it_go_to_the_platform(made):
    platform, broker, gateway = running(made, logs(), enableRemoteLogging=True)
    gateway.wait_log("gateway is running")
    broker.publish(TOPIC, "no json")
    wait_until(lambda: "left out of a message" in platform.latest("").get("Plant MQTT_converter_LOGS", ""), "the line comes")
    assert "SERVICE_LOGS" not in platform.latest("")


def test_a_new_file_of_logging_counts_without_a_restart(made):
    _, _, gateway = running(made, logs())
    directory = gateway.directory / "logs"
    wait_until(lambda: "gateway is running" in read(directory / "service.log"), "the file is written")
    conf = logs()
    conf["handlers"]["serviceHandler"]["filename"] = "./logs/other.log"
    (gateway.directory / "logs.json").write_text(json.dumps(conf))
    wait_until(lambda: read(directory / "other.log"), "lines go to the other file")
