# SPDX-License-Identifier: Apache-2.0
"""Configurations for the workloads, in the format that both gateways read."""
import json

KEYS = [("seq", "integer"), ("sent", "integer"), ("temperature", "double"), ("humidity", "double"), ("pressure", "double"),
        ("voltage", "double"), ("current", "double"), ("rpm", "integer"), ("running", "boolean"), ("state", "string")]

STORAGES = {
    "memory": {"type": "memory", "read_records_count": 100, "max_records_count": 100000},
    "file": {"type": "file", "data_folder_path": "./data/", "max_file_count": 100, "max_records_per_file": 10000,
             "max_read_records_count": 100},
    "file-large": {"type": "file", "data_folder_path": "./data/", "max_file_count": 1000, "max_records_per_file": 10000,
                   "max_read_records_count": 100},
    "file-small": {"type": "file", "data_folder_path": "./data/", "max_file_count": 10, "max_records_per_file": 10000,
                   "max_read_records_count": 100},
    "sqlite-large": {"type": "sqlite", "data_file_path": "./data/data.db", "max_read_records_count": 1000, "size_limit": 4096},
    "sqlite": {"type": "sqlite", "data_file_path": "./data/data.db", "max_read_records_count": 1000, "size_limit": 1024},
}

LOGGERS = ["database", "service", "connector", "converter", "tb_connection", "storage", "extension"]


def gateway(platform_port, storage):
    return {
        "thingsboard": {
            "host": "127.0.0.1", "port": platform_port, "remoteShell": False, "remoteConfiguration": False,
            "statistics": {"enable": True, "statsSendPeriodInSeconds": 3600, "customStatsSendPeriodInSeconds": 3600},
            "minPackSendDelayMS": 50, "qos": 1, "reportStrategy": {"type": "ON_RECEIVED"},
            "checkConnectorsConfigurationInSeconds": 60, "handleDeviceRenaming": True,
            "security": {"type": "accessToken", "accessToken": "BENCH"},
        },
        "storage": STORAGES[storage],
        "grpc": {"enabled": False},
        "connectors": [{"name": "MQTT", "type": "mqtt", "configuration": "mqtt.json"}],
    }


# Of requests, as the peer's own sample has them: a topic for the answer to each.
REQUESTS = {"serverSideRpc": [{
    "deviceNameFilter": ".*", "methodFilter": "echo", "requestTopicExpression": "request/${deviceName}/${methodName}/${requestId}",
    "responseTopicExpression": "response/${deviceName}/${methodName}/${requestId}", "responseTimeout": 10000, "valueExpression": "${params}"}]}


def mqtt(source_port, has_requests=False, is_clean=True):
    return {
        "broker": {"host": "127.0.0.1", "port": source_port, "clientId": "bench", "version": 5, "maxMessageNumberPerWorker": 10,
                   "maxNumberOfWorkers": 100, "cleanSession": is_clean, "security": {"type": "anonymous"}},
        "mapping": [{
            "topicFilter": "sensors/+/data", "subscriptionQos": 1,
            "converter": {
                "type": "json",
                "deviceInfo": {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=sensors/)(.*?)(?=/data)",
                               "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "Sensor"},
                "timeout": 60000, "attributes": [],
                "timeseries": [{"type": kind, "key": key, "value": "${%s}" % key} for key, kind in KEYS],
            }}],
        "requestsMapping": REQUESTS if has_requests else {},
    }


def logs():
    handler = {"class": "thingsboard_gateway.tb_utility.tb_rotating_file_handler.TimedRotatingFileHandler",
               "formatter": "LogFormatter", "backupCount": 1, "interval": 3, "when": "D", "encoding": "utf-8"}
    return {
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"LogFormatter": {
            "class": "logging.Formatter", "datefmt": "%Y-%m-%d %H:%M:%S",
            "format": "%(asctime)s.%(msecs)03d - |%(levelname)s| - [%(filename)s] - %(module)s - %(funcName)s - %(lineno)d - %(message)s"}},
        "handlers": {
            "consoleHandler": {"class": "logging.StreamHandler", "formatter": "LogFormatter", "level": 0, "stream": "ext://sys.stdout"},
            **{name + "Handler": dict(handler, filename=f"./logs/{name}.log") for name in LOGGERS}},
        "loggers": {name: {"handlers": [name + "Handler", "consoleHandler"], "level": "INFO", "propagate": False} for name in LOGGERS},
        "root": {"level": "ERROR", "handlers": ["consoleHandler"]},
    }


