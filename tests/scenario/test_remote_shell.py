# SPDX-License-Identifier: Apache-2.0
"""The remote shell and the operator's own methods: only with remoteShell, bounded, and never in the way of anything else."""
import json
import os
import pathlib
import time

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until


class Shell:
    """The platform's side of it."""

    def __init__(self, made, **thingsboard):
        self.platform, self.broker = made(Platform), made(Broker)
        self.gateway = made(Gateway, self.platform.port, {"Plant": mqtt_connector(self.broker.port)},
                            thingsboard={"remoteShell": True, **thingsboard})
        self.gateway.wait_log("Plant: connected")
        self.gateway.wait_log("connected to the platform")
        self.n = 0

    def ask(self, method, params=None):
        self.n += 1
        self.platform.own_rpc(self.n, method, params)
        return self.platform.wait_replies(self.n)[f"own {self.n}"]

    def send(self, command, **more):
        return self.ask("sendCommand", {"command": command, **more})

    def rest(self):
        """All output until the command is done."""
        text = []

        def is_done():
            status = self.ask("getCommandStatus")
            assert status["data"][0]["stderr"] == ""
            text.append(status["data"][0]["stdout"])
            return status["done"]
        wait_until(is_done, "the command is done")
        return "".join(text)

    def run(self, command, **more):
        assert self.send(command, **more) == {"ok": True}
        return self.rest()

    def program(self, name, text, mode=0o755):
        path = self.gateway.directory / "rpc" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path


def is_waiting_to_write(name, ancestor):
    """A process of that name below the ancestor sleeps, which this one does only while its output is full."""
    parents = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        command, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        parents[int(path.parent.name)] = (command, rest[0], int(rest[1]))
    for command, state, pid in parents.values():
        while command == name and state == "S" and pid in parents:
            if pid == ancestor:
                return True
            pid = parents[pid][2]
    return False


@pytest.fixture
def shell(made):
    return Shell(made)


def is_alive(pid):
    try:
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def pid_of(shell):
    text = []

    def there():
        text.append(shell.ask("getCommandStatus")["data"][0]["stdout"])
        return "".join(text).strip()
    return int(wait_until(there, "a process number"))


def test_a_shell_session(shell, tmp_path):
    info = shell.ask("getTermInfo")
    assert info == {"platform": os.uname().sysname, "release": os.uname().release, "cwd": str(shell.gateway.directory)}
    assert shell.run("echo out; echo err >&2; exit 3") == "out\nerr\n"
    assert shell.run("echo 'ünïcödé \"quoted\"'; printf '\\001\\377'") == "ünïcödé \"quoted\"\n\x01\ufffd"
    assert shell.run("ls /proc/self/fd | wc -l") == "4\n"  # and the directory: nothing of the gateway is left open for it
    (tmp_path / "sub dir").mkdir()
    assert shell.run(f"cd {tmp_path}") == ""
    assert shell.run("cd 'sub dir'") == ""
    assert shell.run("pwd") == f"{tmp_path}/sub dir\n"
    assert "No such file" in shell.run("cd nowhere")
    assert shell.run("pwd", cwd=str(tmp_path)) == f"{tmp_path}\n"
    assert shell.run("cd / && pwd") == "/\n"
    assert shell.ask("getCommandStatus") == {"data": [{"stdout": "", "stderr": ""}], "cwd": str(tmp_path), "done": True}
    assert shell.send("quit") == {"ok": True}
    assert shell.ask("getTermInfo")["cwd"] == str(shell.gateway.directory)
    assert "remoteShell" in shell.gateway.log_text()  # a warning that it is on


def test_bad_requests_are_refused_and_the_shell_goes_on(shell):
    for params in (None, {}, [], "x", 5, {"command": 5}, {"command": " "}, {"command": "a\0b"}, {"command": "pwd", "cwd": "/nowhere"}):
        assert shell.ask("sendCommand", params)["ok"] is False
    assert shell.ask("terminateCommand") == {"ok": False, "error": "No command is running"}
    assert shell.send("x" * 200000)["ok"] is False  # longer than the system takes
    assert shell.ask("sendShellCommand")["code"] == 404
    assert "not found" in shell.run("no-such-program")
    assert shell.run("cat") == ""  # there is nothing to read


def test_a_command_is_ended_with_all_that_it_started(shell):
    assert shell.send("sleep 1000 & echo $!; wait") == {"ok": True}
    pid = pid_of(shell)
    assert shell.ask("getCommandStatus")["done"] is False
    assert shell.ask("terminateCommand") == {"ok": True}
    wait_until(lambda: shell.ask("getCommandStatus")["done"], "it has ended")
    wait_until(lambda: not is_alive(pid), "what it started has ended")
    assert shell.send("trap '' TERM; echo $$; while :; do sleep 1000; done") == {"ok": True}  # does not want to
    pid = pid_of(shell)
    assert shell.ask("terminateCommand") == {"ok": True}
    wait_until(lambda: shell.ask("getCommandStatus")["done"], "it has ended")
    assert shell.send("echo $$; sleep 1000") == {"ok": True}
    pid = pid_of(shell)
    assert shell.run("echo next") == "next\n"
    wait_until(lambda: not is_alive(pid), "the next command ends it")


