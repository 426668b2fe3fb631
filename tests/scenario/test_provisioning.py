# SPDX-License-Identifier: Apache-2.0
"""Credentials that the platform makes: asked for, stored, used again, refused, removed."""
import json
import os
import signal
import ssl
import stat
import subprocess

import pytest
from plant import BUILD, Broker, Certificates, Gateway, Platform, mqtt_connector, wait_until

KEY, SECRET = "profile-key-1", "profile-secret-word-1"


def provisioned(made, platform, connectors=None, *, provisioning=None, env=None, **thingsboard):
    section = {"type": "ACCESS_TOKEN", "provisionDeviceKey": KEY, "provisionDeviceSecret": SECRET, **(provisioning or {})}
    return made(Gateway, platform.port, connectors or {}, thingsboard={"security": None, "provisioning": section, **thingsboard}, env=env)


def login(platform):
    """Of the one session that is open, once there is one that is no provisioning session."""
    def there():
        logins = [entry for entry in platform.ask("logins")["logins"] if entry["username"] != "provision"]
        return logins and logins[0]
    return wait_until(there, "the gateway is logged in")


def stored(gateway):
    return json.loads((gateway.directory / ".credentials").read_text())


def test_a_token_is_asked_for_stored_and_used_again(made):
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}")
    gateway = provisioned(made, platform)
    entry = login(platform)
    credentials = stored(gateway)
    assert entry["gateway"] and entry["version"] == 5 and entry["device"].startswith("Gateway ") and len(entry["device"]) == 13
    assert credentials["credentialsType"] == "ACCESS_TOKEN" and credentials["status"] == "SUCCESS"
    assert len(credentials["credentialsValue"]) == 15 and entry["username"] == credentials["credentialsValue"]
    assert stat.S_IMODE(os.stat(gateway.directory / ".credentials").st_mode) == 0o600
    assert gateway.stop() == 0
    gateway.start()
    assert login(platform)["username"] == credentials["credentialsValue"]
    assert platform.stats()["provisioned"] == 1
    text = gateway.log_text()
    assert SECRET not in text and credentials["credentialsValue"] not in text


def test_given_names_are_used(made):
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}")
    gateway = provisioned(made, platform, provisioning={"deviceName": "Hall 7", "access_token": "token-of-hall-7"})
    assert login(platform) == {"username": "token-of-hall-7", "device": "Hall 7", "version": 5, "gateway": True}
    assert stored(gateway)["credentialsValue"] == "token-of-hall-7"


def test_user_and_password(made):
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}")
    gateway = provisioned(made, platform, provisioning={"type": "mqtt_basic", "username": "hall7", "password": "pass-word-7"})
    assert login(platform)["username"] == "hall7"
    value = stored(gateway)["credentialsValue"]
    assert value["userName"] == "hall7" and value["password"] == "pass-word-7" and len(value["clientId"]) == 15
    assert gateway.stop() == 0
    gateway.start()
    assert login(platform)["username"] == "hall7"
    assert platform.stats()["provisioned"] == 1


def test_a_certificate_is_made_registered_and_used(made):
    certificates = made(Certificates)
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}", "--cert", certificates.server_cert, "--key", certificates.server_key)
    gateway = provisioned(made, platform, provisioning={"type": "X509_CERTIFICATE", "caCert": certificates.ca, "deviceName": "Hall 8"})
    entry = login(platform)
    assert entry == {"username": "", "device": "Hall 8", "version": 5, "gateway": True}
    credentials, cert = stored(gateway), gateway.directory / "cert.pem"
    assert credentials["credentialsValue"] == cert.read_text() and credentials["caCert"] == certificates.ca
    assert stat.S_IMODE(os.stat(gateway.directory / "key.pem").st_mode) == 0o600
    text = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-text", "-subject"], check=True, capture_output=True, text=True).stdout
    assert "P-256" in text and "CN = Hall 8" in text.replace("CN=", "CN = ")
    assert subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-checkend", str(364 * 86400)]).returncode == 0
    assert subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-checkend", str(366 * 86400)], stdout=subprocess.DEVNULL).returncode == 1
    assert gateway.stop() == 0
    gateway.start()
    assert login(platform) == entry and platform.stats()["provisioned"] == 1
    ssl.create_default_context().load_cert_chain(cert, gateway.directory / "key.pem")


def test_files_of_the_operator_are_not_replaced(made):
    certificates = made(Certificates)
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}", "--cert", certificates.server_cert, "--key", certificates.server_key)
    section = {"type": "X509_CERTIFICATE", "provisionDeviceKey": KEY, "provisionDeviceSecret": SECRET, "caCert": certificates.ca}
    gateway = made(Gateway, platform.port, {}, thingsboard={"security": None, "provisioning": section}, start=False)
    (gateway.directory / "cert.pem").write_text("mine")
    gateway.start()
    gateway.wait_log("which are not replaced")
    assert (gateway.directory / "cert.pem").read_text() == "mine" and not (gateway.directory / "key.pem").exists()


