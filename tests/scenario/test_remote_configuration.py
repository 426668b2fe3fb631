# SPDX-License-Identifier: Apache-2.0
"""Remote configuration: what is published, what the platform changes, and what it cannot break."""
import json
import time

import pytest

from plant import Broker, Gateway, Platform, free_port, mqtt_connector, mqtt_mapping, wait_until

GENERAL = ("general_configuration", "storage_configuration", "grpc_configuration", "logs_configuration", "active_connectors", "Version")


@pytest.fixture
def platform():
    platform = Platform()
    yield platform
    platform.close()


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.close()


def start(tmp_path, platform, connectors, **more):
    more["thingsboard"] = {"remoteConfiguration": True, **more.get("thingsboard", {})}
    return Gateway(tmp_path / "gateway", platform.port, connectors, **more)


def own(platform, key=None):
    values = {k: v["value"] for k, v in platform.ask("values")["attributes"].items()}
    return values if key is None else values.get(key)


def push(platform, **values):
    """As the platform does it when somebody saves the page: kept as shared attributes, and sent."""
    platform.ask("shared " + json.dumps(values))
    platform.ask("publish v1/devices/me/attributes " + json.dumps(values))


def published(platform, key, condition):
    return wait_until(lambda: (v := own(platform, key)) is not None and condition(v) and (v,), f"{key} is published")[0]


def published_within(platform, key, condition, limit_s):
    return wait_until(lambda: (v := own(platform, key)) is not None and condition(v) and (v,), f"{key} is published", limit_s)[0]


def bare(value):
    return {k: v for k, v in value.items() if k != "ts"}


def remote_form(name, broker_port, topic="sensors/+/data", keys=("seq",), **more):
    return {"name": name, "type": "mqtt", "logLevel": "INFO", "ts": int(time.time() * 1000), **more,
            "configurationJson": mqtt_connector(broker_port, [mqtt_mapping(topic, keys=keys)])}


def test_the_first_start_publishes_all_that_runs(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        attribute = published(platform, "Plant", lambda v: True)
        values = own(platform)
        main = json.loads((gateway.directory / "tb_gateway.json").read_text())
        assert set(GENERAL) <= set(values)
        assert {k: v for k, v in bare(values["general_configuration"]).items() if k != "statistics"} == \
            {k: v for k, v in main["thingsboard"].items() if k != "statistics"}
        assert values["general_configuration"]["statistics"] == {"enable": False, "enableCustom": False, "commands": []}
        assert bare(values["storage_configuration"]) == main["storage"]
        assert values["active_connectors"] == ["Plant"]
        assert attribute["configurationJson"]["broker"]["port"] == broker.port
        assert attribute["id"] == attribute["configurationJson"]["id"]
        assert "id" in json.loads((gateway.directory / "plant.json").read_text())
        wait_until(lambda: len(list((gateway.directory / "backup").glob("plant.backup.*.json"))) == 1, "a copy is made at the start")
    finally:
        gateway.close()


def test_a_changed_connector_is_the_only_one_that_restarts(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"One": mqtt_connector(broker.port), "Two": mqtt_connector(broker.port, [mqtt_mapping("two/+/data", "(?<=two/)(.*?)(?=/data)")])})
    try:
        one = published(platform, "One", lambda v: True)
        gateway.wait_log("gateway is running")
        one["configurationJson"]["mapping"].append(mqtt_mapping("more/+/data", "(?<=more/)(.*?)(?=/data)"))
        one["ts"] = int(time.time() * 1000)
        push(platform, One=one)
        published(platform, "One", lambda v: len(v["configurationJson"]["mapping"]) == 2)
        assert len(json.loads((gateway.directory / "one.json").read_text())["mapping"]) == 2
        plans = [line for line in gateway.log_text().splitlines() if "configuration changes" in line]
        assert len(plans) == 1 and "One" in plans[0], plans
        broker.publish("more/a/data", {"seq": 1, "temperature": 2})
        platform.wait_for("a", seq=1)
        broker.publish("two/b/data", {"seq": 5, "temperature": 2})
        platform.wait_for("b", seq=5)
    finally:
        gateway.close()


