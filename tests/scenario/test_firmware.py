# SPDX-License-Identifier: Apache-2.0
"""Firmware that the platform assigns to the gateway: loaded, compared and handed to the hook; and what goes wrong with it."""
import hashlib
import json
import random
import zlib

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until

HOOK = """#!/bin/sh
cp "$1" {directory}/installed.bin
printf '%s|%s\\n' "$2" "$3" >> {directory}/hook.txt
exit {code}
"""


def digest(algorithm, content):
    if algorithm == "CRC32":
        return zlib.crc32(content).to_bytes(4, "little").hex()
    return hashlib.new(algorithm.lower(), content).hexdigest()


class Site:
    def __init__(self, made, tmp_path, code=0, has_hook=True):
        self.platform, broker = made(Platform), made(Broker)
        self.gateway = made(Gateway, self.platform.port, {"Plant": mqtt_connector(broker.port)}, start=False, thingsboard={"otaHook": "install.sh"} if has_hook else {})
        self.tmp_path = tmp_path
        self.write_hook(code)
        self.gateway.start()
        self.gateway.wait_log("connected to the platform")

    def write_hook(self, code):
        hook = self.gateway.directory / "install.sh"
        hook.write_text(HOOK.format(directory=self.gateway.directory, code=code))
        hook.chmod(0o755)

    def assign(self, content, algorithm="SHA256", title="gateway \"x\"; rm -rf /", version="1.0", offer=True, **changes):
        if offer:
            path = self.tmp_path / "offered.bin"
            path.write_bytes(content)
            self.platform.ask(f"firmware {path}")
        attributes = {"fw_title": title, "fw_version": version, "fw_size": len(content), "fw_checksum_algorithm": algorithm,
                      "fw_checksum": digest(algorithm, content), **changes}
        self.platform.ask("shared " + json.dumps(attributes))
        self.platform.ask("publish v1/devices/me/attributes " + json.dumps(attributes))

    def told(self, key="fw_state"):
        return self.platform.ask("values").get("telemetry", {}).get(key, {}).get("value")

    def wait(self, state):
        wait_until(lambda: self.told() == state, f"{state}; it is {self.told()}: {self.told('fw_error')}", 30)

    def hooks(self):
        path = self.gateway.directory / "hook.txt"
        return path.read_text().splitlines() if path.exists() else []


def content(n, seed=1):
    return random.Random(seed).randbytes(n)


@pytest.mark.parametrize("algorithm", ["CRC32", "MD5", "SHA256", "SHA384", "SHA512"])
def test_it_is_loaded_compared_and_handed_to_the_hook(made, tmp_path, algorithm):
    site = Site(made, tmp_path)
    firmware = content(100_001)
    site.assign(firmware, algorithm)
    site.wait("UPDATED")
    assert (site.gateway.directory / "installed.bin").read_bytes() == firmware
    assert site.hooks() == ['gateway "x"; rm -rf /|1.0']
    assert site.told("current_fw_title") == 'gateway "x"; rm -rf /' and site.told("current_fw_version") == "1.0"
    assert not (site.gateway.directory / "firmware" / "firmware.bin").exists()
    assert site.platform.stats()["sessions"] == 1


def test_it_is_installed_once_also_after_a_restart(made, tmp_path):
    site = Site(made, tmp_path)
    site.assign(content(5000))
    site.wait("UPDATED")
    assert site.gateway.stop() == 0
    site.gateway.start()
    wait_until(lambda: site.gateway.log_text().count("connected to the platform") >= 2, "connected again")
    site.assign(content(5000, 2), version="2.0")
    wait_until(lambda: site.told("current_fw_version") == "2.0", "the next one")
    assert len(site.hooks()) == 2


def test_a_wrong_checksum_is_told_and_the_hook_is_not_run(made, tmp_path):
    site = Site(made, tmp_path)
    site.assign(content(50_000), fw_checksum="00" * 32)
    site.wait("FAILED")
    assert "checksum" in site.told("fw_error") and site.hooks() == []
    site.assign(content(50_000))
    site.wait("UPDATED")


def test_a_hook_that_fails_is_told(made, tmp_path):
    site = Site(made, tmp_path, code=3)
    site.assign(content(500))
    site.wait("FAILED")
    assert "code 3" in site.told("fw_error") and site.told("current_fw_version") == "v0"
    site.write_hook(0)
    site.assign(content(500))
    site.wait("UPDATED")


def test_it_goes_on_after_sessions_that_break(made, tmp_path):
    site = Site(made, tmp_path)
    firmware = content(3_000_000)
    site.assign(firmware)
    site.wait("DOWNLOADING")
    for i in range(2):
        site.platform.ask("drop")
        wait_until(lambda i=i: site.platform.stats()["sessions"] >= 2 + i, "a new session")
    site.wait("UPDATED")
    assert (site.gateway.directory / "installed.bin").read_bytes() == firmware


@pytest.mark.parametrize("wrong", [{"fw_size": 0}, {"fw_size": 1 << 40}, {"fw_size": "x"}, {"fw_title": 5}, {"fw_version": "v" * 300}, {"fw_checksum_algorithm": "SHA1"},
                                   {"fw_checksum": "zz"}])
def test_attributes_that_cannot_be_used_are_named_and_change_nothing(made, tmp_path, wrong):
    site = Site(made, tmp_path)
    site.assign(content(500), **wrong)
    site.gateway.wait_log("cannot be used")
    site.assign(content(500))
    site.wait("UPDATED")


def test_without_a_hook_nothing_is_loaded(made, tmp_path):
    site = Site(made, tmp_path, has_hook=False)
    site.assign(content(500))
    site.platform.ask("publish v1/devices/me/rpc/request/1 " + json.dumps({"method": "gateway_ping", "params": {}}))
    wait_until(lambda: site.platform.ask("replies")["replies"], "what comes later is answered")
    assert site.told() is None and not (site.gateway.directory / "firmware").exists()