@pytest.mark.parametrize("wrong, reason", [({"provisionDeviceSecret": "wrong-secret-word"}, "provisionDeviceKey"),
                                           ({"deviceName": "taken"}, "taken")])
def test_what_the_platform_refuses_is_said_and_tried_again_while_data_are_collected(made, wrong, reason):
    platform, broker = made(Platform, "--provision", f"{KEY}:{SECRET}"), made(Broker)
    platform.ask("credential token taken other-token")
    gateway = provisioned(made, platform, {"Plant": mqtt_connector(broker.port)}, provisioning=wrong)
    gateway.wait_log("refuses to provision")
    gateway.wait_log("Plant: connected")
    assert reason in gateway.log_text() and "wrong-secret-word" not in gateway.log_text()
    broker.publish("sensors/boiler/data", {"seq": 1, "temperature": 20})
    assert gateway.process.poll() is None and not (gateway.directory / ".credentials").exists()
    assert gateway.stop() == 0


def test_data_collected_before_provisioning_arrives_after_it(made):
    platform, broker = made(Platform, "--provision", f"{KEY}:{SECRET}"), made(Broker)
    platform.ask("down")
    gateway = provisioned(made, platform, {"Plant": mqtt_connector(broker.port)})
    gateway.wait_log("Plant: connected")
    gateway.wait_log("not provisioned")
    broker.publish("sensors/boiler/data", {"seq": 1, "temperature": 20})
    platform.ask("up")
    platform.wait_for("boiler", temperature=20)
    assert gateway.stop() == 0


def test_the_environment_goes_before_security_but_not_before_what_is_stored(made):
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}")
    env = {"TB_GW_PROVISIONING_DEVICE_KEY": KEY, "TB_GW_PROVISIONING_DEVICE_SECRET": SECRET, "TB_GW_PROVISIONING_DEVICE_NAME": "By environment"}
    gateway = made(Gateway, platform.port, {}, env=env)
    assert login(platform)["device"] == "By environment"
    assert gateway.stop() == 0
    gateway.start()
    login(platform)
    assert platform.stats()["provisioned"] == 1


def test_security_goes_before_what_is_stored(made):
    platform = made(Platform)
    gateway = made(Gateway, platform.port, {}, start=False)
    (gateway.directory / ".credentials").write_text(json.dumps({"credentialsType": "ACCESS_TOKEN", "credentialsValue": "stored"}))
    gateway.start()
    assert login(platform)["username"] == "token"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"credentialsType":"OTHER"}', '{"credentialsType":"ACCESS_TOKEN","credentialsValue":5}',
                                  '{"credentialsType":"MQTT_BASIC","credentialsValue":{}}', "\0" * 100])
def test_stored_credentials_that_cannot_be_used_are_named(made, text):
    gateway = made(Gateway, 1883, {}, thingsboard={"security": None}, start=False)
    (gateway.directory / ".credentials").write_text(text)
    done = subprocess.run([BUILD / "iotgw", "check", "-c", gateway.directory], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and ".credentials" in done.stdout + done.stderr and "security" in done.stdout + done.stderr


def test_stopping_while_the_platform_does_not_answer_is_quick(made):
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}")
    platform.ask("stall")
    gateway = provisioned(made, platform)
    gateway.wait_log("gateway is running")
    assert gateway.stop(signal.SIGTERM, limit_s=10) == 0


def ask_rpc(platform, method):
    """RPC to the gateway itself; it has no answer that the stand-in shows."""
    platform.ask('publish v1/devices/me/rpc/request/1 {"method":"%s","params":{}}' % method)


def test_the_platform_may_have_the_credentials_removed(made):
    certificates = made(Certificates)
    platform = made(Platform, "--provision", f"{KEY}:{SECRET}", "--cert", certificates.server_cert, "--key", certificates.server_key)
    gateway = provisioned(made, platform, provisioning={"type": "X509_CERTIFICATE", "caCert": certificates.ca})
    gateway.wait_log("connected to the platform")
    first = (gateway.directory / "cert.pem").read_text()
    ask_rpc(platform, "gateway_remove_provisioned_credentials")
    wait_until(lambda: not (gateway.directory / ".credentials").exists(), "they are gone")
    assert gateway.process.poll() is None and len(platform.ask("logins")["logins"]) == 1
    assert gateway.stop() == 0
    gateway.start()
    wait_until(lambda: gateway.log_text().count("connected to the platform") == 2, "provisioned anew")
    assert platform.stats()["provisioned"] == 2 and (gateway.directory / "cert.pem").read_text() != first
    told = wait_until(lambda: platform.values("")["attributes"].get("certificateExpiryTs"), "the end of the CA is told")
    assert told