def test_what_has_errors_changes_nothing_and_says_why(tmp_path, platform, broker):
    """Invariant 11, for what the platform sends."""
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        before = published(platform, "Plant", lambda v: True)
        main = (gateway.directory / "tb_gateway.json").read_text()
        file = (gateway.directory / "plant.json").read_text()
        wrong = remote_form("Plant", broker.port)
        wrong["configurationJson"]["broker"]["port"] = 70000
        push(platform, Plant=wrong, general_configuration={"host": "", "port": "x"}, storage_configuration={"type": "paper"})
        errors = published(platform, "configuration_errors", lambda v: len(v) == 3)
        assert any("port" in e["path"] for e in errors["Plant"]), errors
        assert any(e["path"] == "type" for e in errors["storage_configuration"]), errors
        assert any(e["path"] in ("host", "port") for e in errors["general_configuration"]), errors
        assert (gateway.directory / "tb_gateway.json").read_text() == main
        assert (gateway.directory / "plant.json").read_text() == file
        assert bare(own(platform, "Plant")) == bare(before)
        push(platform, Plant=before, general_configuration=own(platform, "general_configuration"),
             storage_configuration=own(platform, "storage_configuration"))
        wait_until(lambda: own(platform, "configuration_errors") == {}, "the errors are gone")
        assert "configuration changes" not in gateway.log_text()
    finally:
        gateway.close()


def test_a_new_connector_appears_as_on_the_page(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        conf = mqtt_connector(broker.port, [mqtt_mapping("line/+/data", "(?<=line/)(.*?)(?=/data)")])
        push(platform, **{"Line 2": {"name": "Line 2", "type": "mqtt", "ts": 1795353530000, "logLevel": "INFO", "configurationJson": conf}})
        attribute = published(platform, "Line 2", lambda v: True)
        ident = attribute["id"]
        assert json.loads((gateway.directory / "line_2.json").read_text()) == \
            {**conf, "logLevel": "INFO", "name": "Line 2", "enableRemoteLogging": False, "id": ident}
        assert json.loads((gateway.directory / "tb_gateway.json").read_text())["connectors"][-1] == \
            {"type": "mqtt", "name": "Line 2", "configuration": "line_2.json"}
        assert attribute == {"name": "Line 2", "type": "mqtt", "configuration": "line_2.json", "id": ident, "logLevel": "INFO",
                             "enableRemoteLogging": False, "ts": 1795353530000, "configurationJson": {**conf, "id": ident, "name": "Line 2"}}
        published(platform, "active_connectors", lambda v: v == ["Plant", "Line 2"])
        broker.publish("line/a/data", {"seq": 1, "temperature": 2})
        platform.wait_for("a", seq=1)
    finally:
        gateway.close()


def test_what_was_wrong_with_a_new_connector_is_told_until_it_is_mended(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        hall = remote_form("Hall", broker.port)
        mended = ({"deleted": ["Hall"]}, {"active_connectors": ["Plant"]}, {"Hall": hall})
        for last in mended:
            push(platform, Hall={**hall, "type": "no such type"}, active_connectors=["Plant", "Hall"])
            published(platform, "configuration_errors", lambda v: "Hall" in v)
            push(platform, **last)
            published(platform, "configuration_errors", lambda v: v == {})
        published(platform, "active_connectors", lambda v: v == ["Plant", "Hall"])
        assert (gateway.directory / "hall.json").exists()
    finally:
        gateway.close()


def test_a_gateway_without_connectors_waits_for_the_platform(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {}, thingsboard={"remoteConfiguration": False}, start=False)
    main = json.loads((gateway.directory / "tb_gateway.json").read_text())
    del main["connectors"]
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(main))
    gateway.start()
    try:
        published(platform, "active_connectors", lambda v: v == [])
        push(platform, Plant=remote_form("Plant", broker.port), active_connectors=["Plant"])
        published(platform, "active_connectors", lambda v: v == ["Plant"])
        broker.publish("sensors/a/data", {"seq": 7})
        platform.wait_for("a", seq=7)
    finally:
        gateway.close()


def test_a_connector_that_is_no_more_active_goes_to_the_backups(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"One": mqtt_connector(broker.port), "Two": mqtt_connector(broker.port)})
    try:
        published(platform, "Two", lambda v: True)
        push(platform, active_connectors=["Two", "Three"])
        published(platform, "active_connectors", lambda v: v == ["Two"])
        assert not (gateway.directory / "one.json").exists()
        assert list((gateway.directory / "backup").glob("one.backup.*.json"))
        assert [c["name"] for c in json.loads((gateway.directory / "tb_gateway.json").read_text())["connectors"]] == ["Two"]
        gateway.wait_log("neither configured here nor known to the platform")
    finally:
        gateway.close()


