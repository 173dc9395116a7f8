"""What Kafka's tools ask of the quorum, of elections and of a partition's producers, on every broker of the run."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    Batch, FlexibleReader, Reader, compact, exchange, header, pack, produce, produced, record, sized, string,
)
from .scene import create_topic, everywhere

ELECT_LEADERS, DESCRIBE_QUORUM, DESCRIBE_PRODUCERS = 43, 55, 61
METADATA_TOPIC = b"__cluster_metadata"
NONE, UNKNOWN_TOPIC_OR_PARTITION, ELECTION_NOT_NEEDED = 0, 3, 84


@pytest.fixture(scope="module", autouse=True)
def topics(brokers: list[Broker]) -> None:
    for broker in brokers:
        create_topic(broker, b"elected", partitions=2)


# --- The quorum ---------------------------------------------------------------------------------------


def described_quorum(broker: Broker, version: int, *topics: tuple[bytes, list[int]]) -> dict:
    """What DescribeQuorum says. Offsets and times only as right or not: how far a log has come is no matter here."""
    body = bytes([len(topics) + 1])
    for name, indexes in topics:
        partitions = b"".join(pack("i", index) + b"\0" for index in indexes)
        body += compact(name) + bytes([len(indexes) + 1]) + partitions + b"\0"
    answer = exchange(broker, sized(header(DESCRIBE_QUORUM, version, flexible=True) + body + b"\0"))
    reader = FlexibleReader(answer[8:])
    reader.tags()
    told: dict = {"error": reader.take("h"), "message": reader.string() if version >= 2 else None, "topics": []}
    for _ in range(reader.varint() - 1):
        name = reader.string()
        partitions = []
        for _ in range(reader.varint() - 1):
            index, error = reader.take("ih")
            message = reader.string() if version >= 2 else None
            leader, epoch, high_watermark = reader.take("iiq")
            voters, observers = replicas(reader, version), replicas(reader, version)
            reader.tags()
            is_sound = error != NONE or (epoch > 0 and 0 < high_watermark <= voters[0].pop("end"))
            partitions.append((index, error, message, leader, voters, observers, is_sound))
        reader.tags()
        told["topics"].append((name, partitions))
    if version >= 2:
        told["nodes"] = [node(reader) for _ in range(reader.varint() - 1)]
    reader.tags()
    assert reader.position == len(reader.data)
    return told


def replicas(reader: FlexibleReader, version: int) -> list[dict]:
    found = []
    for _ in range(reader.varint() - 1):
        replica = {"id": reader.take("i")}
        if version >= 2:
            replica["has directory"] = any(reader.raw(16))
        replica["end"] = reader.take("q")
        if version >= 1:
            fetched, caught_up = reader.take("qq")
            replica |= {"fetched now": fetched == caught_up, "caught up": caught_up > 1_500_000_000_000}
        reader.tags()
        found.append(replica)
    return found


def node(reader: FlexibleReader) -> int:
    """A node's id. Its listeners are another matter: a controller of Flumen's has none."""
    found = reader.take("i")
    for _ in range(reader.varint() - 1):
        reader.string(), reader.string(), reader.take("H")
        reader.tags()
    reader.tags()
    return found


@pytest.mark.parametrize("version", range(3))
def test_who_leads_the_quorum(brokers: list[Broker], version: int) -> None:
    told = everywhere(brokers, lambda broker: described_quorum(broker, version, (METADATA_TOPIC, [0])))
    [(_, [(_, error, _, leader, voters, observers, is_sound)])] = told["topics"]
    assert (error, leader, [voter["id"] for voter in voters], observers, is_sound) == (NONE, 1, [1], [], True)


@pytest.mark.parametrize("version", range(3))
@pytest.mark.parametrize("topics", [
    [], [(b"elected", [0])], [(METADATA_TOPIC, [1])], [(METADATA_TOPIC, [0, 0])], [(METADATA_TOPIC, [])],
    [(METADATA_TOPIC, [0]), (b"nowhere", [0])],
], ids=["nothing", "a topic", "another partition", "twice", "no partition", "more"])
def test_what_else_has_no_quorum(brokers: list[Broker], version: int, topics: list) -> None:
    everywhere(brokers, lambda broker: described_quorum(broker, version, *topics))


# --- Elections ----------------------------------------------------------------------------------------


def elected(broker: Broker, version: int, election: int, *topics: tuple[bytes, list[int]] | None) -> object:
    """The error of the whole, and those of topics that have partitions, sorted: Kafka keeps no order of its topics."""
    kind = pack("b", election) if version >= 1 else b""
    if topics == (None,):
        asked = b"\0" if version >= 2 else pack("i", -1)
    elif version >= 2:
        named = (compact(name) + bytes([len(indexes) + 1]) + pack(f"{len(indexes)}i", *indexes) + b"\0" for name, indexes in topics)
        asked = bytes([len(topics) + 1]) + b"".join(named)
    else:
        named = (string(name) + pack(f"i{len(indexes)}i", len(indexes), *indexes) for name, indexes in topics)
        asked = pack("i", len(topics)) + b"".join(named)
    body = kind + asked + pack("i", 30_000) + (b"\0" if version >= 2 else b"")
    answer = exchange(broker, sized(header(ELECT_LEADERS, version, version >= 2) + body))
    if isinstance(answer, str):
        return answer
    reader = (FlexibleReader if version >= 2 else Reader)(answer[8:])
    many = (lambda: reader.varint() - 1) if version >= 2 else (lambda: reader.take("i"))
    tags = reader.tags if version >= 2 else (lambda: None)
    tags(), reader.take("i")
    error, results = reader.take("h") if version >= 1 else NONE, []
    for _ in range(many()):
        name, partitions = reader.string(), []
        for _ in range(many()):
            partitions.append((*reader.take("ih"), reader.string()))
            tags()
        tags()
        results.append((name, partitions))
    tags()
    assert reader.position == len(reader.data)
    return error, sorted(result for result in results if result[1])


@pytest.mark.parametrize("version", range(3))
@pytest.mark.parametrize("election", [0, 1], ids=["preferred", "unclean"])
def test_nobody_is_elected_where_somebody_leads(brokers: list[Broker], version: int, election: int) -> None:
    def play(broker: Broker) -> list:
        asked = [None], [], [(b"elected", [0, 1, 0])], [(b"elected", [9]), (b"nowhere", [0]), (b"elected", [])]
        return [elected(broker, version, election, *topics) for topics in asked]

    everything, nothing, led, unknown = everywhere(brokers, play)
    assert everything == nothing == (NONE, [])
    assert [error for _, error, _ in led[1][0][1]] == [ELECTION_NOT_NEEDED] * 3
    assert {partition[1] for _, partitions in unknown[1] for partition in partitions} == {UNKNOWN_TOPIC_OR_PARTITION}


@pytest.mark.parametrize("election", [2, -1])
def test_elections_that_there_are_none_of(brokers: list[Broker], election: int) -> None:
    for topics in ([None], [(b"elected", [0]), (b"nowhere", [0])]):
        everywhere(brokers, lambda broker: elected(broker, 2, election, *topics))


# --- Producers ----------------------------------------------------------------------------------------


def described_producers(broker: Broker, *topics: tuple[bytes, list[int]]) -> list:
    body = bytes([len(topics) + 1])
    for name, indexes in topics:
        body += compact(name) + bytes([len(indexes) + 1]) + pack(f"{len(indexes)}i", *indexes) + b"\0"
    answer = exchange(broker, sized(header(DESCRIBE_PRODUCERS, 0, flexible=True) + body + b"\0"))
    reader = FlexibleReader(answer[8:])
    reader.tags(), reader.take("i")
    told = []
    for _ in range(reader.varint() - 1):
        name, partitions = reader.string(), []
        for _ in range(reader.varint() - 1):
            index, error = reader.take("ih")
            message, producers = reader.string(), []
            for _ in range(reader.varint() - 1):
                producers.append(reader.take("qiiqiq"))
                reader.tags()
            reader.tags()
            # Kafka keeps no order of them.
            partitions.append((index, error, message, sorted(producers)))
        reader.tags()
        told.append((name, partitions))
    reader.tags()
    assert reader.position == len(reader.data)
    return told


def test_producers_of_a_partition(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> list:
        create_topic(broker, b"produced", partitions=3)
        for partition, count, producer in [(0, 3, (70, 2, 0)), (0, 2, (70, 2, 3)), (0, 1, (71, 0, 9)), (1, 1, (-1, -1, -1))]:
            records = [record(delta) for delta in range(count)]
            batch = Batch(records, producer=producer, base_timestamp=1_700_000_000_000 + count)
            assert produced(exchange(broker, sized(produce(b"produced", batch.encode(), partition=partition))))[0]["error"] == 0
        return described_producers(broker, (b"produced", [2, 0, 1]), (b"elected", []))

    told = everywhere(brokers, play)
    assert told[0][1][1] == (0, NONE, None, [(70, 2, 4, 1_700_000_000_002, -1, -1), (71, 0, 9, 1_700_000_000_001, -1, -1)])


def test_a_producer_that_was_silent_for_long_is_forgotten(brokers_with: Callable[[dict[str, str]], list[Broker]]) -> None:
    """What long is can be changed while the broker runs. Who is not known may begin with any sequence."""
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45

    def append(broker: Broker, sequence: int) -> int:
        batch = Batch([record(0)], producer=(80, 0, sequence), base_timestamp=int(time.time() * 1000))
        return produced(exchange(broker, sized(produce(b"silent", batch.encode()))))[0]["error"]

    def sequences(broker: Broker) -> list[int]:
        (_, [(_, error, _, producers)]), = described_producers(broker, (b"silent", [0]))
        assert error == NONE
        return [last_sequence for _, _, last_sequence, *_ in producers]

    def set_expiration(broker: Broker, milliseconds: int) -> None:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
        entry = ConfigEntry("producer.id.expiration.ms", str(milliseconds), incremental_operation=AlterConfigOpType.SET)
        changed = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[entry])
        admin.incremental_alter_configs([changed])[changed].result(30)

    def play(broker: Broker) -> list:
        create_topic(broker, b"silent", partitions=1)
        told = [append(broker, 0), append(broker, 5), sequences(broker)]
        set_expiration(broker, 100)
        wait_until("it to be forgotten", lambda: not sequences(broker))
        set_expiration(broker, 60_000)
        return [*told, append(broker, 5), append(broker, 9), sequences(broker)]

    started = brokers_with({"producer.id.expiration.check.interval.ms": "50"})
    assert everywhere(started, play) == [0, OUT_OF_ORDER_SEQUENCE_NUMBER, [0], 0, OUT_OF_ORDER_SEQUENCE_NUMBER, [5]]


def test_partitions_without_producers(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> list:
        return described_producers(broker, (b"elected", [0, 7, -1]), (b"nowhere", [0]), (b"a b", [0]), (METADATA_TOPIC, [0]))

    everywhere(brokers, play)
