# SPDX-License-Identifier: Apache-2.0
"""How the gateway logs in to the platform, whom it trusts, and what it says when that fails."""
import contextlib
import datetime
import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest
from plant import BUILD, Broker, Certificates, Gateway, Platform, mqtt_connector, wait_until


def tls_platform(made, certificates, *args):
    return made(Platform, "--cert", certificates.server_cert, "--key", certificates.server_key, *args)


def login(platform):
    """Of the one session that is open, once there is one."""
    return wait_until(lambda: (platform.ask("logins")["logins"] or [None])[0], "the gateway is logged in")


def gateway_with(made, platform, security, env=None, host="127.0.0.1", **thingsboard):
    return made(Gateway, platform.port, {}, thingsboard={"host": host, "security": security, **thingsboard}, env=env)


def ready(gateway):
    gateway.wait_log("connected to the platform")
    return gateway


def test_access_token(made):
    platform = made(Platform, "--token", "token-of-7")
    ready(gateway_with(made, platform, {"accessToken": "token-of-7"}))
    assert login(platform) == {"username": "token-of-7", "device": "gateway", "version": 5, "gateway": True}


@pytest.mark.parametrize("kind", ["tlsAccessToken", "accessToken"])
def test_access_token_over_tls(made, kind):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates, "--token", "token-of-7")
    ready(gateway_with(made, platform, {"type": kind, "accessToken": "token-of-7", "caCert": certificates.ca}))
    assert login(platform)["device"] == "gateway"


def test_no_client_certificate_is_shown_where_a_token_is_the_login(made):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates, "--token", "token-of-7")
    ready(gateway_with(made, platform, {"type": "accessToken", "accessToken": "token-of-7", "caCert": certificates.ca,
                                        "cert": certificates.client_cert, "privateKey": certificates.client_key}))
    assert login(platform)["device"] == "gateway"


@pytest.mark.parametrize("credential, security", [
    ("client-7 user-7 pass-7", {"username": "user-7", "password": "pass-7", "clientId": "client-7"}),
    ("- user-7 pass-7", {"username": "user-7", "password": "pass-7"}),
    ("client-7 - -", {"clientId": "client-7"})])
def test_user_password_and_client_id(made, credential, security):
    platform = made(Platform)
    platform.ask(f"credential basic hall {credential}")
    ready(gateway_with(made, platform, {"type": "usernamePassword", **security}))
    assert login(platform)["device"] == "hall"


@pytest.mark.parametrize("kind", ["x509Certificate", "tlsPrivateKey"])
def test_client_certificate(made, kind):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates)
    platform.ask(f"credential certificate hall {certificates.client_cert}")
    ready(gateway_with(made, platform, {"type": kind, "caCert": certificates.ca, "cert": certificates.client_cert, "privateKey": certificates.client_key}))
    assert login(platform) == {"username": "", "device": "hall", "version": 5, "gateway": True}


def test_unknown_client_certificate_is_refused(made):
    certificates, others = made(Certificates), made(Certificates)
    platform = tls_platform(made, certificates)
    platform.ask(f"credential certificate hall {others.client_cert}")
    gateway = gateway_with(made, platform, {"type": "x509Certificate", "caCert": certificates.ca, "cert": certificates.client_cert,
                                            "privateKey": certificates.client_key})
    gateway.wait_log("refuses the connection")
    assert "code=135" in gateway.log_text()


def test_certificate_paths_are_relative_to_the_configuration(made):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates)
    gateway = made(Gateway, platform.port, {}, thingsboard={"security": {"accessToken": "t", "caCert": "mine.pem"}}, start=False)
    (gateway.directory / "mine.pem").write_text(pathlib.Path(certificates.ca).read_text())
    gateway.start()
    ready(gateway)


def test_anonymous(made):
    platform = made(Platform)
    ready(gateway_with(made, platform, {"type": "anonymous"}))
    assert login(platform)["username"] == ""


PROVISIONING = {"provisionDeviceKey": "k", "provisionDeviceSecret": "s"}


@pytest.mark.parametrize("key, thingsboard", [
    ("security.accessToken", {"security": {"accessToken": "${file:none}"}}),
    ("security.password", {"security": {"username": "u", "password": "${env:NONE_OF_THIS_NAME}"}}),
    ("security.cert", {"security": {"type": "x509Certificate", "caCert": "tb_gateway.json"}}),
    ("provisioning.type", {"security": None, "provisioning": {"type": "NOPE", **PROVISIONING}}),
    ("provisioning.caCert", {"security": None, "provisioning": {"type": "X509_CERTIFICATE", **PROVISIONING}}),
    ("\"security\" is missing", {"security": None})])