def test_a_reconnect_changes_nothing(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        values = own(platform)
        platform.ask("shared " + json.dumps({k: values[k] for k in GENERAL if k in values and k != "Version"} | {"Plant": values["Plant"]}))
        for level in ("ERROR", "Warning", "40"):
            platform.ask("drop")

            def is_back():
                push(platform, RemoteLoggingLevel=level)
                return own(platform, "RemoteLoggingLevel") == level
            wait_until(is_back, "it is back")
        push(platform, **{k: values[k] for k in ("general_configuration", "storage_configuration", "Plant", "active_connectors")})
        push(platform, RemoteLoggingLevel="NONE")
        published(platform, "RemoteLoggingLevel", lambda v: v == "NONE")
        assert "configuration changes" not in gateway.log_text()
        assert own(platform, "configuration_errors") == {}
    finally:
        gateway.close()


def test_a_connector_that_changed_while_there_was_no_session_is_asked_for(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        plant = published(platform, "Plant", lambda v: True)
        plant["configurationJson"]["mapping"].append(mqtt_mapping("more/+/data", "(?<=more/)(.*?)(?=/data)"))
        plant["ts"] = int(time.time() * 1000)
        platform.ask("shared " + json.dumps({"Plant": plant, "active_connectors": ["Plant"]}))
        platform.ask("drop")
        published(platform, "Plant", lambda v: len(v["configurationJson"]["mapping"]) == 2)
        broker.publish("more/a/data", {"seq": 1, "temperature": 2})
        platform.wait_for("a", seq=1)
    finally:
        gateway.close()


GARBAGE = [None, True, 0, -1.5, "", "x" * 5000, [], [1, None, {"a": []}], {}, {"ts": "x"}, {"name": 5}, {"name": "Plant", "type": "mqtt", "configurationJson": []},
           {"name": "../x", "type": "mqtt", "configuration": "../../etc/x.json", "configurationJson": {"broker": {}}},
           {"name": "Plant", "type": "nothing", "configurationJson": {}}, {"handlers": {"a": {"class": "FileHandler", "filename": "/etc/passwd"}}}]


def test_garbage_of_every_type_breaks_nothing(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        main = (gateway.directory / "tb_gateway.json").read_text()
        for value in GARBAGE:
            names = ["general_configuration", "grpc_configuration", "logs_configuration", "Plant", "Other", "RemoteLoggingLevel", "deleted", "Version",
                     "configuration_errors"]
            if value != {}:
                names.append("storage_configuration")
            if value != []:
                names.append("active_connectors")
            platform.ask("publish v1/devices/me/attributes " + json.dumps({name: value for name in names}))
            platform.ask("publish v1/devices/me/attributes " + json.dumps(value))
        push(platform, RemoteLoggingLevel="WARNING")
        published(platform, "RemoteLoggingLevel", lambda v: v == "WARNING")
        broker.publish("sensors/a/data", {"seq": 7, "temperature": 1})
        platform.wait_for("a", seq=7)
        now = json.loads((gateway.directory / "tb_gateway.json").read_text())
        assert now["connectors"] == json.loads(main)["connectors"] and now["storage"] == json.loads(main)["storage"]
        assert not list(tmp_path.glob("*.json"))
    finally:
        gateway.close()


def test_of_a_hundred_pushes_the_last_one_counts(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        for i in range(100):
            value = remote_form("Plant", broker.port, keys=(f"k{i}",))
            platform.ask("publish v1/devices/me/attributes " + json.dumps({"Plant": value}))
        published(platform, "Plant", lambda v: v["configurationJson"]["mapping"][0]["converter"]["timeseries"][0]["key"] == "k99")
        assert gateway.log_text().count("the platform changes the configuration") < 60
    finally:
        gateway.close()


def test_secrets_are_hidden_on_request_and_stay_what_they_are(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port, security={"type": "basic", "username": "u", "password": "geheim"})},
                    thingsboard={"publishSecrets": False})
    try:
        plant = published(platform, "Plant", lambda v: True)
        general = own(platform, "general_configuration")
        assert plant["configurationJson"]["broker"]["security"]["password"] == "***"
        assert general["security"]["accessToken"] == "***"
        plant["configurationJson"]["mapping"] = [mqtt_mapping("new/+/data", "(?<=new/)(.*?)(?=/data)")]
        push(platform, Plant=plant, general_configuration=general)
        published(platform, "Plant", lambda v: v["configurationJson"]["mapping"][0]["topicFilter"] == "new/+/data")
        assert json.loads((gateway.directory / "plant.json").read_text())["broker"]["security"]["password"] == "geheim"
        assert json.loads((gateway.directory / "tb_gateway.json").read_text())["thingsboard"]["security"]["accessToken"] == "token"
        assert "geheim" not in gateway.log_text()
    finally:
        gateway.close()


def test_a_local_edit_wins_over_an_older_value_that_was_asked_for(tmp_path, platform, broker):
    platform.ask("shared " + json.dumps({"Plant": {**remote_form("Plant", broker.port, keys=("old",)), "ts": 1000}}))
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        gateway.wait_log("the file was edited later than the platform's value")
        plant = published(platform, "Plant", lambda v: True)
        assert plant["configurationJson"]["mapping"][0]["converter"]["timeseries"][0]["key"] == "seq"
        push(platform, Plant={**remote_form("Plant", broker.port, keys=("old",)), "ts": 1000})
        published(platform, "Plant", lambda v: v["configurationJson"]["mapping"][0]["converter"]["timeseries"][0]["key"] == "old")
    finally:
        gateway.close()


def test_a_wrong_host_is_taken_back_and_data_go_on(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        main = (gateway.directory / "tb_gateway.json").read_text()
        general = own(platform, "general_configuration")
        push(platform, general_configuration={**general, "port": free_port()})
        gateway.wait_log("the connection to the platform changes")
        broker.publish("sensors/a/data", {"seq": 1, "temperature": 2})
        errors = published_within(platform, "configuration_errors", lambda v: "general_configuration" in v, 60)
        assert "no session with the platform" in errors["general_configuration"][0]["message"]
        platform.wait_for("a", seq=1)
        assert (gateway.directory / "tb_gateway.json").read_text() == main
        assert bare(own(platform, "general_configuration")) == bare(general)
        assert platform.stats()["dup"] == 0
        gateway.wait_log("it is not tried again")  # the platform still has it, and is asked in the next session
        assert gateway.log_text().count("the connection to the platform changes") == 1
    finally:
        gateway.close()


def test_another_platform_is_kept_once_its_session_is_up(tmp_path, platform, broker):
    other = Platform()
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        general = own(platform, "general_configuration")
        push(platform, general_configuration={**general, "port": other.port})
        published(other, "general_configuration", lambda v: v["port"] == other.port)
        section = json.loads((gateway.directory / "tb_gateway.json").read_text())["thingsboard"]
        assert section["port"] == other.port and section["statistics"] == {"enable": False}
        broker.publish("sensors/a/data", {"seq": 1, "temperature": 2})
        other.wait_for("a", seq=1)
        assert len(platform.ask("logins")["logins"]) == 0
    finally:
        gateway.close()
        other.close()


def test_a_refused_login_is_taken_back_at_once(tmp_path, platform, broker):
    platform.ask("credential token hall token")
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        general = own(platform, "general_configuration")
        push(platform, general_configuration={**general, "security": {"type": "accessToken", "accessToken": "wrong"}})
        published(platform, "configuration_errors", lambda v: "general_configuration" in v)
        assert "wrong" not in (gateway.directory / "tb_gateway.json").read_text()
    finally:
        gateway.close()


def test_the_level_of_lines_for_the_platform_is_set_by_it(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)}, thingsboard={"remoteConfiguration": False})
    try:
        gateway.wait_log("Plant: connected")
        push(platform, RemoteLoggingLevel="info")
        published(platform, "RemoteLoggingLevel", lambda v: v == "info")
        text = (gateway.directory / "plant.json").read_text()
        (gateway.directory / "plant.json").write_text(text.replace("temperature", "heat"))
        wait_until(lambda: "configuration" in str(platform.latest("").get("SERVICE_LOGS", "")), "the service's lines come")
        push(platform, RemoteLoggingLevel="loud")
        push(platform, RemoteLoggingLevel=17)
        gateway.wait_log("expected NONE, CRITICAL, ERROR, WARNING, INFO, DEBUG or TRACE")
        assert own(platform, "RemoteLoggingLevel") == "info"
        assert gateway.stop() == 0
        last = platform.values("")["telemetry"]["SERVICE_LOGS"]["ts"]
        platform.ask("shared " + json.dumps({"RemoteLoggingLevel": "DEBUG"}))
        gateway.start()  # the level is asked for
        published(platform, "RemoteLoggingLevel", lambda v: v == "DEBUG")
        (gateway.directory / "plant.json").write_text(text)
        wait_until(lambda: platform.values("")["telemetry"]["SERVICE_LOGS"]["ts"] > last, "lines of the new run come")
    finally:
        gateway.close()


def logs(directory, level="INFO"):
    handler = {"class": "logging.handlers.TimedRotatingFileHandler", "formatter": "F", "filename": f"./{directory}/service.log", "when": "D", "interval": 1}
    return {"version": 1, "formatters": {"F": {"format": "%(levelname)s %(name)s %(message)s"}},
            "handlers": {"service": handler, "console": {"class": "logging.StreamHandler", "formatter": "F", "stream": "ext://sys.stdout"}},
            "loggers": {"service": {"handlers": ["service", "console"], "level": level, "propagate": False}},
            "root": {"level": "INFO", "handlers": ["console"]}}


def test_pushed_loggers_are_used_at_once(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        assert set(published(platform, "logs_configuration", lambda v: True)) == {"ts"}
        push(platform, logs_configuration={**logs("logs"), "ts": 1795353530000})
        published(platform, "logs_configuration", lambda v: "handlers" in v)
        assert bare(json.loads((gateway.directory / "logs.json").read_text())) == logs("logs")
        file = gateway.directory / "logs" / "service.log"
        wait_until(file.exists, "the new handler writes")
        push(platform, logs_configuration=logs("logs", "ERROR"))
        published(platform, "logs_configuration", lambda v: v["loggers"]["service"]["level"] == "ERROR")
        push(platform, storage_configuration={"type": "paper"})  # an error line, and what would be an information
        published(platform, "configuration_errors", lambda v: "storage_configuration" in v)
        wait_until(lambda: "paper" in file.read_text(), "the error is written")
        push(platform, logs_configuration={"version": "x", "handlers": 5})
        published(platform, "configuration_errors", lambda v: "logs_configuration" in v)
        assert bare(own(platform, "logs_configuration")) == logs("logs", "ERROR")
    finally:
        gateway.close()


def test_a_connector_that_is_added_by_hand_gets_an_identity(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"Plant": mqtt_connector(broker.port)})
    try:
        published(platform, "Plant", lambda v: True)
        file, main = gateway.directory / "two.json", gateway.directory / "tb_gateway.json"
        file.write_text(json.dumps(mqtt_connector(broker.port, [mqtt_mapping("two/+/data", "(?<=two/)(.*?)(?=/data)")])))
        content = json.loads(main.read_text())
        content["connectors"].append({"type": "mqtt", "name": "Two", "configuration": "two.json"})
        main.write_text(json.dumps(content))
        attribute = published(platform, "Two", lambda v: True)
        wait_until(lambda: json.loads(file.read_text()).get("id") == attribute["id"], "its id is written")
        assert {k: v for k, v in json.loads(file.read_text()).items() if k != "id"} == \
            mqtt_connector(broker.port, [mqtt_mapping("two/+/data", "(?<=two/)(.*?)(?=/data)")])
        broker.publish("two/b/data", {"seq": 5, "temperature": 2})
        platform.wait_for("b", seq=5)
        assert gateway.log_text().count("Two: connected") == 1  # writing it is no change
    finally:
        gateway.close()


def test_what_is_removed_is_not_told_again_in_the_next_session(tmp_path, platform, broker):
    gateway = start(tmp_path, platform, {"One": mqtt_connector(broker.port), "Two": mqtt_connector(broker.port)})
    other = Platform()
    try:
        published(platform, "Two", lambda v: True)
        push(platform, active_connectors=["Two"])
        published(platform, "active_connectors", lambda v: v == ["Two"])
        push(platform, general_configuration={**own(platform, "general_configuration"), "port": other.port})
        published(other, "Two", lambda v: True)
        published(other, "general_configuration", lambda v: v["port"] == other.port)
        assert own(other, "One") is None
    finally:
        gateway.close()
        other.close()
