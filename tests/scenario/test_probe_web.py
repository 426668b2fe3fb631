# SPDX-License-Identifier: Apache-2.0
"""`iotgw test-connection` for connectors of the web: whether servers are there and let the gateway in, and whether it could be one."""
import json
import socket
import subprocess

from plant import BUILD, Certificates, Gateway, LIMIT_S, Platform, free_port, wait_until
from test_rest import connector as rest_connector, endpoint
from web_peer import Server, connector as request_connector, mapping as web_mapping


def mapping(url, **more):
    return web_mapping(url, "A", **{"timeout": LIMIT_S, **more})


def tried(made, conf, *args, gateway=None):
    """Exit code, and what is said of each link."""
    gateway = gateway or made(Gateway, 1883, {"Web": conf}, start=False)
    run = subprocess.run([str(BUILD / "iotgw"), "-c", str(gateway.directory), "test-connection", "Web", "--json", *args], capture_output=True,
                         text=True, timeout=LIMIT_S, check=False)
    assert run.stdout, run.stderr
    links = json.loads(run.stdout)["links"]
    return run.returncode, {link["link"]: (link["state"], link["reason"]) for link in links}


def test_each_url_is_asked_once_and_its_failure_named(made):
    server, closed = made(Server), free_port()
    sections = [{"deviceNameFilter": ".*", "methodFilter": ".*", "requestUrlExpression": url, "requestValueExpression": "${params}", "httpMethod": "POST"}
                for url in (f"http://127.0.0.1:{closed}/${{deviceName}}", "http://${deviceName}/x", "/call")]
    names = ("data", "login", "text", "missing", "circle", "garbage", "call")
    conf = request_connector(server, *(mapping(f"/{name}", **({"httpMethod": "POST"} if name == "call" else {})) for name in names),
                             mapping("http://no-such-host.invalid/x"), serverSideRpc=sections)
    code, links = tried(made, conf)
    said = {name.rsplit("/", 1)[1] if name.startswith(server.url) else name: how for name, how in links.items()}
    assert code == 1 and len(said) == len(names) + 2
    assert said["data"] == ("up", "") and said["call"] == ("up", "")
    assert said["login"] == ("failed", "HTTP 401 Unauthorized: the server refuses the login")
    assert said["text"][0] == "degraded" and said["text"][1].startswith("the answer cannot be used: ")
    assert said["missing"] == ("degraded", "HTTP 404 Not Found")
    assert said["circle"][0] == "degraded" and "allowRedirects" in said["circle"][1]
    assert said["garbage"][0] == "failed"
    assert "no-such-host.invalid" in said["http://no-such-host.invalid/x"][1]
    assert "refuses the connection" in said[f"http://127.0.0.1:{closed}"][1]
    assert [server.count(name) for name in names[:-1]] == [1] * (len(names) - 1)
    assert server.count("call") == 0  # OPTIONS in its place, which the server does not know


def test_a_login_that_is_right_and_a_server_that_is_silent(made):
    server = made(Server)
    login = {"type": "basic", "username": "me", "password": "pa ss"}
    assert tried(made, request_connector(server, mapping("/login"), security=login)) == (0, {f"{server.url}/login": ("up", "")})
    code, links = tried(made, request_connector(server, mapping("/hang")), "--seconds", "1")
    assert code == 1 and links == {f"{server.url}/hang": ("connecting", "within 1 s")}


def test_a_certificate_of_a_polled_server_is_checked(made):
    trusted = made(Certificates)
    server = made(Server, tls=(trusted.server_cert, trusted.server_key))
    code, links = tried(made, request_connector(server, mapping("/data"), SSLVerify=True))
    assert code == 1 and "SSLVerify" in links[f"{server.url}/data"][1]
    assert tried(made, request_connector(server, mapping("/data"), SSLVerify=False))[0] == 0


def test_a_server_that_could_listen_is_not_reached_meanwhile(made):
    server = made(Server)
    requests = {"serverSideRpc": [{"deviceNameFilter": ".*", "methodFilter": ".*", "requestUrlExpression": f"{server.url}/call/${{deviceName}}"}]}
    assert tried(made, rest_connector(requests=requests)) == (0, {"server": ("up", ""), server.url: ("up", "")})
    assert not [path for _, path, *_ in server.seen if path.startswith("/call")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, links = tried(made, rest_connector(port=taken.getsockname()[1]))
    assert code == 1 and links["server"][0] == "failed" and "in use" in links["server"][1] and "or another program" in links["server"][1]
    code, links = tried(made, rest_connector(host="192.0.2.1"))
    assert code == 1 and "192.0.2.1" in links["server"][1]


def test_certificate_and_key_of_the_server(made):
    good, other, old = made(Certificates), made(Certificates), made(Certificates, have_ended=True)

    def said(cert, key):
        return tried(made, rest_connector(SSL=True, security={"cert": cert, "key": key}))[1]["server"]
    state, reason = said(good.server_cert, good.server_key)  # of two days
    assert state == "degraded" and "ends soon" in reason
    state, reason = said(good.server_cert, other.server_key)
    assert state == "failed" and "does not belong to" in reason
    state, reason = said(old.server_cert, old.server_key)
    assert state == "failed" and "has ended on 2020-01-02" in reason
    assert said("/no/such.pem", good.server_key)[0] == "failed"
    assert tried(made, rest_connector(SSL=True)) == (0, {"server": ("up", "")})


def test_a_gateway_that_runs_goes_on(made):
    platform, server = made(Platform), made(Server)
    gateway = made(Gateway, platform.port, {"Web": request_connector(server, mapping("/data"))})
    platform.wait_for("A", t=21.5)
    assert tried(made, None, gateway=gateway)[0] == 0
    seen = server.count("data")
    wait_until(lambda: server.count("data") > seen + 1, "polls go on")


def test_an_endpoint_that_is_left_out_is_named(made):
    gateway = made(Gateway, 1883, {"Web": rest_connector(endpoint(), endpoint())}, start=False)
    run = subprocess.run([str(BUILD / "iotgw"), "-c", str(gateway.directory), "test-connection", "Web"], capture_output=True, text=True,
                         timeout=LIMIT_S, check=False)
    assert "mapping[1].endpoint" in run.stderr and "stands twice" in run.stderr and run.stdout == "Web server: connected\n"