def test_nobody_is_logged_in_without_what_was_meant_to_be(made, key, thingsboard):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard=thingsboard)
    gateway.wait_log("there is no way to log in to the platform")
    line = next(line for line in gateway.log_text().splitlines() if "there is no way" in line)
    assert key in line.replace('\\"', '"'), line
    gateway.wait_log("Plant: connected")
    broker.publish("sensors/a/data", {"seq": 1})
    main = gateway.directory / "tb_gateway.json"
    content = json.loads(main.read_text())
    content["thingsboard"].pop("provisioning", None)
    content["thingsboard"]["security"] = {"accessToken": "t"}
    assert platform.stats()["sessions"] == 0 and platform.ask("logins")["logins"] == []
    main.write_text(json.dumps(content))
    platform.wait_for("a", seq=1)  # what came meanwhile was kept
    assert login(platform)["username"] == "t"


@pytest.mark.parametrize("version, code", [(5, 134), (3, 5)])
def test_a_wrong_token_is_said_and_not_hammered(made, version, code):
    platform = made(Platform, "--token", "right-token")
    if version == 3:
        platform.ask("refuse 0x84")
    gateway = gateway_with(made, platform, {"accessToken": "wrong-token-word"})
    if version == 3:
        gateway.wait_log("trying MQTT 3.1.1")
        platform.ask("refuse 0")
    gateway.wait_log("refuses the connection")
    text = gateway.log_text()
    assert f"code={code}" in text and "wrong-token-word" not in text
    assert platform.stats()["refused_logins"] <= 3


def test_environment_is_merged_key_by_key(made):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates, "--token", "token-of-env")
    gateway_with(made, platform, {"type": "usernamePassword", "username": "u", "caCert": certificates.ca}, env={"TB_GW_ACCESS_TOKEN": "token-of-env"})
    assert login(platform)["username"] == "token-of-env"


# --- whom the gateway trusts -----------------------------------------------------------------------------------------


def failing(made, certificates, security, host="127.0.0.1", **more):
    platform = tls_platform(made, certificates)
    gateway = gateway_with(made, platform, {"accessToken": "t", **security}, host=host, **more)
    gateway.wait_log("platform not reached")
    assert "connected to the platform" not in gateway.log_text()
    return next(line for line in gateway.log_text().splitlines() if "platform not reached" in line)


def test_unknown_ca(made):
    line = failing(made, made(Certificates), {"caCert": made(Certificates).ca})
    assert "127.0.0.1" in line and "unknown CA" in line and "test CA" in line and "caCert" in line and "ca.pem" in line


def test_without_a_ca_file_the_systems_store_counts(made):
    line = failing(made, made(Certificates), {"tls": True})
    assert "127.0.0.1" in line and "unknown CA" in line and "trust store" in line and "caCert" in line and "insecure" in line


def test_other_names(made):
    certificates = made(Certificates, name="platform.example")
    line = failing(made, certificates, {"caCert": certificates.ca})
    assert "127.0.0.1" in line and "platform.example" in line and "insecure" in line


def test_expired(made):
    certificates = made(Certificates)
    key, request, ext = (certificates.directory / f"server{s}" for s in (".key", ".csr", ".ext"))
    index = certificates.directory / "index"
    index.write_text("")
    (certificates.directory / "ca.conf").write_text(
        f"[ca]\ndefault_ca=c\n[c]\ndatabase={index}\nnew_certs_dir={certificates.directory}\nrand_serial=yes\npolicy=p\ndefault_md=sha256\n"
        f"[p]\ncommonName=supplied\n")
    subprocess.run(["openssl", "ca", "-batch", "-config", certificates.directory / "ca.conf", "-cert", certificates.ca, "-keyfile",
                    certificates.directory / "ca.key", "-in", request, "-out", certificates.server_cert, "-startdate", "20200101000000Z",
                    "-enddate", "20210203000000Z", "-extfile", ext, "-notext"], check=True, capture_output=True)
    line = failing(made, certificates, {"caCert": certificates.ca})
    assert "127.0.0.1" in line and "expired on 2021-02-03" in line


