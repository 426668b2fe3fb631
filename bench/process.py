# SPDX-License-Identifier: Apache-2.0
"""A gateway under measurement: started, accounted for from /proc, and ended."""
import os
import pathlib
import shlex
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


class Gateway:
    """command: a gateway's command line; {config} in it becomes the directory of its configuration."""

    def __init__(self, command, config, work):
        (work / "logs").mkdir(exist_ok=True)
        (work / "data").mkdir(exist_ok=True)
        self.log = open(work / "gateway.log", "ab")
        self.log_path = work / "gateway.log"
        words = [word.replace("{config}", str(config)) for word in shlex.split(command)]
        self.started_us = time.monotonic_ns() // 1000
        self.process = subprocess.Popen(words, cwd=work, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def is_running(self):
        return self.process.poll() is None

    def tree(self):
        """The process and all below it."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    waiting += [int(child) for child in children.read_text().split()]
                except OSError:
                    pass
        return found

    def cpu_s(self):
        """User and system time of the tree and of its ended children, in steps of 10 ms."""
        total = 0
        for pid in self.tree():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += sum(int(field) for field in fields[11:15])
        return total / TICK

    def cpu_fine_s(self):
        """Time on a processor of all threads that live now, to the nanosecond: for spans in which no thread ends."""
        total = 0
        for pid in self.tree():
            for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(path.read_text().split()[0])
                except OSError:
                    pass
        return total / 1e9

    def status_kib(self, field):
        total = 0
        for pid in self.tree():
            try:
                lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
        return total

    def peak_rss_kib(self):
        return self.status_kib("VmHWM")

    def rss_kib(self):
        return self.status_kib("VmRSS")

    def stop(self):
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # what it left behind: the group is its own
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()

    def kill(self):
        """SIGKILL to the whole tree, as a loss of power would be for the processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def last_words(self):
        return b"\n".join(self.log_path.read_bytes().splitlines()[-8:]).decode(errors="replace")
