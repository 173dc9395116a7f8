"""Apache's console tools say the same about every broker of the run."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import tools
from harness.broker import Broker, kafka_is_installed
from harness.driver import CLIENTS, record
from harness.stage import Drivers, Play, Stage
from harness.tools import Output, run_tool

pytestmark = pytest.mark.skipif(not kafka_is_installed(), reason="no Apache Kafka: needs a JDK and Maven")

# When the first record was written: the same for every broker.
WRITTEN_AT = int(time.time() * 1000) - 3_600_000


class Desk:
    """One broker, and the tools."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.broker = stage.broker
        self.said: list[tuple[int, str]] = []

    def run(self, tool: str, *arguments: str, given: str = "", sort: bool = False) -> Output:
        output = run_tool(tool, "--bootstrap-server", self.broker.bootstrap, *arguments, given=given)
        text = output.normalised(self.broker)
        self.said.append((output.status, "\n".join(sorted(text.splitlines())) if sort else text))
        return output

    def fill(self, topic: str, count: int, partition: int = 0) -> None:
        records = [record(f"value {n}".encode(), f"key {n}".encode(), written_at(n)) for n in range(count)]
        answer = self.stage.steward.ask("produce", topic=topic, partition=partition, records=records)
        assert all("o" in each for each in answer["results"]), answer


def written_at(number: int) -> int:
    """The times of ten records: all different, and not in order. The largest is that of the eighth."""
    return WRITTEN_AT + number * 7 % 10


@pytest.fixture
def desks(request: pytest.FixtureRequest, brokers: list[Broker], drivers: Drivers) -> Callable:
    """Plays a scenario at each desk at once, and compares what the tools said."""
    def play(scenario: Callable[[Desk], None]) -> list[tuple[int, str]]:
        def on(stage: Stage) -> list[tuple[int, str]]:
            desk = Desk(stage)
            scenario(desk)
            return desk.said

        steward = next(client for client in CLIENTS if client.name == "confluent-kafka")
        return Play(brokers, steward, drivers, request.node.name).everywhere(on)

    return play


