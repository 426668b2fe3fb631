# SPDX-License-Identifier: Apache-2.0
"""The Request connector and the web as it is: results and durations that are counted, full storage, proxies, HTTP/2, TLS, logins."""
import json
import socket
import subprocess

import pytest

import plant
from plant import BUILD, Certificates, Gateway, Platform, wait_until
from web_peer import Http2Server, Proxy, Server, connector, mapping

RESULTS = ("ok", "moved", "refused", "failed", "timeout", "unreachable", "closed", "tls", "protocol", "limit", "content")


@pytest.fixture
def opened():
    things = []

    def keep(thing):
        things.append(thing)
        return thing
    yield keep
    for thing in reversed(things):
        thing.close()


@pytest.fixture
def server(opened):
    return opened(Server())


@pytest.fixture
def platform(opened):
    return opened(Platform())


@pytest.fixture
def run(tmp_path, platform, opened):
    n = iter(range(100))
    return lambda conf, **more: opened(Gateway(tmp_path / f"gateway{next(n)}", platform.port, {"Web": conf}, **more))


def ask(gateway, *args):
    done = subprocess.run([str(BUILD / "iotgw"), *args, "--json", "-c", str(gateway.directory)], capture_output=True, text=True, timeout=plant.LIMIT_S)
    return json.loads(done.stdout) if done.returncode == 0 else None


def endpoints(gateway):
    """By the last part of its URL."""
    answer = ask(gateway, "status", "--endpoints", "Web")
    return {e["name"].rsplit("/", 1)[1]: e for e in answer["endpoints"]} if answer else {}


def test_every_end_of_a_poll_is_counted_in_its_class(server, run):
    nobody = Server()
    nobody.close()
    pages = {"data": "ok", "moved": "moved", "nowhere": "refused", "fails": "failed", "hang": "timeout", "trickle": "timeout",
             "hangup": "closed", "garbage": "protocol", "circle": "limit", "large": "limit", "endless": "limit", "text": "content"}
    conf = connector(server, *[mapping(p, p, allowRedirects=p == "circle") for p in pages], mapping(nobody.url + "/gone", "Gone"),
                     mapping(server.url.replace("http", "https") + "/tls", "Tls"), mapping("data?x=/unpacked", "U", dataUnpackExpression="${no.such}"),
                     maxBodyBytes=110000)
    gateway = run(conf)
    pages.update(gone="unreachable", tls="tls", unpacked="content")
    wait_until(lambda: len(endpoints(gateway)) == len(pages) and all(e["calls"] for e in endpoints(gateway).values()), "each was polled")
    found = endpoints(gateway)
    for name, result in pages.items():
        counted = {k: found[name][k] for k in RESULTS if found[name][k]}
        assert counted == {result: found[name]["calls"]}, name
        assert sum(found[name]["durations"].values()) == found[name]["calls"], name
        assert found[name]["us"] >= found[name]["longestUs"], name
    assert found["hang"]["longestUs"] > 400000
    whole = ask(gateway, "status")["connectors"][0]["polls"]
    assert whole["calls"] == sum(whole[k] for k in RESULTS) >= sum(e["calls"] for e in found.values())
    text = subprocess.run([str(BUILD / "iotgw"), "status", "--endpoints", "-c", str(gateway.directory)], capture_output=True, text=True).stdout
    assert "timed out" in text and " refused" in text and "/trickle" in text


def test_endpoints_of_a_connector_that_is_not_there(server, run):
    gateway = run(connector(server, mapping("data", "A")))
    wait_until(lambda: endpoints(gateway), "it runs")
    done = subprocess.run([str(BUILD / "iotgw"), "status", "--endpoints", "Nobody", "-c", str(gateway.directory)], capture_output=True, text=True)
    assert done.returncode != 0 and "Nobody" in done.stderr


