#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The gateway at work: a plant's MQTT broker with simulated devices, Modbus drives, the gateway, and a stand-in for the platform with a live view.

Everything runs on the loopback interface with ports of its own, in a temporary directory, and is gone at the end."""
import argparse
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from steer import Simulator, SimError, wait_until

TOKEN = "DEMO"
PAYLOAD = ('{"ts":${ts},"seq":${seq},"sent":${sent},"temperature":${walk:18:75:1},"pressure":${walk:2:9:2},"flow":${walk:0:120:1},'
           '"rpm":${int:1440:1490},"running":${bool}}')
TIMESERIES = [("seq", "integer"), ("sent", "integer"), ("temperature", "double"), ("pressure", "double"), ("flow", "double"),
              ("rpm", "integer"), ("running", "boolean")]
UNITS = 2  # drives on one Modbus connection
REGISTERS = [{"tag": "current", "type": "16uint", "address": 3, "divider": 10}, {"tag": "speed", "type": "16uint", "address": 4, "multiplier": 5},
             {"tag": "temperature", "type": "16int", "address": 5, "divider": 5}]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def start(words, log):
    with open(log, "wb") as out:
        return subprocess.Popen([str(word) for word in words], cwd=log.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                start_new_session=True, preexec_fn=die_with_parent)


def end(process):
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(12)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log):
    return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-8:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_broker(work):
    """mosquitto on a free port; another program may take the port meanwhile, so several are tried."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not program:
        raise SimError("mosquitto is not installed: ./dev setup")
    log = work / "broker.log"
    for _ in range(5):
        port = free_port()
        (work / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stdout\n")
        broker = start([program, "-c", work / "mosquitto.conf"], log)
        try:
            wait_until(lambda: broker.poll() is not None or answers(port), 10, "the broker listens")
        except BaseException:
            end(broker)
            raise
        if broker.poll() is None:
            return broker, port
    raise SimError(f"the broker does not start:\n{tail(log)}")


def drive(number, ports):
    return {"type": "tcp", "method": "socket", "host": "127.0.0.1", "port": ports[number // UNITS], "unitId": number % UNITS + 1,
            "deviceName": f"drive-{number}", "deviceType": "Drive", "pollPeriod": 500, "timeout": 3, "byteOrder": "BIG", "wordOrder": "BIG",
            "timeseries": [dict(register, functionCode=3, objectsCount=1) for register in REGISTERS]}


def write_configuration(directory, platform_port, broker_port, modbus_ports, n_drives):
    gateway = {
        "thingsboard": {"host": "127.0.0.1", "port": platform_port, "security": {"type": "accessToken", "accessToken": TOKEN},
                        "remoteShell": False, "remoteConfiguration": False, "qos": 1},
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100000},
        "connectors": [{"name": "Plant", "type": "mqtt", "configuration": "mqtt.json"}]}
    if n_drives:
        gateway["connectors"].append({"name": "Drives", "type": "modbus", "configuration": "modbus.json"})
    mqtt = {
        "broker": {"host": "127.0.0.1", "port": broker_port, "clientId": "iotgw-demo", "version": 5, "security": {"type": "anonymous"}},
        "mapping": [{"topicFilter": "plant/+/data", "subscriptionQos": 1, "converter": {
            "type": "json",
            "deviceInfo": {"deviceNameExpressionSource": "topic", "deviceNameExpression": "(?<=plant/)(.*?)(?=/data)",
                           "deviceProfileExpressionSource": "constant", "deviceProfileExpression": "Pump"},
            "timeseries": [{"type": kind, "key": key, "value": "${%s}" % key} for key, kind in TIMESERIES]}}]}
    directory.mkdir()
    (directory / "tb_gateway.json").write_text(json.dumps(gateway, indent=2))
    (directory / "mqtt.json").write_text(json.dumps(mqtt, indent=2))
    modbus = {"master": {"slaves": [drive(number, modbus_ports) for number in range(n_drives)]}}
    (directory / "modbus.json").write_text(json.dumps(modbus, indent=2))


class Demo:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.log = work / "gateway.log"
        self.started = []
        self.platform = self.devices = self.drives = self.gateway = None
        self.expected = [f"pump-{i}" for i in range(args.devices)] + [f"drive-{i}" for i in range(args.drives)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for simulator in (self.devices, self.drives, self.platform):
            if simulator:
                simulator.close()
        for process in reversed(self.started):
            end(process)

    def start(self):
        sim = self.args.build / "iotgw-sim"
        broker, broker_port = start_broker(self.work)
        self.started.append(broker)
        is_live = not self.args.once or sys.stderr.isatty()
        self.platform = Simulator(sim, "platform", "--token", TOKEN, *(["--live"] if is_live else []))
        if self.args.drives:
            self.drives = Simulator(sim, "modbus", "--ports", -(-self.args.drives // UNITS), "--units", UNITS, "--pattern", "wave",
                                    "--period", 500)
        config, ports = self.work / "config", self.drives.ports if self.drives else []
        write_configuration(config, self.platform.port, broker_port, ports, self.args.drives)
        print(f"broker 127.0.0.1:{broker_port}, Modbus ports {ports}, platform stand-in 127.0.0.1:{self.platform.port}, configuration {config}", flush=True)
        self.gateway = start([self.args.build / "iotgw", "run", "-c", config], self.log)
        self.started.append(self.gateway)
        self.devices = Simulator(sim, "mqtt-devices", "--port", broker_port, "--devices", self.args.devices, "--rate", self.args.rate,
                                 "--name", "pump-${number}", "--topic", "plant/${device}/data", "--payload", PAYLOAD,
                                 stderr=subprocess.DEVNULL)

    def check(self):
        if self.gateway.poll() is not None:
            raise SimError(f"the gateway ended with exit code {self.gateway.returncode}; its last lines:\n{tail(self.log)}")
        if self.started[0].poll() is not None:
            raise SimError("the broker ended")

    def arrived(self):
        self.check()
        return [device["device"] for device in self.platform.ask("devices")["devices"] if device["entries"]]

    def once(self):
        """Until data of every device has arrived."""
        until = time.monotonic() + self.args.seconds
        while missing := sorted(set(self.expected) - set(self.arrived())):
            if time.monotonic() > until:
                raise SimError(f"after {self.args.seconds} s nothing came from {', '.join(missing)}; the gateway's last lines:\n{tail(self.log)}")
            time.sleep(0.05)
        stats = self.platform.ask("stats")
        print(f"data of all {len(self.expected)} devices arrived: {stats['values']} values, latency {stats['lat_p50_ms']:.1f} ms", flush=True)

    def live(self):
        until = time.monotonic() + self.args.seconds if self.args.seconds else None
        print("Ctrl-C ends the demo.\n", flush=True)
        while until is None or time.monotonic() < until:
            self.check()
            time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="end, with exit code 0, when data of every device has arrived; 1 after --seconds")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after N seconds (default: never; with --once 30)")
    parser.add_argument("--devices", type=int, default=12, metavar="N", help="number of MQTT devices (12)")
    parser.add_argument("--drives", type=int, default=4, metavar="N", help="number of Modbus devices (4)")
    parser.add_argument("--rate", type=int, default=24, metavar="N", help="messages a second of all devices together (24)")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "build")
    args = parser.parse_args()
    args.build = args.build.resolve()
    if args.once and args.seconds is None:
        args.seconds = 30
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored, as by a shell's background job
    try:
        with tempfile.TemporaryDirectory(prefix="iotgw-demo-") as work, Demo(args, pathlib.Path(work)) as demo:
            demo.start()
            if args.once:
                demo.once()
            else:
                demo.live()
    except KeyboardInterrupt:
        print(flush=True)
    except SimError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
