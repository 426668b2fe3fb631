# SPDX-License-Identifier: Apache-2.0
"""Statistics of the gateway itself on the platform: what each period says, custom commands, and latency metadata."""
import json
import os
import time

from plant import Broker, Gateway, Platform, mqtt_connector, wait_until

TOPIC = "sensors/boiler/data"


def own(platform):
    return platform.latest("")


def running(made, commands=None, **thingsboard):
    platform, broker = made(Platform), made(Broker)
    gateway = made(Gateway, platform.port, {"Plant": mqtt_connector(broker.port)}, thingsboard=thingsboard, start=False)
    if commands is not None:
        (gateway.directory / "statistics.json").write_text(json.dumps(commands))
    gateway.start()
    gateway.wait_log("Plant: connected")
    return platform, broker, gateway


def with_commands(custom_s=1, **more):
    return {"enable": True, "statsSendPeriodInSeconds": 3600, "customStatsSendPeriodInSeconds": custom_s, "configuration": "statistics.json", **more}


def test_each_period_tells_of_machine_service_and_connectors(made):
    platform, broker, gateway = running(made, statistics={"enable": True, "statsSendPeriodInSeconds": 10})
    broker.publish_lines(TOPIC, [{"temperature": n} for n in range(20)])
    broker.publish(TOPIC, "no json")
    platform.wait_for("boiler", temperature=19)
    wait_until(lambda: "machineStats" in own(platform), "statistics come")
    latest = own(platform)
    machine, service, connectors = latest["machineStats"], latest["serviceStats"], latest["connectorsStats"]
    assert 0 < machine["freeMemory"] < 100 and machine["freeDisk"][-1] in "BKMGT"
    memory = machine["gwProcessMemoryFullInfo"]
    assert set(memory) == set("rss vms shared text lib data dirty uss pss swap".split()) and memory["rss"] > 1000000
    assert machine["msgsSentToPlatform"] >= 1
    assert service["platformMsgPushed"] == service["storageMsgPulled"] == 20 and service["storageMsgCount"] == 0
    assert service["storageMsgDropped"] == 0
    assert service["platformTsProduced"] == 20
    assert connectors["Plant"]["connectorMsgsReceived"] == 21 and connectors["Plant"]["storageMsgPushed"] == 20
    assert connectors["Plant_converter"]["convertersTsProduced"] == 20
    assert connectors["Plant_converter"]["convertersMsgProcessed"] == 20
    assert latest["cpuCount"] == os.cpu_count() and latest["totalMemory"][-1] in "MGT"

    def is_quiet():
        return own(platform)["connectorsStats"]["Plant"]["connectorMsgsReceived"] == 0
    wait_until(is_quiet, "the next message counts from the last one")
    assert "no effect" not in gateway.log_text()


def test_custom_commands_give_numbers_and_text_and_what_fails_is_left_out(made):
    commands = [{"attributeOnGateway": "answer", "command": "echo 42"},
                {"attributeOnGateway": "ratio", "command": ["/bin/sh", "-c", "echo 0.25"]},
                {"attributeOnGateway": "name", "command": ["echo", "a b; rm x"]},
                {"attributeOnGateway": "failing", "command": "echo 1; exit 3"},
                {"attributeOnGateway": "silent", "command": "true"},
                {"attributeOnGateway": "missing", "command": ["/nonexistent/program"]},
                {"attributeOnGateway": "flood", "command": "yes"},
                {"attributeOnGateway": "later", "command": "echo last"}]
    platform, _, gateway = running(made, commands, statistics=with_commands())
    wait_until(lambda: own(platform).get("later") == "last", "results come")
    latest = own(platform)
    assert (latest["answer"], latest["ratio"], latest["name"]) == (42, 0.25, "a b; rm x")
    assert not {"failing", "silent", "missing", "flood"} & set(latest)
    assert "attribute=failing" in gateway.log_text()