@pytest.mark.parametrize("with_ca", [True, False])
def test_insecure_is_the_only_way_out_and_warned_about_at_each_start(made, with_ca):
    certificates = made(Certificates, name="platform.example")
    platform = tls_platform(made, certificates)
    security = {"accessToken": "t", "insecure": True, **({"caCert": certificates.ca} if with_ca else {"tls": True})}
    gateway = ready(gateway_with(made, platform, security))
    said = "name is not verified" if with_ca else "not verified at all"
    assert gateway.log_text().count(said) == 1
    gateway.stop()
    gateway.start()
    wait_until(lambda: gateway.log_text().count("connected to the platform") == 2, "connected again")
    assert gateway.log_text().count(said) == 2


def test_insecure_with_a_ca_still_verifies_the_chain(made):
    line = failing(made, made(Certificates), {"caCert": made(Certificates).ca, "insecure": True})
    assert "unknown CA" in line


def test_never_in_clear_text_when_tls_is_wanted(made):
    platform = made(Platform)  # speaks no TLS
    gateway = gateway_with(made, platform, {"accessToken": "t", "tls": True})
    wait_until(lambda: gateway.log_text().count("platform not reached") >= 2, "two attempts")
    assert platform.stats()["sessions"] == 0


# --- certificates that end ---------------------------------------------------------------------------------------------


def test_the_end_of_certificates_is_told_in_time(made):
    certificates = made(Certificates)  # for two days
    platform = tls_platform(made, certificates)
    platform.ask(f"credential certificate hall {certificates.client_cert}")
    gateway = ready(gateway_with(made, platform, {"type": "x509Certificate", "caCert": certificates.ca, "cert": certificates.client_cert,
                                                  "privateKey": certificates.client_key}))
    gateway.wait_log("expires soon")
    assert "client.pem" in gateway.log_text() and "ca.pem" in gateway.log_text() and "certificateDaysLeft" not in gateway.log_text()
    told = wait_until(lambda: platform.values("")["attributes"].get("certificateExpiryTs"), "the platform is told")
    told = int(told["value"] if isinstance(told, dict) else told)
    days = (told / 1000 - datetime.datetime.now().timestamp()) / 86400
    assert 1.9 < days < 2.1
    before = pathlib.Path(certificates.client_cert).read_bytes()
    assert gateway.stop() == 0 and pathlib.Path(certificates.client_cert).read_bytes() == before


def test_certificates_that_last_are_told_without_a_warning(made):
    certificates = made(Certificates)
    platform = tls_platform(made, certificates)
    gateway = ready(gateway_with(made, platform, {"accessToken": "t", "caCert": certificates.ca, "certificateDaysLeft": 1, "checkCertPeriod": 1}))
    wait_until(lambda: platform.values("")["attributes"].get("certificateExpiryTs"), "the platform is told")
    assert "expires soon" not in gateway.log_text() and "no effect" not in gateway.log_text()


# --- proxy ------------------------------------------------------------------------------------------------------------


