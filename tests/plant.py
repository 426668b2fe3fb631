# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests are made of: a broker, a platform stand-in, the gateway, and waiting with a condition and a limit."""
import contextlib
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build"))
IS_INSTRUMENTED = any(word in BUILD.name for word in ("asan", "tsan"))  # then resident memory says nothing
LIMIT_S = float(os.environ.get("IOTGW_TEST_LIMIT_S", 30))  # of every wait; sanitizer builds are slow


def wait_until(condition, what, limit_s=LIMIT_S):
    """Polls until condition() is true; its value is returned."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def end_process(process, sig=signal.SIGTERM, limit_s=15):
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Sim:
    """A simulator: commands on its standard input, one JSON line in answer to each."""

    def __init__(self, *args):
        self.process = subprocess.Popen([str(BUILD / "iotgw-sim"), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        first = self.line()
        self.port = first.get("port")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self):
        line = self.lines.get(timeout=LIMIT_S)
        assert line is not None, "the simulator ended"
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        end_process(self.process)


class Platform(Sim):
    def __init__(self, *args):
        super().__init__("platform", "--port", 0, *args)

    def stats(self):
        return self.ask("stats")

    def values(self, device):
        """Latest telemetry ({key: {ts, value}}) and attributes of a device."""
        return self.ask(f"values {device}")

    def latest(self, device):
        answer = self.values(device)
        return {k: v["value"] for k, v in {**answer.get("telemetry", {}), **answer.get("attributes", {})}.items()}

    def devices(self):
        return [d["device"] for d in self.ask("devices")["devices"]]

    def rpc(self, device, number, method, params=None):
        """A request to a device; its reply: replies()."""
        self.ask("publish v1/gateway/rpc " + json.dumps({"device": device, "data": {"id": number, "method": method, "params": params}}))

    def own_rpc(self, number, method, params=None):
        self.ask(f"publish v1/devices/me/rpc/request/{number} " + json.dumps({"method": method, "params": params}))

    def update(self, device, **values):
        """Shared attributes of a device, changed on the platform."""
        self.ask("publish v1/gateway/attributes " + json.dumps({"device": device, "data": values}))

    def wait_replies(self, count):
        """So many replies to requests, by the request's number; those of the gateway's own requests by "own N"."""
        replies = getattr(self, "_replies", {})
        self._replies = replies

        def there():
            for reply in self.ask("replies")["replies"]:
                own = reply["topic"].startswith("v1/devices/me/rpc/response/")
                body = json.loads(reply["payload"])
                key = "own " + reply["topic"].rsplit("/", 1)[1] if own else body["id"]
                assert key not in replies, f"two replies to {key}: {replies[key]}, {body}"
                replies[key] = body if own else body["data"]
            return len(replies) >= count
        wait_until(there, f"{count} replies; have {replies}")
        return replies

    def wait_for(self, device, **expected):
        def there():
            latest = self.latest(device)
            return all(latest.get(k) == v for k, v in expected.items()) and (expected or latest)
        wait_until(there, f"{device} has {expected}")


class Source(Sim):
    """The load generator: a broker that is its own fleet of devices. Its events are kept apart from its answers."""

    def __init__(self, *args):
        super().__init__("mqtt-source", "--port", 0, *args)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        while "event" in (line := self.line()):
            pass
        return line

    def stats(self):
        return self.ask("stats")


class Broker:
    """Mosquitto with a configuration of its own; may be stopped and started again on the same port."""

    def __init__(self, directory, *, tls=None, users=None, persistence=False, extra=()):
        self.port = free_port()
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} 127.0.0.1", "max_queued_messages 1000000", "max_inflight_messages 1000", *extra]
        if users:
            password_file = self.directory / "passwords"
            password_file.touch(mode=0o600)
            for name, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(password_file), name, password], check=True, stderr=subprocess.DEVNULL)
            lines += ["allow_anonymous false", f"password_file {password_file}"]
        else:
            lines.append("allow_anonymous true")
        if tls:
            lines += [f"cafile {tls.ca}", f"certfile {tls.server_cert}", f"keyfile {tls.server_key}"]
            if tls.want_client:
                lines += ["require_certificate true"]
        if persistence:
            lines += ["persistence true", f"persistence_location {self.directory}/", "autosave_interval 1"]
        if os.geteuid() == 0:
            lines.append("user root")
        self.conf = self.directory / "mosquitto.conf"
        self.conf.write_text("\n".join(lines) + "\n")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin"), "-c", str(self.conf)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        wait_until(listens, "the broker listens")

    def stop(self, sig=signal.SIGTERM):
        end_process(self.process, sig)

    def publish(self, topic, payload, *, qos=1, args=()):
        if not isinstance(payload, (str, bytes)):
            payload = json.dumps(payload)
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-q", str(qos), *(["-s"] if payload else ["-n"]), *args],
                       input=payload if isinstance(payload, bytes) else payload.encode(), check=True, timeout=LIMIT_S)

    def publish_lines(self, topic, lines, *, qos=1, args=()):
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-q", str(qos), "-l", *args],
                       input=text.encode(), check=True, timeout=LIMIT_S)

    close = stop


class Gateway:
    """iotgw run on a configuration directory made by the test."""

    def __init__(self, directory, platform_port, connectors, *, thingsboard=None, storage=None, start=True, env=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_path = self.directory / "gateway.log"
        self.env = {**os.environ, **(env or {}), "NO_COLOR": "1"}
        entries = []
        for name, conf in connectors.items():
            kind = conf.pop("_type", "mqtt")
            file_name = name.lower().replace(" ", "_") + ".json"
            (self.directory / file_name).write_text(conf if isinstance(conf, str) else json.dumps(conf, indent=2))
            entries.append({"type": kind, "name": name, "configuration": file_name})
        main = {
            "thingsboard": {"host": "127.0.0.1", "port": platform_port, "security": {"type": "accessToken", "accessToken": "token"},
                            "qos": 1, "remoteConfiguration": False, "statistics": {"enable": False},
                            "checkConnectorsConfigurationInSeconds": 60, **(thingsboard or {})},
            "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100000, **(storage or {})},
            "connectors": entries}
        main["thingsboard"] = {k: v for k, v in main["thingsboard"].items() if v is not None}  # None: not there
        (self.directory / "tb_gateway.json").write_text(json.dumps(main, indent=2))
        self.process = None
        if start:
            self.start()

    def start(self, preexec_fn=None):
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen([str(BUILD / "iotgw"), "run", "-c", str(self.directory)], cwd=self.directory,
                                        stdout=self.log, stderr=self.log, env=self.env, preexec_fn=preexec_fn)

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text):
        try:
            wait_until(lambda: text in self.log_text(), f"log says {text!r}")
        except AssertionError as e:
            raise AssertionError(f"{e}; it says:\n{self.log_text()[-3000:]}") from None

    def rss_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def stop(self, sig=signal.SIGTERM, limit_s=20):
        code = end_process(self.process, sig, limit_s)
        self.log.close()
        return code

    def close(self):
        if self.process:
            self.stop()


def mqtt_mapping(topic="sensors/+/data", name="(?<=sensors/)(.*?)(?=/data)", keys=("seq", "temperature"), qos=1, **converter):
    types = {"seq": "int", "running": "boolean", "state": "string"}
    return {"topicFilter": topic, "subscriptionQos": qos, "converter": {
        "type": "json",
        "deviceInfo": {"deviceNameExpressionSource": "topic", "deviceNameExpression": name,
                       "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "sensor"},
        "timeseries": [{"type": types.get(k, "double"), "key": k, "value": "${%s}" % k} for k in keys], **converter}}


def mqtt_connector(port, mapping=None, **broker):
    return {"broker": {"host": "127.0.0.1", "port": port, "version": 5, "security": {"type": "anonymous"}, **broker},
            "mapping": mapping if mapping is not None else [mqtt_mapping()]}


CA_CONF = """[ca]
default_ca = test
[test]
database = @DIR@/ca.db
serial = @DIR@/ca.serial
new_certs_dir = @DIR@
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
"""


CA_USE = "keyUsage=critical,keyCertSign,cRLSign"  # RFC 5280 4.2.1.3, 4.2.1.1: Python 3.13 insists on both
ISSUED = "authorityKeyIdentifier=keyid\n"


class Certificates:
    """A CA, a server's and a client's certificate, made anew by the openssl program."""

    def __init__(self, directory, *, name="127.0.0.1", want_client=False, have_ended=False):
        self.have_ended = have_ended  # the certificates, not the CA
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.want_client = want_client
        self.ca, ca_key = self._path("ca.pem"), self._path("ca.key")
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
                  "-addext", CA_USE, "-keyout", ca_key, "-out", self.ca)
        self.server_cert, self.server_key = self._issue("server", f"subjectAltName=IP:{name}" if name[0].isdigit() else f"subjectAltName=DNS:{name}", ca_key)
        self.client_cert, self.client_key = self._issue("client", "extendedKeyUsage=clientAuth", ca_key)

    def _path(self, name):
        return str(self.directory / name)

    def _run(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=LIMIT_S)

    def _issue(self, name, extension, ca_key):
        key, request, cert, ext = (self._path(name + s) for s in (".key", ".csr", ".pem", ".ext"))
        pathlib.Path(ext).write_text(extension + "\n" + ISSUED)
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        if self.have_ended:  # `x509 -days -1` is refused by OpenSSL 3.4 and later
            for name, text in (("ca.conf", CA_CONF), ("ca.db", ""), ("ca.serial", "01\n")):
                pathlib.Path(self._path(name)).write_text(text.replace("@DIR@", str(self.directory)))
            self._run("ca", "-batch", "-notext", "-config", self._path("ca.conf"), "-in", request, "-cert", self.ca, "-keyfile", ca_key,
                      "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-extfile", ext, "-out", cert)
            return cert, key
        self._run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", ext, "-out", cert)
        return cert, key
