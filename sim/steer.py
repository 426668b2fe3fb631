# SPDX-License-Identifier: Apache-2.0
"""Starts a simulator of iotgw-sim and steers it: a command a line in, a JSON object a line out. For demo, tests and bench."""
import collections
import json
import os
import select
import subprocess
import time


class SimError(Exception):
    pass


class Simulator:
    """with Simulator(program, "platform", "--token", "T") as platform: platform.port, platform.ask("stats")["values"]"""

    def __init__(self, program, *args, stderr=None):
        self.name = args[0]
        self.process = subprocess.Popen([str(program), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                        start_new_session=True)
        self.rest = b""
        self.lines = collections.deque()
        self.events = collections.deque()
        self.port = None
        if self.name != "mqtt-devices":
            try:
                first = self.answer(10)
                self.port, self.ports = first["port"], first.get("ports", [])
                self.device = first.get("device")
            except BaseException:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if not self.close() and kind is None:
            raise SimError(f"{self.name} ended with exit code {self.process.returncode}")

    def read(self, until):
        """Takes lines in until there is one, or the time has come; False then."""
        while True:
            if self.lines:
                return True
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return False
            chunk = os.read(self.process.stdout.fileno(), 1 << 20)
            if not chunk:
                raise SimError(f"{self.name} ended (exit code {self.process.wait()})")
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            self.lines.extend(json.loads(line) for line in lines if line)

    def answer(self, seconds=30):
        until = time.monotonic() + seconds
        while self.read(until):
            line = self.lines.popleft()
            if "event" not in line:
                return line
            self.events.append(line)
        raise SimError(f"{self.name}: no answer in {seconds} s")

    def ask(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self.answer()
        if "error" in line:
            raise SimError(f"{self.name}: {command}: {line['error']}")
        return line

    def event(self, name, seconds):
        """The next event of that name, or None; other events before it are dropped."""
        until = time.monotonic() + seconds
        while True:
            while self.events:
                event = self.events.popleft()
                if event["event"] == name:
                    return event
            if not self.read(until):
                return None
            line = self.lines.popleft()
            if "event" in line:
                self.events.append(line)

    def close(self):
        """Ends it; True if it ended by itself with exit code 0."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        return code == 0


def wait_until(condition, seconds, what):
    """Until condition() is true; its value. Raises with what was awaited."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise SimError(f"not in {seconds} s: {what}")
        time.sleep(0.02)
