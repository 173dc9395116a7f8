"""Topics come, grow and go: by request, and by first use."""

from __future__ import annotations

import pytest

from harness.driver import record
from harness.stage import Outcome, Play, Stage
from harness.waiting import wait_until


def offset_of_first(stage: Stage, topic: str) -> dict:
    return stage.main.ask("produce", topic=topic, partition=0, records=[record(b"v", b"k")])["results"][0]


@pytest.mark.needs("create")
def test_create(play: Play) -> None:
    """A topic, the same again, and one with settings."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.topic()
        answers = [
            stage.main.ask("create", topic=topic, partitions=3),
            stage.main.ask("create", topic=topic, partitions=3),
            stage.main.ask("create", topic=topic + "-set", partitions=1,
                           config={"min.insync.replicas": "1", "flush.ms": "1000", "cleanup.policy": "compact",
                                   "retention.ms": "-1", "segment.bytes": "1048576"}),
        ]
        assert "error" not in answers[0] and "error" in answers[1] and "error" not in answers[2], answers
        wait_until("both topics", lambda: stage.steward.ask("partitions", topic=topic + "-set").get("partitions") == 1)
        return answers, stage.steward.ask("partitions", topic=topic)

    play.everywhere(scenario)


@pytest.mark.needs("create")
@pytest.mark.parametrize(
    ("suffix", "partitions", "config"),
    [
        ("bad name", 1, {}),
        ("a/b", 1, {}),
        ("x" * 250, 1, {}),
        ("zero", 0, {}),
        ("less", -2, {}),
        ("unknown-key", 1, {"no.such.setting": "1"}),
        ("bad-number", 1, {"retention.ms": "soon"}),
        ("bad-range", 1, {"min.insync.replicas": "0"}),
        ("bad-policy", 1, {"cleanup.policy": "burn"}),
        ("bad-codec", 1, {"compression.type": "rar"}),
    ],
    ids=["space", "slash", "long", "zero", "negative", "unknown-key", "bad-number", "bad-range", "bad-policy", "bad-codec"],
)
def test_create_refused(play: Play, suffix: str, partitions: int, config: dict[str, str]) -> None:
    """Illegal names, counts and settings fail as Kafka's do."""

    def scenario(stage: Stage) -> Outcome:
        return stage.main.ask("create", topic=stage.topic(suffix), partitions=partitions, config=config)

    assert "error" in play.everywhere(scenario)


@pytest.mark.needs("create", "delete")
def test_names_that_collide(play: Play) -> None:
    """A dot and an underscore mean the same to metrics, so both cannot be."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.topic().replace("_", "-")
        first = stage.main.ask("create", topic=topic + ".a", partitions=1)
        second = stage.main.ask("create", topic=topic + "_a", partitions=1)
        assert "error" not in first and "error" in second
        return second

    play.everywhere(scenario)


@pytest.mark.needs("delete")
def test_delete(play: Play) -> None:
    """A topic that is there, and one that is not; the name is free again afterwards, and the log empty."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), partitions=2)
        first = [offset_of_first(stage, topic) for _ in range(3)]
        gone = stage.main.ask("delete", topic=topic)
        assert "error" not in gone, gone
        wait_until("the topic to go", lambda: topic not in topics_of(stage))
        unknown = stage.main.ask("delete", topic=stage.topic("-never-was"))
        assert "error" in unknown
        stage.create(topic, partitions=2)
        marks = stage.main.ask("watermarks", topic=topic, partition=0)
        assert marks == {"low": 0, "high": 0}
        # A client that knew the first topic recovers by itself; franz-go does not, on any broker.
        if stage.client.name == "franz-go":
            stage.main.close()
        again = wait_until("the producer to find the new topic",
                           lambda: found if "error" not in (found := offset_of_first(stage, topic)) else None)
        found = stage.main.ask("read", topic=topic, partition=0, count=1)["records"]
        assert found[0]["o"] == 0, found
        return first, gone, unknown, marks, again

    play.everywhere(scenario)


def topics_of(stage: Stage) -> list[str]:
    return stage.steward.ask("topics")["topics"]


@pytest.mark.needs("grow")
def test_grow(play: Play) -> None:
    """More partitions; as many and fewer are errors."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), partitions=2)
        answers = [stage.main.ask("grow", topic=topic, partitions=count) for count in (5, 5, 3)]
        assert "error" not in answers[0] and "error" in answers[1] and "error" in answers[2], answers
        answers.append(stage.main.ask("grow", topic=stage.topic("-never-was"), partitions=3))
        wait_until("five partitions", lambda: stage.steward.ask("partitions", topic=topic).get("partitions") == 5)
        results = wait_until("the new partition to take a record", lambda: [
            each for each in stage.main.ask("produce", topic=topic, partition=4, records=[record(b"v", b"k")])["results"]
            if "error" not in each])
        return answers, results

    play.everywhere(scenario)


@pytest.mark.needs("create_on_produce")
def test_created_by_first_use(play: Play) -> None:
    """A record for a topic that is not there makes it, with the default of one partition."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.topic()
        assert topic not in topics_of(stage)
        wait_until("a first record to go through", lambda: "error" not in offset_of_first(stage, topic))
        found = stage.main.ask("read", topic=topic, partition=0, count=1)["records"]
        return [each["v"] for each in found], stage.main.ask("partitions", topic=topic)

    assert play.everywhere(scenario)[1] == {"partitions": 1}


@pytest.mark.needs("delete_records")
def test_delete_records(play: Play) -> None:
    """The beginning of a log goes; reading starts behind it; beyond the end is an error."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        records = [record(f"{n}".encode(), b"k") for n in range(10)]
        stage.main.ask("produce", topic=topic, partition=0, records=records)
        answers = [stage.main.ask("delete_records", topic=topic, partition=0, before=before) for before in (4, 2, 11)]
        assert answers[0] == {"low": 4}
        found = stage.main.ask("read", topic=topic, partition=0, count=6)["records"]
        assert [each["o"] for each in found] == list(range(4, 10))
        return answers, found[0]["v"], stage.main.ask("watermarks", topic=topic, partition=0)

    play.everywhere(scenario)

