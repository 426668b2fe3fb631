# SPDX-License-Identifier: Apache-2.0
"""What tests against real peers share: where the build is, and brokers on ports of their own; and the parts of a plant."""
import os
import pathlib
import shutil
import socket
import subprocess
import time

import plant
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build")).resolve()
TIMEOUT_S = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Mosquitto:
    """A broker. lines: more of mosquitto.conf; {port} stands for the port of its listener."""

    def __init__(self, directory, lines=("listener {port} 127.0.0.1", "allow_anonymous true")):
        self.directory, self.lines, self.process, self.port = directory, lines, None, None
        for _ in range(5):  # somebody else may take the port between choosing and listening
            self.port = free_port()
            if self.start():
                return
        raise RuntimeError(f"mosquitto does not start: {(directory / 'mosquitto.log').read_text()}")

    def start(self):
        conf = self.directory / "mosquitto.conf"
        conf.write_text("user root\nmax_queued_messages 100000\n" + "\n".join(self.lines).format(port=self.port) + "\n")
        with open(self.directory / "mosquitto.log", "ab") as log:
            program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
            self.process = subprocess.Popen([program, "-c", conf], stdout=log, stderr=log)
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            if accepts(self.port):
                return True
            time.sleep(0.02)
        self.kill()
        return False

    def stop(self):
        self.process.terminate()
        self.process.wait(TIMEOUT_S)

    def kill(self):
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def restart(self):
        assert self.start()


@pytest.fixture
def start_mosquitto(tmp_path):
    """Starts brokers: start_mosquitto(*lines of mosquitto.conf)."""
    brokers = []

    def start(*lines):
        directory = tmp_path / f"mosquitto{len(brokers)}"
        directory.mkdir()
        brokers.append(Mosquitto(directory, lines) if lines else Mosquitto(directory))
        return brokers[-1]

    yield start
    for broker in brokers:
        if broker.process.poll() is None:
            broker.stop()


@pytest.fixture
def mosquitto(start_mosquitto):
    """A broker that lets everybody in."""
    return start_mosquitto()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A directory with ca.pem, other-ca.pem, and server, client (.pem, .key) signed by ca."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other-ca"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN=test {name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", plant.CA_USE)
    (directory / "server.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n" + plant.ISSUED)
    (directory / "client.ext").write_text("extendedKeyUsage=clientAuth\n" + plant.ISSUED)
    for name, subject in (("server", "/CN=localhost"), ("client", "/CN=gateway")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-out", f"{name}.pem", "-extfile", f"{name}.ext")
    return directory


@pytest.fixture
def made(tmp_path):
    """made(Class, …): makes a part of the plant (plant.py) and closes it at the end, last made first."""
    parts = []

    def make(kind, *args, **kwargs):
        if kind in (plant.Broker, plant.Gateway, plant.Certificates):
            args = (tmp_path / f"{kind.__name__.lower()}{len(parts)}", *args)
        part = kind(*args, **kwargs)
        parts.append(part)
        return part

    yield make
    for part in reversed(parts):
        if hasattr(part, "close"):
            part.close()
