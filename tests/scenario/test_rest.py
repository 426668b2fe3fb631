# SPDX-License-Identifier: Apache-2.0
"""The REST connector, end to end: devices that send over HTTP, well and badly, and servers that the platform's requests reach."""
import base64
import concurrent.futures
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from plant import BUILD, Certificates, Gateway, LIMIT_S, Platform, free_port, wait_until

PEER_FILE = pathlib.Path(__file__).resolve().parents[3] / "shared" / "configs" / "peer" / "rest.json"
FILE = {"type": "file", "data_folder_path": "./data", "max_file_count": 1000, "max_records_per_file": 1000}
LOGIN = "Basic " + base64.b64encode(b"me:pa ss").decode()


def endpoint(path="/data", *, methods=("POST",), name="${sn}", points=(("t", "double"), ("seq", "int")), **more):
    return {"endpoint": path, "HTTPMethods": list(methods), "converter": {
        "type": "json", "deviceInfo": {"deviceNameExpression": name, "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "meter"},
        "timeseries": [{"key": k, "type": kind, "value": "${%s}" % k} for k, kind in points]}, **more}


def connector(*mappings, requests=None, **server):
    return {"_type": "rest", "server": {"host": "127.0.0.1", "port": free_port(), **server}, "mapping": list(mappings) or [endpoint()],
            **({"requestsMapping": requests} if requests else {})}


class Plant:
    def __init__(self, directory, conf, **more):
        self.platform = Platform()
        self.port = conf["server"]["port"]
        self.tls = None
        self.gateway = Gateway(directory, self.platform.port, {"Rest": conf}, **more)
        self.wait_listening()

    def wait_listening(self):
        def listens():
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                return False
        wait_until(listens, "the connector listens")

    def connection(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=LIMIT_S, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)

    def ask(self, method="POST", path="/data", body=None, headers=(), connection=None):
        connection = connection or self.connection()
        body = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, text, answer.headers

    def raw(self, data):
        """All that comes until the server closes, or is silent for a moment."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as s:
            s.sendall(data)
            out = b""
            while b := s.recv(65536):
                out += b
            return out.decode()

    def close(self):
        self.gateway.close()
        self.platform.close()


@pytest.fixture
def run(tmp_path):
    plants = []

    def start(conf, **more):
        plants.append(Plant(tmp_path / f"gateway{len(plants)}", conf, **more))
        return plants[-1]
    yield start
    for plant in plants:
        plant.close()


def test_requests_become_values(run):
    plant = run(connector(endpoint(), endpoint("/dev/{sn}/{room:[a-z]+}", points=(("t", "double"), ("room", "string")), methods=("GET", "POST"))))
    assert plant.ask(body={"sn": "A", "t": 21.5})[:2] == (200, "")
    assert plant.ask(body=[{"sn": "B", "t": 1}, {"sn": "C", "t": 2}])[0] == 200
    assert plant.ask("GET", "/dev/D%201/hall?t=7")[0] == 200
    assert plant.ask("POST", "/data", "sn=E&t=3.5", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 200
    for device, values in {"A": {"t": 21.5}, "B": {"t": 1}, "C": {"t": 2}, "D 1": {"t": 7, "room": "hall"}, "E": {"t": 3.5}}.items():
        plant.platform.wait_for(device, **values)


def curl(plant, *args, path="/data"):
    scheme = "https" if plant.tls else "http"
    run = subprocess.run(["curl", "-sS", "-m", "20", "-w", "\n%{http_code}", *args, f"{scheme}://127.0.0.1:{plant.port}{path}"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.rsplit("\n", 1)


def test_curl_in_its_ways(run, tmp_path):
    plant = run(connector(endpoint(points=(("t", "double"), ("note", "string")))))
    (tmp_path / "file").write_bytes(b"\0\1\2")
    (tmp_path / "large").write_text(json.dumps({"sn": "Large", "t": 6, "note": "x" * 200000}))
    assert curl(plant, "-d", '{"sn":"One","t":1}')[1] == "200"
    assert curl(plant, "-0", "-d", '{"sn":"Zero","t":2}')[1] == "200"
    assert curl(plant, "-F", "sn=Form", "-F", "t=3", "-F", f"file=@{tmp_path}/file")[1] == "200"
    assert curl(plant, "-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json", "-d", '{"sn":"Chunked","t":4}')[1] == "200"
    assert curl(plant, "-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/large")[1] == "200"
    for device, t in {"One": 1, "Zero": 2, "Form": 3, "Chunked": 4, "Large": 6}.items():
        plant.platform.wait_for(device, t=t)


def test_what_is_wrong_is_named(run):
    plant = run(connector(endpoint(methods=("POST", "PUT")), endpoint("/closed", security={"type": "basic", "username": "me", "password": "pa ss"}),
                          endpoint("/token", security={"type": "token", "token": "s3cret"}),
                          endpoint("/told", response={"unsuccessfulResponse": "NO"}), maxBodyBytes=1000))
    json_type = {"Content-Type": "application/json"}
    cases = [(("POST", "/nowhere", {}), 404, "nothing at this path"), (("GET", "/data"), 405, "method"), (("POST", "/closed", {}), 401, "password"),
             (("POST", "/token", {}), 401, "token"), (("POST", "/data", "{\"t\":", json_type), 400, "not JSON"), (("POST", "/data", "[1]"), 400, "item 0"),
             (("POST", "/data", "5"), 400, "neither"), (("POST", "/data", "x" * 1001), 413, "1000 bytes"), (("POST", "/data"), 415, "no data"),
             (("POST", "/data", {"t": 1}), 422, "no device name"), (("POST", "/data", [{"sn": "A", "t": 1}, {"t": 2}]), 422, "item 2")]
    for args, status, words in cases:
        got, text, headers = plant.ask(*args)
        assert got == status and words in json.loads(text)["error"], (args, got, text)
        if status == 405:
            assert headers["Allow"] == "POST, PUT"
        if status == 401:
            assert headers["WWW-Authenticate"].startswith("Bearer" if args[1] == "/token" else "Basic")
    plant.platform.wait_for("A", t=1)
    assert plant.ask("GET", "/told")[:2] == (405, "NO")
    assert plant.ask("POST", "/told")[:2] == (415, "NO")
    wrong = "Basic " + base64.b64encode(b"me:pa sS").decode()
    assert plant.ask("POST", "/closed", {"sn": "B", "t": 1}, {"Authorization": wrong})[0] == 401
    assert plant.ask("POST", "/closed", {"sn": "B", "t": 1}, {"Authorization": LOGIN})[0] == 200
    assert plant.ask("POST", "/token", {"sn": "C", "t": 1}, {"Authorization": "Bearer s3cret"})[0] == 200
    assert "pa ss" not in plant.gateway.log_text() and "s3cret" not in plant.gateway.log_text()


def test_what_the_server_has_seen_is_counted(run):
    plant = run(connector(endpoint(), endpoint("/closed", security={"type": "basic", "username": "me", "password": "pa ss"}), maxBodyBytes=1000))
    for args, n in ((("POST", "/data", {"sn": "A", "t": 1}), 3), (("POST", "/nowhere", {}), 2), (("GET", "/data"), 1), (("POST", "/closed", {}), 4),
                    (("POST", "/data", "x" * 1001), 1), (("POST", "/data", "5"), 2)):
        for _ in range(n):
            plant.ask(*args)
    plant.raw(b"nonsense\r\n\r\n")
    ask = [str(BUILD / "iotgw"), "-c", str(plant.gateway.directory), "status"]
    seen = json.loads(subprocess.run([*ask, "--json"], capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout)["connectors"][0]["server"]
    assert {k: v for k, v in seen.items() if v and k in ("ok", "unauthorized", "notFound", "wrongMethod", "tooLarge", "wrong", "busy", "failed", "late")} == {
        "ok": 3, "unauthorized": 4, "notFound": 2, "wrongMethod": 1, "tooLarge": 1, "wrong": 3}
    assert seen["requests"] == 14 and seen["connections"] >= 14 and seen["bytesIn"] > 1000 and seen["bytesOut"] > 1000 and seen["tooMany"] == 0
    said = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout
    assert "14 requests, 4 without login, 2 not found, 1 with a wrong method, 1 too large, 3 wrong\n" in said


def test_hostile_heads_are_refused(run):
    plant = run(connector())
    host = "Host: a\r\n"
    body = "Content-Length: 2\r\n"
    cases = [("GET / HTTP/1.1\nHost: a\n\r\n\r\n", 400), (f"POST /data HTTP/1.1\r\n{host}{body}{body}\r\n", 400), ("nonsense\r\n\r\n", 400),
             (f"POST /data HTTP/1.1\r\n{host}{body}Transfer-Encoding: chunked\r\n\r\n", 400), (f"POST /data HTTP/1.1\r\n{host}Content-Length: 2x\r\n\r\n", 400),
             (f"POST /data HTTP/1.1\r\n{host}Content-Length : 2\r\n\r\n", 400), ("POST /data HTTP/1.1\r\n\r\n", 400),
             (f"POST /data HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n", 501), (f"POST /data HTTP/2.0\r\n{host}\r\n", 505),
             (f"GET /{'a' * 20000} HTTP/1.1\r\n", 414), (f"GET / HTTP/1.1\r\nX: {'a' * 20000}", 431),
             (f"POST /data HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n", 400)]
    for text, status in cases:
        answer = plant.raw(text.encode())
        assert answer.startswith(f"HTTP/1.1 {status} "), (text[:60], answer)
        assert json.loads(answer.split("\r\n\r\n", 1)[1])["error"] and answer.count("\r\nDate:") == 1
    assert plant.ask(body={"sn": "A", "t": 1})[0] == 200


def test_pipelined_requests_are_answered_in_order(run):
    plant = run(connector(endpoint(), endpoint("/two", response={"successResponse": "second"})), storage=FILE)
    text = ""
    for i in range(50):
        body = json.dumps({"sn": "Pipe", "t": i})
        text += f"POST {'/two' if i % 2 else '/data'} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    answer = plant.raw((text + "GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").encode())
    parts = answer.split("HTTP/1.1 ")[1:]
    assert [p.endswith("second") for p in parts[:50]] == [bool(i % 2) for i in range(50)]
    assert all(p.startswith("200") for p in parts[:50]) and parts[50].startswith("404") and len(parts) == 51
    plant.platform.wait_for("Pipe", t=49)


def test_answers_of_the_platform_and_of_a_web_page(run):
    conf = connector(
        endpoint("/await", response={"responseExpected": True, "responseAttribute": "result", "timeout": 20}),
        endpoint("/never", response={"responseExpected": True, "responseAttribute": "never", "timeout": 0.2, "unsuccessfulResponse": "LATE"}),
        requests={"attributeRequests": [{"endpoint": "/attrs", "HTTPMethods": ["POST"], "type": "shared", "deviceNameExpression": "${dev}",
                                         "attributeNameExpression": "${k1}${k2}"}]}, allowedOrigins=["https://a.example"])
    plant = run(conf)
    platform = plant.platform
    with concurrent.futures.ThreadPoolExecutor() as pool:
        one, two = (pool.submit(plant.ask, "POST", "/await", {"sn": n, "t": 1}) for n in ("One", "Two"))
        for name in ("One", "Two"):
            platform.wait_for(name, responseExpected=True)
        platform.update("Two", other=1)
        platform.update("Two", result={"a": [1, True]})
        assert two.result(LIMIT_S)[:2] == (200, '{"a":[1,true]}')
        platform.update("One", result=True)
        assert one.result(LIMIT_S)[:2] == (200, "True")
    assert plant.ask("POST", "/never", {"sn": "One", "t": 1})[:2] == (408, "LATE")
    platform.ask('shared One {"limit":7,"mode":"eco"}')
    status, text, _ = plant.ask("POST", "/attrs", {"dev": "One", "k1": "limit"})
    assert (status, json.loads(text)) == (200, {"device": "One", "id": 1, "value": 7})
    status, text, _ = plant.ask("POST", "/attrs", {"dev": "One", "k1": "limit", "k2": "mode"})
    assert (status, json.loads(text)) == (200, {"device": "One", "id": 2, "values": {"limit": 7, "mode": "eco"}})
    status, text, _ = plant.ask("POST", "/attrs", [{"dev": "One", "k1": "mode"}, {"dev": "Two", "k1": "limit"}, {"dev": "One", "k1": "limit", "k2": "mode"}])
    assert (status, json.loads(text)) == (200, [{"device": "One", "id": 3, "value": "eco"}, {"device": "Two", "id": 4, "value": None},
                                                {"device": "One", "id": 5, "values": {"limit": 7, "mode": "eco"}}])
    status, text, _ = plant.ask("POST", "/attrs", [{"dev": "One", "k1": "mode"}, {"dev": "One"}])
    assert status == 422 and "item 2" in text
    assert plant.ask("POST", "/attrs", [{"dev": "One", "k1": "mode"}] * 1001)[0] == 413
    assert plant.ask("POST", "/attrs", {"dev": "One"})[0] == 422
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    status, _, headers = plant.ask("OPTIONS", "/attrs", headers=preflight)
    assert status == 204 and headers["Access-Control-Allow-Origin"] == "https://a.example" and headers["Access-Control-Allow-Methods"] == "POST"
    assert plant.ask("OPTIONS", "/attrs", headers={**preflight, "Origin": "https://b.example"})[0] == 405
    assert plant.ask("POST", "/await/x", {"t": 1}, {"Origin": "https://a.example"})[2]["Access-Control-Allow-Origin"] == "https://a.example"


class Device:
    """An HTTP server that devices have."""

    def __init__(self):
        self.seen, self.over, device = [], threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def respond(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                device.seen.append((self.command, self.path, body.decode(), dict(self.headers)))
                status = 500 if self.path.startswith("/fails") else 200
                out = b"plain" if self.path.startswith("/text") else json.dumps({"ok": True}).encode()
                if self.path.startswith("/hang"):
                    device.over.wait(LIMIT_S)
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_PUT = respond

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def test_calls_and_attribute_updates_reach_servers_of_devices(run):
    device = Device()
    section = {"deviceNameFilter": "P.*", "HTTPMethod": "POST", "httpHeaders": {"Content-Type": "application/json"}}
    plant = run(connector(requests={
        "attributeUpdates": [{**section, "attributeFilter": "limit|mode", "requestUrlExpression": device.url + "/set/${deviceName}/${attributeKey}",
                              "valueExpression": "{\"v\":${attributeValue}}", "security": {"type": "basic", "username": "me", "password": "pa ss"}}],
        "serverSideRpc": [
            {**section, "methodFilter": "echo", "requestUrlExpression": device.url + "/${deviceName}/${requestId}"},
            {**section, "methodFilter": "form", "requestUrlExpression": device.url + "/form", "httpHeaders": {"Content-Type": "multipart/form-data"},
             "valueExpression": "{\"a\":\"${params.a}\",\"n\":5}"},
            {**section, "methodFilter": "text", "requestUrlExpression": device.url + "/text"},
            {**section, "methodFilter": "fails", "HTTPMethod": "GET", "tries": 3, "requestUrlExpression": device.url + "/fails"},
            {**section, "methodFilter": "hang", "timeout": 0.3, "requestUrlExpression": device.url + "/hang"},
            {**section, "methodFilter": "nobody", "requestUrlExpression": f"http://127.0.0.1:{free_port()}/"}]}))
    plant.ask(body={"sn": "P 1", "t": 1})
    plant.platform.wait_for("P 1", t=1)
    for number, method in enumerate(["echo", "form", "text", "fails", "hang", "nobody", "unknown", "set"], 1):
        params = {"a": "x"} if method != "set" else f"requestUrlExpression={device.url}/s;HTTPMethod=PUT;value=5;"
        plant.platform.rpc("P 1", number, method, params)
    replies = plant.platform.wait_replies(8)
    assert replies[1] == {"result": {"ok": True}} and replies[3] == {"result": "plain"} and replies[8] == {"result": {"ok": True}}
    assert replies[4] == {"result": {"error": "Internal Server Error", "code": 500}}
    assert sum(path == "/fails" for _, path, _, _ in device.seen) == 3
    assert replies[5] == {"result": {"error": "Timeout", "code": 408}}
    assert "refuses" in replies[6]["result"]["error"] and "code" not in replies[6]["result"]
    assert replies[7] == {"error": "Method unknown is not configured for device P 1", "success": False}
    seen = {path: (method, body, headers) for method, path, body, headers in device.seen}
    assert seen["/P%201/1"][:2] == ("POST", '{"a":"x"}') and seen["/s"][:2] == ("PUT", "5")
    form = seen["/form"]
    assert 'name="a"\r\n\r\nx\r\n' in form[1] and 'name="n"\r\n\r\n5\r\n' in form[1] and form[2]["Content-Type"].split("boundary=")[1] in form[1]
    plant.platform.update("P 1", limit=5, other=1, mode=True)
    wait_until(lambda: any(path.endswith("/mode") for _, path, _, _ in device.seen), "both attributes are told")
    told = [(p, b, h.get("Authorization")) for _, p, b, h in device.seen if p.startswith("/set")]
    assert told == [("/set/P%201/limit", '{"v":5}', LOGIN), ("/set/P%201/mode", '{"v":true}', LOGIN)]
    device.over.set()
    device.http.shutdown()


def test_nothing_that_was_answered_with_200_is_lost_by_a_kill(run):
    plant = run(connector(), storage=FILE)
    plant.platform.ask("down")
    sent, stop = [[] for _ in range(8)], threading.Event()

    def send(mine, number):
        connection = plant.connection()
        for i in range(100000):
            if stop.is_set():
                return
            try:
                if plant.ask(body={"sn": f"K{number}", "seq": i, "t": i}, connection=connection)[0] == 200:
                    mine.append(i)
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=send, args=(mine, n)) for n, mine in enumerate(sent)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(map(len, sent)) > 2000, "some are answered")
    plant.gateway.stop(signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    plant.gateway.start()
    plant.platform.ask("up")
    for number, mine in enumerate(sent):
        wait_until(lambda: plant.platform.latest(f"K{number}").get("seq", -1) >= mine[-1], "the last one arrives")  # noqa: B023
        assert plant.platform.ask(f"missing 0 {mine[-1] + 1} K{number}")["missing"] == []


def test_a_full_storage_answers_503_and_loses_nothing(run):
    plant = run(connector(), storage={**FILE, "max_file_count": 20, "max_records_per_file": 100})
    plant.platform.ask("down")
    connection, stored = plant.connection(), []
    for i in range(5000):
        status, text, headers = plant.ask(body={"sn": "Full", "t": i, "seq": i}, connection=connection)
        if status == 503:
            assert headers["Retry-After"] == "1" and "storage" in json.loads(text)["error"]
            break
        assert status == 200
        stored.append(i)
    assert status == 503 and len(stored) >= 1000
    status, _, headers = plant.ask(body={"sn": "Full", "t": 1}, connection=connection)
    assert status == 503 and headers["Retry-After"] == "1"
    plant.platform.ask("up")
    wait_until(lambda: plant.ask(body={"sn": "Full", "t": 2}, connection=connection)[0] == 200, "there is room again")
    wait_until(lambda: plant.platform.latest("Full").get("seq", -1) >= stored[-1], "what was stored arrives")
    assert plant.platform.ask(f"missing 0 {stored[-1] + 1} Full")["missing"] == []


def test_tls_with_files_and_with_a_certificate_of_its_own(run, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    plant = run(connector(SSL=True, security={"cert": certificates.server_cert, "key": certificates.server_key}))
    plant.tls = ssl.create_default_context(cafile=certificates.ca)
    assert plant.ask(body={"sn": "Safe", "t": 1})[0] == 200
    plant.platform.wait_for("Safe", t=1)
    with socket.create_connection(("127.0.0.1", plant.port), LIMIT_S) as s:
        s.sendall(b"POST /data HTTP/1.1\r\nHost: a\r\n\r\n")
        while s.recv(1000):
            pass
    plant.gateway.wait_log("a connection failed")
    own = run(connector(SSL=True))
    own.tls = ssl.create_default_context(cafile=str(own.gateway.directory / "domain_srv.crt"))
    assert own.ask(body={"sn": "Own", "t": 2})[0] == 200
    key = own.gateway.directory / "domain_srv.key"
    assert key.stat().st_mode & 0o77 == 0
    before = key.read_bytes()
    shown = subprocess.run(["openssl", "x509", "-noout", "-text", "-in", own.gateway.directory / "domain_srv.crt"], capture_output=True, text=True, check=True).stdout
    assert "prime256v1" in shown and "IP Address:127.0.0.1" in shown
    own.gateway.stop()
    own.gateway.start()
    own.wait_listening()
    assert own.ask(body={"sn": "Own", "t": 3})[0] == 200 and key.read_bytes() == before
    durable = run(connector(SSL=True), storage=FILE)
    assert (durable.gateway.directory / "data" / "domain_srv.key").exists() and not (durable.gateway.directory / "domain_srv.key").exists()


def test_a_port_in_use_is_told_and_tried_again(tmp_path):
    conf, platform = connector(), Platform()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", conf["server"]["port"]))
        other.listen()
        gateway = Gateway(tmp_path, platform.port, {"Rest": conf})
        gateway.wait_log("Address already in use")
    gateway.wait_log("listening")
    assert gateway.stop() == 0
    platform.close()


def test_slow_clients_hinder_nobody_and_stopping_waits_for_none(run):
    plant = run(connector(endpoint(), endpoint("/await", response={"responseExpected": True, "responseAttribute": "x", "timeout": 60})))
    slow = [socket.create_connection(("127.0.0.1", plant.port)) for _ in range(200)]
    for s in slow:
        s.sendall(b"POST /data HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    for s in slow[100:]:
        s.close()  # in the middle of its request
    waiting = plant.connection()
    waiting.request("POST", "/await", json.dumps({"sn": "W", "t": 1}))
    plant.platform.wait_for("W", responseExpected=True)
    assert plant.ask(body={"sn": "Fast", "t": 1})[0] == 200
    assert plant.gateway.stop() == 0
    assert waiting.getresponse().status == 503
    assert "left behind" not in plant.gateway.log_text()
    for s in slow:
        s.close()


@pytest.mark.skipif(not PEER_FILE.exists(), reason="the Python gateway's examples are not there")
def test_the_example_of_the_python_gateway_runs_unmodified(tmp_path):
    platform = Platform()
    conf = PEER_FILE.read_text()
    gateway = Gateway(tmp_path, platform.port, {"Rest": {"_type": "rest", **json.loads(conf)}})
    gateway.wait_log("listening") if "Address already in use" not in gateway.log_text() else None
    connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=LIMIT_S)
    connection.request("POST", "/my_devices", json.dumps({"sensorName": "SN-1", "sensorType": "x", "sensorModel": "M", "temp": 20.5, "hum": 40}))
    assert connection.getresponse().status == 200
    platform.wait_for("SN-1", temperature=20.5, humidity=40, model="M")
    gateway.close()
    platform.close()


def test_check_names_what_would_fail_at_the_first_request(tmp_path):
    section = {"deviceNameFilter": ".*", "requestUrlExpression": "http://h/", "HTTPMethod": "GET"}
    conf = {"server": {"host": "127.0.0.1", "port": 5000, "SSL": "yes"},
            "mapping": [{"endpoint": "/a", "HTTPMethods": ["POST"],
                         "converter": {"type": "json", "deviceInfo": {"deviceNameExpression": "x"}, "timeseries": [{"key": "t", "value": "${t}"}]}}],
            "requestsMapping": {"serverSideRpc": [{**section, "methodFilter": "a", "requestUrlExpression": "ftp://h/"}, {**section, "methodFilter": "b", "HTTPMethod": "G ET"},
                                                  {**section, "methodFilter": "c", "httpHeaders": {"A b": "1"}}]}}
    (tmp_path / "r.json").write_text(json.dumps(conf))
    (tmp_path / "tb_gateway.json").write_text(json.dumps({"thingsboard": {"host": "h", "security": {"accessToken": "t"}}, "storage": {"type": "memory"},
                                                          "connectors": [{"type": "rest", "name": "R", "configuration": "r.json"}]}))
    done = subprocess.run([str(BUILD / "iotgw"), "check", "-c", str(tmp_path)], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    said = done.stdout + done.stderr
    assert done.returncode == 78, said
    for text in ('server.SSL: found "yes"; expected true or false; the file is not used', "serverSideRpc[0].requestUrlExpression", "expected http or https",
                 'serverSideRpc[1].HTTPMethod: "G ET" is not a method', 'serverSideRpc[2].httpHeaders: "A b" cannot be a header'):
        assert text in said, said