def test_a_command_that_hangs_is_killed_with_all_it_has_begun(made, tmp_path):
    mark = tmp_path / "pids"
    commands = [{"attributeOnGateway": "hung", "command": f"sleep 1000 & echo $! >> {mark}; sleep 1000", "timeout": 0.5},
                {"attributeOnGateway": "left", "command": f"sleep 1001 & echo $! >> {mark}; echo 7", "timeout": 5}]
    platform, _, gateway = running(made, commands, statistics=with_commands(custom_s=2))
    wait_until(lambda: own(platform).get("left") == 7, "the other one's result comes")
    assert "hung" not in own(platform)

    def has_ended(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True
    first = mark.read_text().split()[:2]
    wait_until(lambda: all(has_ended(pid) for pid in first), "what they left behind is gone")
    begun = time.monotonic()
    assert gateway.stop() == 0 and time.monotonic() - begun < 10


def test_install_commands_run_only_where_the_shell_is_allowed(made, tmp_path):
    commands = [{"attributeOnGateway": "tool", "command": f"cat {tmp_path}/tool", "installCmd": f"echo x >> {tmp_path}/tool"}]
    platform, _, gateway = running(made, commands, statistics=with_commands())
    gateway.wait_log("remoteShell is off")
    wait_until(lambda: "attribute=tool" in gateway.log_text(), "the command fails without it")
    gateway.stop()
    assert not (tmp_path / "tool").exists()
    platform, _, gateway = running(made, commands, statistics=with_commands(), remoteShell=True)
    wait_until(lambda: own(platform).get("tool") == "x", "it was installed")
    assert (tmp_path / "tool").read_text() == "x\n"


def test_an_install_command_that_a_reload_brings_runs_once(made, tmp_path):
    platform, _, gateway = running(made, statistics={**with_commands(), "configuration": ""}, remoteShell=True)
    path = gateway.directory / "tb_gateway.json"
    main = json.loads(path.read_text())
    tool = {"attributeOnGateway": "tool", "command": f"cat {tmp_path}/tool", "installCmd": f"echo x >> {tmp_path}/tool"}
    for name in ("tool", "second"):
        main["thingsboard"]["statistics"]["commands"] = [{**tool, "attributeOnGateway": name}]
        path.write_text(json.dumps(main))
        wait_until(lambda: own(platform).get(name) == "x", "the command of the reload runs")
    assert (tmp_path / "tool").read_text() == "x\n"


def test_periods_change_while_the_gateway_runs(made):
    platform, _, gateway = running(made, [{"attributeOnGateway": "answer", "command": "echo 42"}], statistics=with_commands(custom_s=3600))
    path = gateway.directory / "tb_gateway.json"
    main = json.loads(path.read_text())
    main["thingsboard"]["statistics"]["customStatsSendPeriodInSeconds"] = 1
    path.write_text(json.dumps(main))
    wait_until(lambda: own(platform).get("answer") == 42, "the new period counts")


def test_nothing_is_sent_of_an_outage(made, tmp_path):
    runs = tmp_path / "runs"
    commands = [{"attributeOnGateway": "answer", "command": ["/bin/sh", "-c", f"echo x >> {runs}; wc -l < {runs}"]}]
    platform, _, gateway = running(made, commands, statistics=with_commands())
    wait_until(lambda: own(platform).get("answer", 0) >= 1, "a result comes")
    platform.ask("down")
    gateway.wait_log("connection to the platform lost")
    told, n_runs = own(platform)["answer"], len(runs.read_text().split())
    time.sleep(3.5)  # an outage of three periods
    assert own(platform)["answer"] == told
    n_outage = len(runs.read_text().split())
    assert n_outage <= n_runs + 1, "commands run in an outage"  # one may have been under way
    n_before = platform.stats()["own_telemetry"]
    platform.ask("up")
    wait_until(lambda: own(platform)["answer"] > told + 2, "it goes on")

    def counted():
        """The last answer, and how many values of its own the gateway has sent until then."""
        answer, n = own(platform)["answer"], platform.stats()["own_telemetry"] - n_before
        return (answer, n) if own(platform)["answer"] == answer else None
    answer, n = wait_until(counted, "nothing comes while it is counted")
    # One for each run after the outage. One of before may have been on its way when the link was lost.
    assert n <= answer - n_outage + (n_outage - told), f"{n} results, the last one {answer}: some are of the outage"
    assert n >= answer - n_outage, f"{n} results, the last one {answer}: some are missing"


def test_latency_mode_adds_metadata_and_changes_while_the_gateway_runs(made):
    platform, broker, gateway = running(made, latencyDebugMode=True)
    begun = int(time.time() * 1000)
    broker.publish_lines(TOPIC, [{"temperature": n} for n in range(50)])
    platform.wait_for("boiler", temperature=49)
    assert "no effect" not in gateway.log_text()
    metadata = platform.ask("metrics")["metadata"]["Plant"]
    times = [metadata[key] for key in ("receivedTs", "convertedTs", "sendToStorageTs", "putToStorageTs", "publishedTs")]
    assert set(metadata) == {"connector", "receivedTs", "convertedTs", "sendToStorageTs", "putToStorageTs", "publishedTs"}
    assert metadata["connector"] == "Plant" and begun <= times[0] and times == sorted(times) and times[-1] <= time.time() * 1000
    metrics = own(platform)["gatewayMetrics"]["Plant"]
    assert 0 <= metrics["minGwLatency"] <= metrics["avgGwLatency"] <= metrics["maxGwLatency"] < 60000

    path = gateway.directory / "tb_gateway.json"
    main = json.loads(path.read_text())
    for is_on in (False, True):
        main["thingsboard"]["latencyDebugMode"] = is_on
        gateway_log = len(gateway.log_text())
        path.write_text(json.dumps(main))
        wait_until(lambda: "configuration" in gateway.log_text()[gateway_log:], "the change is taken")
        platform.ask("reset")
        broker.publish(TOPIC, json.dumps({"temperature": 100 + is_on}))
        platform.wait_for("boiler", temperature=100 + is_on)
        assert ("Plant" in platform.ask("metrics")["metadata"]) == is_on
    assert "restart" not in gateway.log_text()


def test_metadata_and_values_stay_within_the_payload_limit(made):
    platform, broker, gateway = running(made, latencyDebugMode=True, maxPayloadSizeBytes=1024)
    platform.ask("reset")
    broker.publish_lines(TOPIC, [{"temperature": n, "seq": "x" * 300} for n in range(40)])
    platform.wait_for("boiler", temperature=39)
    stats = platform.stats()
    assert stats["outcomes"]["OK"] == sum(stats["outcomes"].values()) and stats["values"] == 80
    assert stats["bytes"] / stats["telemetry"] <= 1024