def test_output_without_end_is_bounded_and_complete(shell):
    assert shell.send("yes") == {"ok": True}
    wait_until(lambda: shell.ask("getCommandStatus")["data"][0]["stdout"], "output")
    before = shell.gateway.rss_kib()
    wait_until(lambda: is_waiting_to_write("yes", shell.gateway.process.pid), "it is held back")
    assert shell.gateway.rss_kib() - before < 4096
    assert shell.ask("terminateCommand") == {"ok": True}
    assert shell.run("seq 100000") == "".join(f"{i}\n" for i in range(1, 100001))
    assert shell.gateway.log_text().count("larger than the platform takes") == 0


def test_a_command_is_in_nobodys_way(shell):
    assert shell.send("sleep 1000; echo never") == {"ok": True}
    shell.broker.publish("sensors/a/data", {"seq": 1})
    shell.platform.wait_for("a", seq=1)
    assert shell.ask("gateway_ping")["resp"] == "pong"


@pytest.mark.parametrize("how", ["stop", "restart", "switch off"])
def test_a_command_does_not_outlive_the_gateway_or_the_permission(shell, how):
    assert shell.send("trap '' TERM; echo $$; while :; do sleep 1000; done") == {"ok": True}
    pid = pid_of(shell)
    if how == "stop":
        shell.gateway.stop()
    elif how == "restart":
        shell.ask("gateway_restart")
    else:
        path = shell.gateway.directory / "tb_gateway.json"
        main = json.loads(path.read_text())
        main["thingsboard"]["remoteShell"] = False
        path.write_text(json.dumps(main))
        wait_until(lambda: "code" in shell.ask("getTermInfo"), "the shell is off")
        assert shell.ask("getTermInfo")["error"] == "getTermInfo - connector not found in available connectors."
    wait_until(lambda: not is_alive(pid), "the command has ended")


def test_the_operators_own_methods(shell):
    shell.program("add", "#!/bin/sh\nread line\necho \"{\\\"got\\\": $line}\"\n")
    shell.program("text", "#!/bin/sh\necho hello\n")
    shell.program("nothing", "#!/bin/sh\n")
    shell.program("fails", "#!/bin/sh\necho partly\nexit 4\n")
    shell.program("endless", "#!/bin/sh\nyes\n")
    shell.program("slow", "#!/bin/sh\nsleep 1000\n")
    shell.program("no_program", "#!/bin/sh\necho hello\n", mode=0o644)
    shell.program(".hidden", "#!/bin/sh\necho hello\n")
    shell.program("broken", "#!/nowhere/interpreter\n")
    (shell.gateway.directory / "outside").write_text("#!/bin/sh\necho outside\n")
    (shell.gateway.directory / "outside").chmod(0o755)
    assert shell.ask("gateway_add", {"x": 1.50}) == {"got": {"x": 1.5}}
    assert shell.ask("gateway_add", [1, "two"]) == {"got": [1, "two"]}
    assert shell.ask("gateway_text") == "hello"
    assert shell.ask("gateway_nothing") == {"success": True}
    assert shell.ask("gateway_fails") == {"error": "The program ended with status 4", "code": 500}
    assert shell.ask("gateway_endless")["code"] == 413
    assert shell.ask("gateway_broken")["code"] == 500
    for name in ("no_program", ".hidden", "../outside", "x/../../outside", "..", ".", "", "-x", "a b", "a\0", "x" * 300):
        assert shell.ask(f"gateway_{name}") == {"error": "Method not found", "code": 404}, name
    begin = time.monotonic()
    assert shell.ask("gateway_slow") == {"error": "The program takes longer than 5 s", "code": 408}
    assert time.monotonic() - begin > 4.9


def test_many_own_methods_at_once_are_answered_once_each(shell):
    shell.program("short", "#!/bin/sh\nsleep 0.2\necho 1\n")
    for i in range(20):
        shell.platform.own_rpc(i, "gateway_short")
    replies = shell.platform.wait_replies(20)
    answers = [replies[f"own {i}"] for i in range(20)]
    assert answers.count(1) >= 8
    assert all(a == 1 or a == {"error": "The gateway is busy", "code": 503} for a in answers)


def test_without_remote_shell_there_is_none(made):
    shell = Shell(made, remoteShell=False)
    shell.program("add", "#!/bin/sh\ncat\n")
    for method in ("getTermInfo", "sendCommand", "getCommandStatus", "terminateCommand"):
        assert shell.ask(method, {"command": "id"}) == {"error": f"{method} - connector not found in available connectors.", "code": 404}
    assert shell.ask("gateway_add", 1) == {"error": "Method not found", "code": 404}