def request(ports, period_s=1):
    return {"host": f"http://127.0.0.1:{ports[0]}", "mapping": [
        {"url": f"http://127.0.0.1:{port}/data", "httpMethod": "GET", "scanPeriod": period_s, "timeout": 0.9, "allowRedirects": True,
         "converter": {"type": "json", "deviceNameJsonExpression": f"server{i}", "deviceTypeJsonExpression": "web", "attributes": [],
                       "telemetry": [{"key": "seq", "type": "int", "value": "${seq}"},
                                     {"key": "temperature", "type": "double", "value": "${temperature}"},
                                     {"key": "running", "type": "bool", "value": "${running}"}]}}
        for i, port in enumerate(ports)]}


def write_request(directory, platform_port, ports):
    main = gateway(platform_port, "memory")
    main["connectors"] = [{"name": "Web", "type": "request", "configuration": "request.json"}]
    for name, content in (("tb_gateway.json", main), ("request.json", request(ports)), ("logs.json", logs())):
        (directory / name).write_text(json.dumps(content, indent=2))


def write_rest(directory, platform_port, port, storage):
    main = gateway(platform_port, storage)
    main["connectors"] = [{"name": "Rest", "type": "rest", "configuration": "rest.json"}]
    rest = {"server": {"host": "127.0.0.1", "port": port, "SSL": False}, "requestsMapping": {}, "mapping": [{
        "endpoint": "/data", "HTTPMethods": ["POST"], "security": {"type": "anonymous"}, "converter": {
            "type": "json",
            "deviceInfo": {"deviceNameExpressionSource": "request", "deviceNameExpression": "${device}",
                           "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "Sensor"},
            "attributes": [], "timeseries": [{"type": kind, "key": key, "value": "${%s}" % key} for key, kind in KEYS]}}]}
    for name, content in (("tb_gateway.json", main), ("rest.json", rest), ("logs.json", logs())):
        (directory / name).write_text(json.dumps(content, indent=2))


def modbus(ports, n_units, n_tags, period_ms):
    """Slaves on ports with units 1 to n_units, each with n_tags tags that lie together (seq, sent, then measurements)."""
    def tags():
        address = 3
        yield {"tag": "seq", "type": "16uint", "functionCode": 3, "objectsCount": 1, "address": 0}
        yield {"tag": "sent", "type": "32uint", "functionCode": 3, "objectsCount": 2, "address": 1}
        for i in range(n_tags - 2):
            if i % 4 == 3:
                yield {"tag": f"f{i}", "type": "32float", "functionCode": 3, "objectsCount": 2, "address": address}
                address += 2
            else:
                yield {"tag": f"i{i}", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": address, "divider": 10}
                address += 1

    return {"master": {"slaves": [
        {"host": "127.0.0.1", "port": port, "type": "tcp", "method": "socket", "timeout": 5, "byteOrder": "BIG", "wordOrder": "BIG",
         "retries": 3, "retryOnEmpty": True, "retryOnInvalid": True, "pollPeriod": period_ms, "unitId": unit,
         "deviceName": f"plc{i}-{unit}", "deviceType": "plc", "connectAttemptTimeMs": 500, "connectAttemptCount": 5,
         "waitAfterFailedAttemptsMs": 30000, "attributes": [], "timeseries": list(tags()), "attributeUpdates": [], "rpc": []}
        for i, port in enumerate(ports) for unit in range(1, n_units + 1)]}}


def write_modbus(directory, platform_port, *args):
    main = gateway(platform_port, "memory")
    main["connectors"] = [{"name": "Plant", "type": "modbus", "configuration": "modbus.json"}]
    for name, content in (("tb_gateway.json", main), ("modbus.json", modbus(*args)), ("logs.json", logs())):
        (directory / name).write_text(json.dumps(content, indent=2))


def write(directory, platform_port, source_port, storage, has_requests=False, is_clean=True):
    for name, content in (("tb_gateway.json", gateway(platform_port, storage)), ("mqtt.json", mqtt(source_port, has_requests, is_clean)),
                          ("logs.json", logs())):
        (directory / name).write_text(json.dumps(content, indent=2))