class Proxy:
    """HTTP CONNECT; notes what was asked for."""

    def __init__(self, status="200 OK"):
        self.asked, self.status = [], status
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, client):
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096)
        self.asked.append(request.decode().splitlines()[0])
        client.sendall(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if not self.status.startswith("200"):
            client.close()
            return
        host, port = self.asked[-1].split()[1].rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
        self._pump(client, server)

    @staticmethod
    def _pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("tls", [False, True])
def test_through_a_proxy(made, tls):
    certificates, proxy = made(Certificates), made(Proxy)
    platform = tls_platform(made, certificates) if tls else made(Platform)
    ready(gateway_with(made, platform, {"accessToken": "t", **({"caCert": certificates.ca} if tls else {})},
                       proxy_host="127.0.0.1", proxy_port=proxy.port))
    assert proxy.asked == [f"CONNECT 127.0.0.1:{platform.port} HTTP/1.1"]


def test_a_proxy_that_refuses_is_named(made):
    platform, proxy = made(Platform), made(Proxy, "403 Forbidden")
    gateway = gateway_with(made, platform, {"accessToken": "t"}, proxy_host="127.0.0.1", proxy_port=proxy.port)
    gateway.wait_log("platform not reached")
    assert "403" in gateway.log_text() and "proxy" in gateway.log_text()


# --- two gateways with one token ---------------------------------------------------------------------------------------


def test_two_gateways_with_one_token_say_so_and_do_not_fight(made):
    platform = made(Platform, "--token", "token-of-7")
    gateways = [gateway_with(made, platform, {"accessToken": "token-of-7"}) for _ in range(2)]
    wait_until(lambda: any("two gateways share a token" in g.log_text() for g in gateways), "one of them says so")
    assert platform.stats()["sessions"] < 20


# --- secrets ------------------------------------------------------------------------------------------------------------

TRACE = {"version": 1,
         "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
         "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "level": "TRACE", "formatter": "plain"}},
         "root": {"level": "TRACE", "handlers": ["console"]},
         "loggers": {name: {"level": "TRACE", "handlers": ["console"], "propagate": False}
                     for name in ("service", "storage", "tb_connection", "extension", "database", "connector", "converter")}}


class Secrets:
    """Secrets as they are given out, and the search for them."""

    def __init__(self):
        self.given = []

    def new(self, name):
        self.given.append(f"zq{len(self.given)}{name}Xk7")
        return self.given[-1]

    def assert_absent(self, text, where):
        for secret in self.given:
            assert secret not in text, f"{secret} stands in {where}: {text[max(0, text.index(secret) - 200):][:400]}"


def commands_output(gateway, *commands):
    text = ""
    for command in commands:
        done = subprocess.run([BUILD / "iotgw", *command], capture_output=True, text=True, timeout=30, env=gateway.env)
        text += done.stdout + done.stderr
    return text


def assert_no_secret_anywhere(gateway, secrets, allowed=()):
    """In the log, in what commands print, and in the files that the gateway has written."""
    secrets.assert_absent(gateway.log_text(), "the log")
    secrets.assert_absent(commands_output(gateway, ["check", "-c", gateway.directory], ["check", "--json", "-c", gateway.directory],
                                          ["schema", "gateway"], ["schema", "mqtt"], ["status", "--json"]), "a command's output")
    for path in gateway.directory.rglob("*"):
        if path.parent.name == "backup":  # the operator's own files once more, and no more open than they are
            original = gateway.directory / (path.name.split(".backup.")[0] + ".json")
            assert original.is_file() and path.stat().st_mode & ~original.stat().st_mode == 0, path
        elif path.is_file() and path.name not in ("tb_gateway.json", "plant.json", "gateway.log", *allowed):
            secrets.assert_absent(path.read_text(errors="replace"), path)


def assert_not_shown_while_running(gateway, secrets):
    """By what asks the running gateway through its control socket."""
    asked = [["status"], ["status", "--json"], ["status", "--devices", "--json"], ["check", "--diff"]]
    for command in asked:
        done = subprocess.run([BUILD / "iotgw", *command, "-c", gateway.directory], capture_output=True, text=True, timeout=30, env=gateway.env)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        secrets.assert_absent(done.stdout + done.stderr, f"iotgw {' '.join(command)}")


def traced(made, platform, thingsboard, connectors=None, env=None):
    gateway = made(Gateway, platform.port, connectors or {}, thingsboard=thingsboard, env=env, start=False)
    (gateway.directory / "logs.json").write_text(json.dumps(TRACE))
    gateway.start()
    return gateway


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("kind", ["accessToken", "usernamePassword"])
def test_secrets_of_a_login_are_nowhere(made, kind, accepted):
    secrets, platform = Secrets(), made(Platform)
    security = {"type": kind, "accessToken": secrets.new("token"), "password": secrets.new("password"), "username": "u"}
    broker = made(Broker, users={"plant": secrets.new("broker")})
    connector = mqtt_connector(broker.port, security={"type": "basic", "username": "plant", "password": secrets.given[-1]})
    connector |= {"logLevel": "TRACE", "connectRequests": []}
    if not accepted:
        platform.ask("credential token other other")
    gateway = traced(made, platform, {"security": security}, {"Plant": connector})
    gateway.wait_log("connected to the platform" if accepted else "refuses the connection")
    gateway.wait_log("Plant: connected")
    if accepted:
        pushed = {"general_configuration": {"thingsboard": {"security": {"accessToken": secrets.new("pushed")}}}}
        platform.ask("publish v1/devices/me/attributes " + json.dumps(pushed))
        platform.ask("publish v1/devices/me/attributes " + json.dumps({"Plant": {"broker": {"security": {"password": secrets.new("pushed")}}}}))
        platform.ask('publish v1/devices/me/rpc/request/1 {"method":"gateway_ping","params":{}}')
        broker.publish("sensors/boiler/data", {"seq": 1, "temperature": 20}, args=["-u", "plant", "-P", secrets.given[2]])
        platform.wait_for("boiler", temperature=20)
    assert_not_shown_while_running(gateway, secrets)
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets)