def test_topics(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        for arguments in (
            ("--create", "--topic", "tools-topics", "--partitions", "3", "--config", "retention.ms=3600000"),
            ("--create", "--topic", "tools-topics"),
            ("--create", "--topic", "tools-topics", "--if-not-exists"),
            ("--create", "--topic", "tools bad"),
            ("--create", "--topic", "tools-replicas", "--replication-factor", "3"),
            ("--describe", "--topic", "tools-topics"),
            ("--alter", "--topic", "tools-topics", "--partitions", "5"),
            ("--alter", "--topic", "tools-topics", "--partitions", "4"),
            ("--describe", "--topic", "tools-topics"),
            ("--describe", "--topic", "never-was"),
            ("--delete", "--topic", "tools-topics"),
            ("--delete", "--topic", "never-was"),
        ):
            desk.run(tools.TOPICS, *arguments)

    said = desks(scenario)
    assert [status for status, _ in said] == [0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1]


def test_offsets_and_deleted_records(desks: Callable, tmp_path_factory: pytest.TempPathFactory) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-offsets", 2)
        desk.fill(topic, 10)
        desk.fill(topic, 4, 1)
        for moment in ("-1", "-2", "0", str(WRITTEN_AT + 8), "max-timestamp"):
            desk.run(tools.OFFSETS, "--topic", topic, "--time", moment)
        asked = tmp_path_factory.mktemp("records") / "offsets.json"
        wanted = [{"topic": topic, "partition": 0, "offset": 7}, {"topic": topic, "partition": 1, "offset": -1}]
        asked.write_text(json.dumps({"partitions": wanted, "version": 1}))
        desk.run(tools.DELETE_RECORDS, "--offset-json-file", str(asked), sort=True)
        desk.run(tools.OFFSETS, "--topic", topic, "--time", "earliest")
        wanted[0]["offset"] = 99
        asked.write_text(json.dumps({"partitions": wanted, "version": 1}))
        desk.run(tools.DELETE_RECORDS, "--offset-json-file", str(asked), sort=True)

    said = desks(scenario)
    assert said[0][1] == "tools-offsets:0:10\ntools-offsets:1:4"
    assert said[3][1].splitlines()[0] == "tools-offsets:0:4"
    assert said[4][1] == "tools-offsets:0:7\ntools-offsets:1:1"
    assert said[6][1] == "tools-offsets:0:7\ntools-offsets:1:4"


def test_consumer_groups(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-groups", 2)
        desk.fill(topic, 6)
        desk.fill(topic, 5, 1)
        consumed = run_tool(tools.CONSOLE_CONSUMER, "--bootstrap-server", desk.broker.bootstrap, "--topic", topic,
                            "--group", "tools-group", "--from-beginning", "--max-messages", "11")
        desk.said.append((consumed.status, "\n".join(sorted(consumed.text.splitlines()))))
        for arguments in (
            ("--describe", "--group", "tools-group"),
            ("--describe", "--group", "tools-group", "--members"),
            ("--describe", "--group", "tools-group", "--state"),
            ("--reset-offsets", "--group", "tools-group", "--topic", topic, "--to-offset", "2", "--execute"),
            ("--reset-offsets", "--group", "tools-group", "--topic", topic, "--shift-by", "1", "--dry-run"),
            ("--describe", "--group", "tools-group", "--offsets"),
            ("--delete-offsets", "--group", "tools-group", "--topic", topic),
            ("--describe", "--group", "tools-group", "--offsets"),
            ("--delete", "--group", "tools-group"),
            ("--delete", "--group", "never-was"),
            ("--describe", "--group", "never-was"),
        ):
            desk.run(tools.GROUPS, *arguments, sort=True)

    desks(scenario)


def test_groups_are_listed(desks: Callable) -> None:
    """With a member at work: listed, described, and its offsets cannot be reset."""
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-live", 1)
        desk.fill(topic, 3)
        member = desk.stage.member("tools-live-group", [topic])
        received = []
        while len(received) < 3:
            received += member.ask("poll", for_ms=500, count=3)["records"]
        member.ask("commit")
        listed = run_tool(tools.GROUPS, "--bootstrap-server", desk.broker.bootstrap, "--list", "--state")
        desk.said.append((listed.status, next(line for line in listed.text.splitlines() if "tools-live" in line)))
        desk.run(tools.GROUPS, "--describe", "--group", "tools-live-group", "--state")
        desk.run(tools.GROUPS, "--reset-offsets", "--group", "tools-live-group", "--topic", topic, "--to-earliest",
                 "--execute")
        member.ask("leave")

    desks(scenario)


def test_console_producer_and_consumer(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-console")
        lines = "".join(f"h{n}:{n}\tkey {n}\tvalue {n}\n" for n in range(20))
        desk.run(tools.CONSOLE_PRODUCER, "--topic", topic, "--property", "parse.key=true", "--property",
                 "parse.headers=true", "--compression-codec", "zstd", given=lines)
        desk.run(tools.CONSOLE_CONSUMER, "--topic", topic, "--partition", "0", "--offset", "5", "--max-messages", "15",
                 "--property", "print.key=true", "--property", "print.headers=true", "--property", "print.offset=true")

    said = desks(scenario)
    assert "Offset:5" in said[1][1] and "value 19" in said[1][1], said


def test_verifiable_producer_and_consumer(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-verifiable", 3)
        produced = run_tool(tools.VERIFIABLE_PRODUCER, "--bootstrap-server", desk.broker.bootstrap, "--topic", topic,
                            "--max-messages", "2000", "--acks", "-1")
        events = [json.loads(line) for line in produced.text.splitlines() if line.startswith("{")]
        told = next(event for event in events if event["name"] == "tool_data")
        desk.said.append((produced.status, f"{told['sent']} sent, {told['acked']} acked"))
        command = tools.command_of(tools.VERIFIABLE_CONSUMER, "--bootstrap-server", desk.broker.bootstrap, "--topic",
                                   topic, "--group-id", "tools-verifiable", "--max-messages", "2000",
                                   "--reset-policy", "earliest")
        consumer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert consumer.stdout
        count = 0
        committed: dict[int, int] = {}
        for line in consumer.stdout:
            event = json.loads(line)
            if event["name"] == "records_consumed":
                count += event["count"]
            elif event["name"] == "offsets_committed":
                assert event["success"], event
                committed.update((place["partition"], place["offset"]) for place in event["offsets"])
            if count >= 2000 and sum(committed.values()) >= 2000:
                break
        consumer.send_signal(signal.SIGTERM)
        consumer.communicate(timeout=30)
        desk.said.append((0, f"{count} consumed, {sum(committed.values())} committed"))

    said = desks(scenario)
    assert said == [(0, "2000 sent, 2000 acked"), (0, "2000 consumed, 2000 committed")]


def test_no_partition_is_reassigned(desks: Callable) -> None:
    said = desks(lambda desk: desk.run(tools.REASSIGN, "--list"))
    assert said[0][0] == 0 and "No partition reassignments found." in said[0][1], said


def test_leaders_are_elected_already(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-elected", 2)
        for election in ("preferred", "unclean"):
            desk.run(tools.ELECTIONS, "--election-type", election, "--all-topic-partitions")
            for partition in ("0", "7"):
                desk.run(tools.ELECTIONS, "--election-type", election, "--topic", topic, "--partition", partition)

    said = desks(scenario)
    assert [status for status, _ in said] == [0, 0, 1] * 2
    assert said[1][1] == "Valid replica already elected for partitions tools-elected-0"


def test_producers_of_a_partition(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        topic = desk.stage.create("tools-producers")
        given = "".join(f"value {n}\n" for n in range(7))
        desk.run(tools.CONSOLE_PRODUCER, "--topic", topic, given=given)
        told = desk.run(tools.TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", "0")
        # Which id it is, and when it produced, is no matter here.
        columns = told.text.splitlines()[-1].split()
        desk.said[-1] = (told.status, " ".join(columns[place] for place in (1, 2, 3, 5)))
        desk.run(tools.TRANSACTIONS, "find-hanging", "--broker-id", "1")

    said = desks(scenario)
    assert said[1] == (0, "0 -1 6 None") and said[2][0] == 0, said


def test_the_quorum_is_one_node(desks: Callable) -> None:
    def scenario(desk: Desk) -> None:
        told = desk.run(tools.QUORUM, "describe", "--replication")
        columns = told.text.splitlines()[-1].split()
        desk.said[-1] = (told.status, " ".join(columns[place] for place in (0, 1, 3, 6)))
        told = desk.run(tools.QUORUM, "describe", "--status")
        facts = dict(line.split(":", 1) for line in told.text.splitlines())
        wanted = ("LeaderId", "MaxFollowerLag", "MaxFollowerLagTimeMs", "CurrentObservers")
        desk.said[-1] = (told.status, " ".join(f"{name}={facts[name].strip()}" for name in wanted))

    assert desks(scenario) == [
        (0, f"1 {'A' * 22} 0 Leader"), (0, "LeaderId=1 MaxFollowerLag=0 MaxFollowerLagTimeMs=0 CurrentObservers=[]"),
    ]


def test_nothing_is_authorized(desks: Callable) -> None:
    said = desks(lambda desk: desk.run(tools.ACLS, "--list"))
    assert said[0][0] == 1 and "No Authorizer is configured on the broker" in said[0][1], said


def test_brokers_configs_must_fit_together(desks: Callable) -> None:
    """What would count for the broker is checked, so a default may be bad while the broker has a value of its own."""
    def scenario(desk: Desk) -> None:
        broker, default = ("--entity-name", "1"), ("--entity-default",)
        for whose, what, setting in (
            (broker, "--add-config", "log.retention.ms=0"),
            (default, "--add-config", "log.roll.ms=0"),
            (broker, "--add-config", "log.retention.ms=3600000"),
            (default, "--add-config", "log.retention.ms=0"),
            (broker, "--delete-config", "log.retention.ms"),
            (default, "--delete-config", "log.retention.ms"),
            (broker, "--delete-config", "log.retention.ms"),
        ):
            desk.run(tools.CONFIGS, "--alter", "--entity-type", "brokers", *whose, what, setting)

    said = desks(scenario)
    assert [status for status, _ in said] == [1, 1, 0, 0, 1, 0, 0]


def test_configs_are_described(brokers: list[Broker], drivers: Drivers) -> None:
    """Every key of a topic with its default and where it comes from. Flumen's own default of
    flush.messages is 1; everything else is Kafka's."""
    def keys(broker: Broker) -> dict[str, str]:
        steward = next(client for client in CLIENTS if client.name == "confluent-kafka")
        stage = Stage(broker, steward, drivers, "tools-configs")
        stage.create("tools-configs", retention_ms="7200000")
        output = run_tool(tools.CONFIGS, "--bootstrap-server", broker.bootstrap, "--describe", "--all", "--topic",
                          "tools-configs")
        assert output.status == 0, output.text
        found = {}
        for line in output.text.splitlines():
            if "=" in line and " sensitive=" in line:
                setting, _, rest = line.strip().partition(" sensitive=")
                key, _, value = setting.partition("=")
                found[key] = f"{value} {rest}"
        return found

    with ThreadPoolExecutor(len(brokers)) as pool:
        found = dict(zip((broker.name for broker in brokers), pool.map(keys, brokers)))
    for described in found.values():
        described.pop("flush.messages")
    first, *others = found.values()
    assert "retention.ms" in first
    for other in others:
        assert other == first