def test_a_full_storage_makes_polls_skip_beats_and_loses_nothing(server, platform, run):
    # A list of 800 KB every 0.1 s fills the credit that a storage gives, once it takes nothing more.
    gateway = run(connector(server, mapping("many", "Large", 0.1, (("n", "int"), ("text", "string")))),
                  storage={"max_records_count": 100, "overflow": "block"})
    wait_until(lambda: platform.latest("Large").get("n") == 199, "values arrive")
    platform.ask("down")
    wait_until(lambda: endpoints(gateway)["many"]["noRoom"] > 10, "polls are left out")
    asked, rss = server.count("many"), gateway.rss_kib()
    skipped = endpoints(gateway)["many"]["noRoom"]
    wait_until(lambda: endpoints(gateway)["many"]["noRoom"] > skipped + 10, "and on")
    assert server.count("many") == asked
    assert plant.IS_INSTRUMENTED or gateway.rss_kib() < rss + 2048
    platform.ask("up")
    wait_until(lambda: server.count("many") > asked + 3, "polls go on")
    row = ask(gateway, "status")["ledger"]
    assert row["overflow"] == row["age"] == row["rejected"] == 0, row


def test_a_proxy_of_the_environment_is_used_but_for_what_it_excludes(server, platform, run, opened, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    secure = opened(Server(tls=(certificates.server_cert, certificates.server_key)))
    proxy = opened(Proxy())
    conf = connector(server, mapping("data", "Plain"), mapping(secure.url + "/data", "Secure"), mapping(f"http://localhost:{server.port}/data", "Direct"))
    run(conf, env={"http_proxy": proxy.url, "https_proxy": proxy.url, "no_proxy": "localhost"})
    for device in ("Plain", "Secure", "Direct"):
        platform.wait_for(device, t=21.5)
    assert set(proxy.seen) == {f"GET {server.url}/data", f"CONNECT 127.0.0.1:{secure.port}"}


def test_a_proxy_that_is_not_there_is_named(server, run, opened):
    gone = Proxy()
    gone.close()
    gateway = run(connector(server, mapping("data", "A")), env={"http_proxy": gone.url})
    gateway.wait_log("proxy")
    wait_until(lambda: endpoints(gateway).get("data", {}).get("unreachable"), "it is counted")
    assert server.seen == []


def test_http_2_is_taken_where_it_is_offered_and_shares_a_connection(platform, run, opened, tmp_path):
    pytest.importorskip("h2")
    certificates = Certificates(tmp_path / "tls")
    server = opened(Http2Server((certificates.server_cert, certificates.server_key)))
    run(connector(server, *[mapping(f"p{i}", f"Two {i}") for i in range(5)]))
    for i in range(5):
        platform.wait_for(f"Two {i}")
    first = server.n_connections  # calls that begin before the first handshake has ended have their own
    wait_until(lambda: len(server.paths) > 30, "polls go on")
    assert server.protocols == {"h2"}
    assert server.n_connections == first <= 5
    run(connector(server, mapping("list", "More")))
    wait_until(lambda: server.paths.count("/list") > 5, "polls of another gateway")
    assert server.n_connections == first + 1
    assert {f"/p{i}" for i in range(5)} <= set(server.paths)


@pytest.mark.parametrize("fault, words", [
    ("unknown", 'from an unknown CA, \\"test CA\\"'), ("name", "for other names: 10.9.8.7"), ("expired", "the certificate expired on 20"), ("plain", "TLS with")])
def test_a_failure_of_tls_names_its_cause(platform, run, opened, tmp_path, fault, words):
    certificates = Certificates(tmp_path / "tls", name="10.9.8.7" if fault == "name" else "127.0.0.1", have_ended=fault == "expired")
    server = opened(Server(tls=None if fault == "plain" else (certificates.server_cert, certificates.server_key)))
    conf = connector(server, mapping("data", "A"), SSLVerify=True)
    conf["host"] = f"https://127.0.0.1:{server.port}"
    gateway = run(conf, env={} if fault == "unknown" else {"REQUESTS_CA_BUNDLE": certificates.ca})
    gateway.wait_log(words)
    assert (fault in ("unknown", "name")) == ("SSLVerify" in gateway.log_text())
    counted = wait_until(lambda: endpoints(gateway).get("data"), "it is counted")
    assert counted["tls"] == counted["calls"]
    assert platform.devices() == []


def test_trusted_certificates_may_be_named_by_the_environment(platform, run, opened, tmp_path):
    certificates = Certificates(tmp_path / "tls")
    server = opened(Server(tls=(certificates.server_cert, certificates.server_key)))
    run(connector(server, mapping("data", "A"), SSLVerify=True), env={"REQUESTS_CA_BUNDLE": certificates.ca})
    platform.wait_for("A", t=21.5)


def test_credentials_go_elsewhere_only_where_it_is_said(server, platform, run, opened):
    other = opened(Server())
    login = {"type": "basic", "username": "me", "password": "pa ss"}
    run(connector(server, mapping(other.url + "/login", "Other"), security=login, sendCredentials=True))
    platform.wait_for("Other", t=7)


def test_a_login_without_a_password_is_anonymous_with_a_warning(server, platform, run):
    gateway = run(connector(server, mapping("data", "A"), mapping("login", "B"), security={"type": "basic", "username": "me"}))
    platform.wait_for("A", t=21.5)
    gateway.wait_log("without credentials")
    gateway.wait_log("HTTP 401")
    assert all("Authorization" not in headers for _, _, _, headers in server.seen)


def test_another_kind_of_login_is_an_error(server, run):
    gateway = run(connector(server, mapping("data", "A"), security={"type": "kerberos"}))
    gateway.wait_log("is not a kind of security; allowed: anonymous, basic")


def test_tail_shows_what_goes_out_and_what_comes_without_the_password(server, platform, run):
    conf = mapping("data", "A")
    conf["url"] = server.url.replace("//", "//user:secret@") + "/data"
    conf.update(httpMethod="POST", data="ask")
    gateway = run(connector(server, conf))
    platform.wait_for("A", t=21.5)
    done = subprocess.run([str(BUILD / "iotgw"), "tail", "--wire", "-n", "2", "-c", str(gateway.directory)], capture_output=True, text=True, timeout=plant.LIMIT_S)
    assert "ask" in done.stdout and '"t": 21.5' in done.stdout, done
    assert "user:***@" in done.stdout and "secret" not in done.stdout + gateway.log_text()


def test_a_server_that_hangs_in_tls_times_out_every_call(platform, run, opened, server):
    listener = opened(socket.create_server(("127.0.0.1", 0), backlog=100))  # takes connections and says nothing
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    gateway = run(connector(server, *[mapping(f"{url}/{i}", f"Hung {i}") for i in range(6)], mapping("data", "Good", 0.1, (("n", "int"),))))
    wait_until(lambda: platform.latest("Good").get("n", 0) >= 40, "polls of the other go on")
    found = endpoints(gateway)
    for i in range(6):  # 0.5 s each, at beats of 0.2 s: in 4 s some six
        assert found[str(i)]["timeout"] == found[str(i)]["calls"] >= 4, found
        assert found[str(i)]["longestUs"] < 1500000


def test_servers_that_go_and_come_back_are_polled_on(platform, run, opened):
    server = Server()
    port = server.port
    gateway = run(connector(server, mapping("data", "A", 0.1, (("n", "int"),)), mapping("hang", "B", 0.1)))
    platform.wait_for("A")
    server.close()
    gateway.wait_log("not connected")
    wait_until(lambda: endpoints(gateway)["data"]["unreachable"] > 3, "it is gone")
    again = opened(Server(port=port))
    wait_until(lambda: again.count("data") > 3 and again.count("hang"), "polls go on")
    wait_until(lambda: ask(gateway, "status")["connectors"][0]["link"]["state"] != "down", "and it is told")