@pytest.mark.parametrize("kind", ["ACCESS_TOKEN", "MQTT_BASIC"])
@pytest.mark.parametrize("accepted", [True, False])
def test_secrets_of_provisioning_stand_in_the_credentials_only(made, kind, accepted):
    secrets = Secrets()
    section = {"type": kind, "provisionDeviceKey": "key", "provisionDeviceSecret": secrets.new("secret"), "access_token": secrets.new("token"),
               "password": secrets.new("password"), "username": "u"}
    platform = made(Platform, "--provision", f"key:{section['provisionDeviceSecret'] if accepted else 'other'}")
    gateway = traced(made, platform, {"security": None, "provisioning": section})
    gateway.wait_log("connected to the platform" if accepted else "refuses to provision")
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets, allowed=[".credentials"])
    assert not accepted or section["provisionDeviceSecret"] not in (gateway.directory / ".credentials").read_text()


@pytest.mark.parametrize("prefix", ["TB_GW_", "IOTGW_", "INDUSTRYOS_GW_", ""])
def test_secrets_of_the_environment_are_nowhere(made, prefix):
    secrets, platform = Secrets(), made(Platform)
    names = {"ACCESS_TOKEN": "accessToken", "PASSWORD": "password"}
    env = {(prefix + name if prefix else old): secrets.new(name) for name, old in names.items()}
    gateway = traced(made, platform, {"security": {"type": "accessToken", "accessToken": secrets.new("file")}}, env=env)
    gateway.wait_log("connected to the platform")
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets)


def test_secrets_that_stand_elsewhere_are_nowhere(made):
    secrets, platform = Secrets(), made(Platform)
    env = {"MY_SECRET": secrets.new("variable")}
    gateway = made(Gateway, platform.port, {}, start=False, env=env, thingsboard={
        "security": {"type": "usernamePassword", "username": "u", "password": "${env:MY_SECRET}-${file:secret.txt}"}})
    (gateway.directory / "secret.txt").write_text(secrets.new("file"))
    (gateway.directory / "logs.json").write_text(json.dumps(TRACE))
    gateway.start()
    gateway.wait_log("connected to the platform")
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets, allowed=["secret.txt"])


@pytest.mark.parametrize("accepted", [True, False])
def test_secrets_of_provisioning_by_the_environment_are_nowhere(made, accepted):
    secrets = Secrets()
    secret = secrets.new("secret")
    platform = made(Platform, "--provision", f"key:{secret if accepted else 'other'}")
    env = {"TB_GW_PROVISIONING_DEVICE_KEY": "key", "TB_GW_PROVISIONING_DEVICE_SECRET": secret}
    gateway = traced(made, platform, {"security": None}, env=env)
    gateway.wait_log("connected to the platform" if accepted else "refuses to provision")
    assert_not_shown_while_running(gateway, secrets)
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets, allowed=[".credentials"])
    assert not accepted or secret not in (gateway.directory / ".credentials").read_text()


def test_passwords_and_keys_of_other_sections_are_nowhere(made):
    secrets, platform, broker = Secrets(), made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False)
    (gateway.directory / "logs.json").write_text(json.dumps(TRACE))
    main = json.loads((gateway.directory / "tb_gateway.json").read_text())
    main["admin"] = {"enabled": True, "password": secrets.new("admin")}
    main["grpc"] = {"enabled": True}
    main["connectors"].append({"type": "grpc", "name": "Other process", "key": secrets.new("key"), "configuration": "other.json"})
    (gateway.directory / "tb_gateway.json").write_text(json.dumps(main))
    (gateway.directory / "other.json").write_text("{}")
    gateway.start()
    gateway.wait_log("Plant: connected")
    assert_not_shown_while_running(gateway, secrets)
    assert gateway.stop() == 0
    assert_no_secret_anywhere(gateway, secrets)


@pytest.mark.parametrize("wrap", [lambda s: [s], lambda s: {"x": s}, lambda s: {s: 1}])
def test_a_secret_of_the_wrong_form_is_not_shown_by_its_error(made, wrap):
    secrets, platform = Secrets(), made(Platform)
    section = {"type": "ACCESS_TOKEN", "provisionDeviceKey": "k", "provisionDeviceSecret": wrap(secrets.new("a")), "access_token": wrap(secrets.new("b"))}
    gateway = made(Gateway, platform.port, {}, start=False, thingsboard={
        "security": {"type": "usernamePassword", "username": "u", "password": wrap(secrets.new("c")), "accessToken": wrap(secrets.new("d"))},
        "provisioning": section})
    text = commands_output(gateway, ["check", "-c", gateway.directory], ["check", "--json", "-c", gateway.directory])
    assert "password" in text
    secrets.assert_absent(text, "the report")
