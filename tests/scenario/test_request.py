# SPDX-License-Identifier: Apache-2.0
"""The Request connector, end to end: servers that answer, answer late, badly, or not at all, and requests of the platform."""
import json
import pathlib
import time

import pytest

from plant import Certificates, Gateway, Platform, wait_until
from web_peer import Server, connector, mapping

PEER_FILE = pathlib.Path(__file__).resolve().parents[3] / "shared" / "configs" / "peer" / "request.json"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def platform():
    platform = Platform()
    yield platform
    platform.close()


@pytest.fixture
def run(tmp_path, platform):
    gateways = []

    def start(conf, **more):
        gateways.append(Gateway(tmp_path / f"gateway{len(gateways)}", platform.port, {"Web": conf}, **more))
        return gateways[-1]
    yield start
    for gateway in gateways:
        gateway.close()


def test_answers_become_values(server, platform, run):
    run(connector(server, mapping("data", "Meter 1", points=(("t", "double"), ("n", "int")))))
    platform.wait_for("Meter 1", t=21.5)
    wait_until(lambda: platform.latest("Meter 1").get("n", 0) >= 3, "three polls are delivered")


def test_sub_requests_are_merged_into_each_item(server, platform, run):
    run(connector(server, mapping("list", "${id}", points=(("avg", "double"),), subRequests={"avg": {"url": "/${id}/avg"}})))
    platform.wait_for("A", avg=1.5)
    platform.wait_for("B", avg=2.5)


def test_servers_that_misbehave_delay_nobody_else(server, platform, run):
    pages = ["hang", "circle", "garbage", "text", "trickle", "fails", "nowhere"]
    gateway = run(connector(server, *[mapping(p, p, allowRedirects=True) for p in pages], mapping("data", "Good", 0.1, (("n", "int"),))))
    wait_until(lambda: platform.latest("Good").get("n", 0) >= 15, "the good one keeps its beat")
    for words in ["in a circle", "is not HTTP", "within 500 ms", "HTTP 500", "HTTP 404", "/text"]:
        gateway.wait_log(words)
    assert gateway.stop() == 0


def test_a_hung_server_is_asked_once_at_a_time(server, platform, run):
    conf = mapping("hang", "Hung", 0.1)
    conf["timeout"] = 30
    run(connector(server, conf, mapping("data", "Good", 0.1, (("n", "int"),))))
    wait_until(lambda: platform.latest("Good").get("n", 0) >= 10, "polls of the other go on")
    assert server.count("hang") == 1


def test_a_server_of_http_1_0(platform, run):
    server = Server(version="HTTP/1.0")
    run(connector(server, mapping("data", "Old")))
    platform.wait_for("Old", t=21.5)
    server.close()


def test_credentials_go_to_the_own_host_only(server, platform, run):
    other = Server()
    run(connector(server, mapping("login", "Mine"), mapping(other.url + "/data", "Other"),
                  security={"type": "basic", "username": "me", "password": "pa ss"}))
    platform.wait_for("Mine", t=7)
    platform.wait_for("Other", t=21.5)
    assert all("Authorization" not in headers for _, _, _, headers in other.seen)
    other.close()


def test_credentials_of_the_environment_go_before(server, platform, run):
    gateway = run(connector(server, mapping("login", "Mine"), security={"type": "basic", "username": "x", "password": "y"}),
                  env={"REQUEST_BASIC_USERNAME": "me", "REQUEST_BASIC_PASSWORD": "pa ss"})
    platform.wait_for("Mine", t=7)
    assert "pa ss" not in gateway.log_text()


