# SPDX-License-Identifier: Apache-2.0
"""Signals that come before the gateway is up, or while it begins anew: none is lost, none ends it by itself."""
import os
import signal
import time

import pytest
from plant import Broker, Gateway, Platform, mqtt_connector, wait_until


def plant(made, tmp_path, kind="memory"):
    platform, broker = made(Platform), made(Broker)
    storage = {"type": "memory"} if kind == "memory" else {"type": "file", "data_folder_path": str(tmp_path / "data")}
    return platform, made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, start=False, storage=storage)


def sent_before(number):
    def begin():
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        os.kill(os.getpid(), number)
    return begin


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_is_there_before_the_gateway_is_obeyed(made, tmp_path, kind, number):
    _, gateway = plant(made, tmp_path, kind)
    gateway.start(preexec_fn=sent_before(number))
    assert gateway.process.wait(20) == 0
    assert "stopping" in gateway.log_text() and "takes too long" not in gateway.log_text()


def test_a_stop_at_any_moment_of_starting_is_obeyed(made, tmp_path):
    _, gateway = plant(made, tmp_path, "file")
    for i in range(40):
        gateway.start()
        time.sleep(i / 2000)  # moments of starting, not a wait for something
        assert gateway.stop() in (0, -signal.SIGTERM)  # the latter: not even main has begun
    assert "takes too long" not in gateway.log_text()


def test_a_reload_that_is_asked_for_before_the_gateway_is_there_does_not_end_it(made, tmp_path):
    platform, gateway = plant(made, tmp_path)
    gateway.start(preexec_fn=sent_before(signal.SIGHUP))
    gateway.wait_log("gateway is running")
    wait_until(lambda: platform.ask("logins")["logins"], "it is logged in")
    assert gateway.stop() == 0


def test_a_shell_in_the_background_does_not_keep_it_from_stopping(made, tmp_path):
    _, gateway = plant(made, tmp_path)
    gateway.start(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    gateway.wait_log("gateway is running")
    assert gateway.stop(signal.SIGINT) == 0


def test_a_stop_during_a_restart_by_the_platform_is_a_stop(made, tmp_path):
    platform, gateway = plant(made, tmp_path)
    for number in range(1, 6):
        size = len(gateway.log_text()) if gateway.process else 0
        gateway.start()
        wait_until(lambda at=size: "connected to the platform" in gateway.log_text()[at:], "it is connected")
        platform.own_rpc(number, "gateway_restart")
        while "restart by the platform" not in gateway.log_text()[size:]:
            assert gateway.process.poll() is None
        time.sleep((number - 1) / 500)  # moments of stopping and of beginning anew
        assert gateway.stop() == 0
