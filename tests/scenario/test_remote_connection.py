# SPDX-License-Identifier: Apache-2.0
"""Where the platform is and how the gateway logs in, changed by the platform itself."""
import json
import pathlib

from plant import Broker, Certificates, Gateway, Platform, mqtt_connector, wait_until

KEY, SECRET = "profile-key-1", "profile-secret-word-1"


def own(platform, key):
    return platform.ask("values")["attributes"].get(key, {}).get("value")


def push(platform, **values):
    platform.ask("shared " + json.dumps(values))
    platform.ask("publish v1/devices/me/attributes " + json.dumps(values))


def published(platform, key, condition=lambda v: True, limit_s=20):
    return wait_until(lambda: (v := own(platform, key)) is not None and condition(v) and (v,), f"{key} is published", limit_s)[0]


def start(made, platform, **thingsboard):
    broker = made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard={"remoteConfiguration": True, **thingsboard})
    return broker, gateway, published(platform, "general_configuration")


def section(gateway):
    return json.loads((gateway.directory / "tb_gateway.json").read_text())["thingsboard"]


def refused(platform, limit_s=60):
    return published(platform, "configuration_errors", lambda v: "general_configuration" in v, limit_s)["general_configuration"][0]


def with_provisioning(general, port, secret=SECRET, **more):
    return {**{k: v for k, v in general.items() if k != "security"}, "port": port,
            "provisioning": {"type": "ACCESS_TOKEN", "provisionDeviceKey": KEY, "provisionDeviceSecret": secret, **more}}


def tls_platform(made, certificates, *args):
    return made(Platform, "--cert", certificates.server_cert, "--key", certificates.server_key, *args)


def test_the_platform_lets_the_gateway_ask_for_credentials_elsewhere(made):
    platform, other = made(Platform), made(Platform, "--provision", f"{KEY}:{SECRET}")
    broker, gateway, general = start(made, platform)
    push(platform, general_configuration=with_provisioning(general, other.port, deviceName="Hall 7"))
    published(other, "general_configuration", lambda v: v["port"] == other.port and "security" not in v)
    assert [entry["device"] for entry in other.ask("logins")["logins"]] == ["Hall 7"]
    credentials = json.loads((gateway.directory / ".credentials").read_text())
    assert credentials["credentialsType"] == "ACCESS_TOKEN"
    assert section(gateway)["provisioning"]["provisionDeviceKey"] == KEY and "security" not in section(gateway)
    broker.publish("sensors/a/data", {"seq": 1, "temperature": 2})
    other.wait_for("a", seq=1)
    text = gateway.log_text()
    assert SECRET not in text and credentials["credentialsValue"] not in text
    assert gateway.stop() == 0
    gateway.start()
    wait_until(lambda: other.ask("logins")["logins"], "it logs in with what is stored")
    assert other.stats()["provisioned"] == 1


def test_credentials_that_are_refused_leave_everything_as_it_was(made):
    platform, other = made(Platform), made(Platform, "--provision", f"{KEY}:{SECRET}")
    broker, gateway, general = start(made, platform)
    before = (gateway.directory / "tb_gateway.json").read_text()
    push(platform, general_configuration=with_provisioning(general, other.port, secret="another-secret-word"))
    assert "provisionDeviceSecret" in refused(platform)["message"]
    broker.publish("sensors/a/data", {"seq": 1, "temperature": 2})
    platform.wait_for("a", seq=1)
    assert (gateway.directory / "tb_gateway.json").read_text() == before and not (gateway.directory / ".credentials").exists()
    assert published(platform, "general_configuration") == {**general, "ts": own(platform, "general_configuration")["ts"]}
    assert "another-secret-word" not in gateway.log_text()


def test_a_certificate_that_the_platform_sends_is_used_and_kept(made):
    certificates = made(Certificates)
    platform, other = made(Platform), tls_platform(made, certificates)
    _, gateway, general = start(made, platform)
    pem = pathlib.Path(certificates.ca).read_text()
    security = {"type": "tlsAccessToken", "accessToken": "token", "caCert": pem, "certificateDaysLeft": 3}
    push(platform, general_configuration={**general, "port": other.port, "security": security})
    now = published(other, "general_configuration", lambda v: v["port"] == other.port)
    assert now["security"]["caCert"] == "ca.pem" and (gateway.directory / "ca.pem").read_text() == pem
    assert section(gateway)["security"]["caCert"] == "ca.pem"
    assert published(other, "certificateExpiryTs") > 0  # the certificates are watched from now on
    gateway.wait_log("a certificate of the platform link expires soon")
    # The same once more changes nothing.
    push(other, general_configuration={**now, "security": security}, RemoteLoggingLevel="NONE")
    published(other, "RemoteLoggingLevel")
    assert gateway.log_text().count("the platform changes the configuration") == 1


def test_a_certificate_that_does_not_fit_is_taken_back_with_its_file(made):
    certificates, strange = made(Certificates), made(Certificates)
    platform = tls_platform(made, certificates)
    _, gateway, general = start(made, platform, security={"type": "tlsAccessToken", "accessToken": "token", "caCert": certificates.ca})
    before = (gateway.directory / "tb_gateway.json").read_text()
    for pem, message in (("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "ca.pem"),
                         (pathlib.Path(strange.ca).read_text(), "no session with the platform")):
        push(platform, general_configuration={**general, "security": {**general["security"], "caCert": pem}})
        published(platform, "configuration_errors", lambda v: message in json.dumps(v), 60)
        assert not (gateway.directory / "ca.pem").exists() and (gateway.directory / "tb_gateway.json").read_text() == before
        push(platform, general_configuration=general)
        published(platform, "configuration_errors", lambda v: v == {})


def test_a_new_certificate_does_not_overwrite_the_one_in_use(made):
    certificates, strange = made(Certificates), made(Certificates)
    platform = tls_platform(made, certificates)
    both = pathlib.Path(strange.ca).read_text() + pathlib.Path(certificates.ca).read_text()
    broker = made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False,
                   thingsboard={"remoteConfiguration": True, "security": {"type": "tlsAccessToken", "accessToken": "token", "caCert": "ca.pem"}})
    (gateway.directory / "ca.pem").write_text(pathlib.Path(certificates.ca).read_text())
    gateway.start()
    general = published(platform, "general_configuration")
    push(platform, general_configuration={**general, "security": {**general["security"], "caCert": both}})
    published(platform, "general_configuration", lambda v: v["security"]["caCert"] == "ca_2.pem", 60)
    assert (gateway.directory / "ca_2.pem").read_text() == both
    assert (gateway.directory / "ca.pem").read_text() == pathlib.Path(certificates.ca).read_text()