def test_tls_is_verified_where_it_is_wanted(platform, run, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    server = Server(tls=(certificates.server_cert, certificates.server_key))
    run(connector(server, mapping("data", "Trusting"), SSLVerify=False))
    platform.wait_for("Trusting", t=21.5)
    gateway = run(connector(server, mapping("data", "Careful"), SSLVerify=True))
    gateway.wait_log("SSLVerify")
    assert "Careful" not in platform.devices()
    server.close()


SECTIONS = {
    "attributeUpdates": [{"deviceNameFilter": "M.*", "attributeFilter": "limit|mode", "httpMethod": "PUT",
                          "requestUrlExpression": "call/${deviceName}/${attributeKey}", "requestValueExpression": "{\"v\":${attributeValue}}"}],
    "serverSideRpc": [
        {"deviceNameFilter": "M.*", "methodFilter": "echo", "requestUrlExpression": "call/${deviceName}/${requestId}",
         "httpMethod": "POST", "requestValueExpression": "${params}", "httpHeaders": {"Content-Type": "application/json"}},
        {"deviceNameFilter": "M.*", "methodFilter": "body", "requestUrlExpression": "call/b", "httpMethod": "POST",
         "requestValueExpression": "${params}", "responseValueExpression": "${body}"},
        {"deviceNameFilter": "M.*", "methodFilter": "hang", "requestUrlExpression": "hang", "timeout": 5, "responseTimeout": 0.3},
        {"deviceNameFilter": "M.*", "methodFilter": "fails", "requestUrlExpression": "fails", "tries": 3}],
}


def test_calls_and_attribute_updates_of_the_platform(server, platform, run):
    run(connector(server, mapping("data", "M 1"), **SECTIONS))
    platform.wait_for("M 1", t=21.5)
    platform.rpc("M 1", 1, "echo", {"a": 1})
    platform.rpc("M 1", 2, "body", 17)
    platform.rpc("M 1", 3, "hang")
    platform.rpc("M 1", 4, "fails")
    platform.rpc("M 1", 5, "unknown")
    platform.rpc("M 1", 6, "set", "requestUrlExpression=call/s;httpMethod=PUT;value=5;")
    platform.rpc("M 1", 7, "get", "httpMethod=GET;")
    platform.own_rpc(8, "request_any", {"requestUrlExpression": "call/c"})
    replies = platform.wait_replies(8)
    assert replies[1] == {"result": {"value": {"method": "POST", "path": "/call/M%201/1", "body": "{\"a\":1}"}}}
    assert replies[2] == {"result": {"value": "17"}}
    assert replies[3] == {"result": {"error": "Rpc timeout"}}
    assert replies[4] == {"result": {"error": "HTTP 500 Internal Server Error"}}
    assert server.count("fails") == 3
    assert replies[5] == {"error": "Method unknown is not configured for device M 1", "success": False}
    assert replies[6] == {"result": {"value": {"method": "PUT", "path": "/call/s", "body": "5"}}}
    assert "requestUrlExpression parameter is required" in replies[7]["result"]["error"]
    own = replies["own 8"]
    assert own == [{"success": True, "result": {"method": "GET", "path": "/call/c", "body": ""}, "status": 200}]
    platform.update("M 1", limit=5, other=1, mode=True)
    wait_until(lambda: server.count("call/M%201/mode"), "both attributes are told")
    assert [(m, p, b) for m, p, b, _ in server.seen if m == "PUT" and p.startswith("/call/M")] == [
        ("PUT", "/call/M%201/limit", "{\"v\":5}"), ("PUT", "/call/M%201/mode", "{\"v\":true}")]


def test_stopping_does_not_wait_for_a_server(server, platform, run):
    conf = mapping("hang", "Hung")
    conf["timeout"] = 60
    gateway = run(connector(server, conf, mapping("data", "Good")))
    platform.wait_for("Good", t=21.5)
    wait_until(lambda: server.count("hang"), "the server hangs")
    begun = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - begun < 20


@pytest.mark.skipif(not PEER_FILE.exists(), reason="the Python gateway's examples are not there")
def test_the_example_of_the_python_gateway_runs_unmodified(platform, run):
    gateway = run({"_type": "request", **json.loads(PEER_FILE.read_text())})
    gateway.wait_log("processingFunction")
    gateway.wait_log("getdata")
    assert gateway.process.poll() is None
