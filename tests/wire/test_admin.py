"""Requests of admin clients by hand, on every broker of the run: the answers must be equal."""

from __future__ import annotations

import pytest

from harness.broker import Broker

from .protocol import (
    ALTER_CONFIGS, DELETE_RECORDS, DESCRIBE_CONFIGS, INCREMENTAL_ALTER_CONFIGS, LIST_CONFIG_RESOURCES, LIST_OFFSETS,
    METADATA, Batch, Reader, exchange, header, pack, produce, produced, sized, string,
)
from .scene import create_topic, everywhere, topic_id

TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
DESCRIBE_ACLS = 29


@pytest.fixture(scope="module", autouse=True)
def topics(brokers: list[Broker]) -> None:
    for broker in brokers:
        create_topic(broker, b"administered", partitions=2)


# --- Configuration ------------------------------------------------------------------------------------


def describe_configs(broker: Broker, kind: int, name: bytes, keys: list[bytes] | None) -> tuple:
    """The error, and what each key is said to be, by DescribeConfigs v1."""
    asked = pack("i", -1) if keys is None else pack("i", len(keys)) + b"".join(map(string, keys))
    body = pack("i", 1) + pack("b", kind) + string(name) + asked + b"\0"
    reader = Reader(exchange(broker, sized(header(DESCRIBE_CONFIGS, 1) + body))[8:])
    reader.take("ii")
    error, message, _, _ = reader.take("h"), reader.string(), reader.take("b"), reader.string()
    told = {}
    for _ in range(reader.take("i")):
        name, value = reader.string(), reader.string()
        # The one that is Flumen's own by default.
        told[name] = ("" if name == "flush.messages" else value, *reader.take("?b?"))
        assert reader.take("i") == 0
    return error, message, told


@pytest.mark.parametrize("keys", [None, [], [b"retention.ms"], [b"nope"]], ids=["null", "none", "one", "unknown"])
def test_keys_of_a_topic(brokers: list[Broker], keys: list[bytes] | None) -> None:
    """To ask for no key is to ask for every key."""
    error, _, told = everywhere(brokers, lambda broker: describe_configs(broker, TOPIC_RESOURCE, b"administered", keys))
    assert error == 0 and len(told) == (33 if not keys else int(keys == [b"retention.ms"]))


@pytest.mark.parametrize("keys", [[b"broker.id"], [b"node.id"], [b"broker.id", b"node.id", b"nope"]], ids=["broker.id", "node.id", "both"])
def test_who_a_broker_is(brokers: list[Broker], keys: list[bytes]) -> None:
    """Under both of the names that it had."""
    everywhere(brokers, lambda broker: describe_configs(broker, BROKER_RESOURCE, b"1", keys))


def test_what_sets_a_key_of_all_brokers(brokers: list[Broker]) -> None:
    """That default alone: neither what one broker has, nor what the file or Kafka says."""
    def play(broker: Broker) -> bytes:
        body = pack("i", 1) + pack("b", BROKER_RESOURCE) + string(b"") + pack("i", 1) + string(b"min.insync.replicas")
        return exchange(broker, sized(header(DESCRIBE_CONFIGS, 1) + body + b"\1"))

    answer = everywhere(brokers, play)
    assert answer.endswith(pack("i", 1) + string(b"min.insync.replicas") + string(b"1") + b"\3")


def alter_configs(broker: Broker, key: int, kind: int, name: bytes, value: bytes) -> tuple:
    """The error and the words of AlterConfigs v0 or IncrementalAlterConfigs v0 for `retention.ms` of a topic, or
    `log.retention.ms` of a broker."""
    setting = string(b"retention.ms" if kind == TOPIC_RESOURCE else b"log.retention.ms")
    setting += b"\0" * (key == INCREMENTAL_ALTER_CONFIGS) + string(value)
    body = pack("i", 1) + pack("b", kind) + string(name) + pack("i", 1) + setting + b"\1"
    reader = Reader(exchange(broker, sized(header(key, 0) + body))[12:])
    reader.take("i")
    return reader.take("h"), reader.string()


@pytest.mark.parametrize("key", [ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS], ids=["all", "some"])
@pytest.mark.parametrize("name", [b"1", b"01", b"+1", b"9", b"-1", b"x", b" 1", b"99999999999"])
def test_whose_keys_a_broker_alters(brokers: list[Broker], key: int, name: bytes) -> None:
    """Its own."""
    everywhere(brokers, lambda broker: alter_configs(broker, key, BROKER_RESOURCE, name, b"1000000"))


@pytest.mark.parametrize("key", [ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS], ids=["all", "some"])
@pytest.mark.parametrize("name", [b"administered", b"nowhere", b"a b", b""])
@pytest.mark.parametrize("value", [b"1", b"soon"])
def test_what_is_wrong_with_a_value_comes_first(brokers: list[Broker], key: int, name: bytes, value: bytes) -> None:
    """Before that there is no such topic; not before that it is no name."""
    everywhere(brokers, lambda broker: alter_configs(broker, key, TOPIC_RESOURCE, name, value))


# --- Deleting records ---------------------------------------------------------------------------------


def delete_records(broker: Broker, *topics: tuple[bytes, list[tuple[int, int]]]) -> list:
    """What DeleteRecords v1 answers to topics with their partitions and offsets: sorted, for Kafka keeps no order."""
    body = pack("i", len(topics))
    for name, partitions in topics:
        body += string(name) + pack("i", len(partitions)) + b"".join(pack("iq", *partition) for partition in partitions)
    reader = Reader(exchange(broker, sized(header(DELETE_RECORDS, 1) + body + pack("i", 30_000)))[8:])
    reader.take("i")
    return sorted((reader.string(), sorted(reader.take("iqh") for _ in range(reader.take("i"))))
                  for _ in range(reader.take("i")))


@pytest.mark.parametrize("policy", ["delete", "compact", "compact,delete", ""])
def test_whose_records_are_deleted(brokers: list[Broker], policy: str) -> None:
    """Those of every topic that is not compacted alone, also of one without a policy."""
    name = b"deleted-" + policy.replace(",", "-").encode()

    def play(broker: Broker) -> list:
        create_topic(broker, name, partitions=1, cleanup_policy=policy)
        assert produced(exchange(broker, sized(produce(name, Batch().encode()))))[0]["error"] == 0
        return delete_records(broker, (name, [(0, 1)]))

    everywhere(brokers, play)


def test_what_is_asked_for_twice_or_not_at_all(brokers: list[Broker]) -> None:
    """Each partition is told once, and the last offset counts; a topic without partitions is not told."""
    name = b"deleted-twice"

    def play(broker: Broker) -> list:
        create_topic(broker, name, partitions=2)
        for _ in range(4):
            assert produced(exchange(broker, sized(produce(name, Batch().encode()))))[0]["error"] == 0
        return [
            delete_records(broker, (name, [(0, 1), (1, 0), (0, 2)])),
            delete_records(broker, (name, [(0, 2)]), (name, [(0, 3)])),
            delete_records(broker, (name, []), (b"nowhere", [])),
            delete_records(broker, (name, []), (b"nowhere", [(0, 1), (0, 2)]), (name, [(7, 1)])),
            exchange(broker, sized(header(LIST_OFFSETS, 1) + pack("ii", -1, 2) + string(name) + pack("i", 0)
                                   + string(name) + pack("iiq", 1, 0, -2))),
        ]

    everywhere(brokers, play)


def test_records_of_internal_topics_stay(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> list:
        create_topic(broker, b"__transaction_state", partitions=3)
        return delete_records(broker, (b"__transaction_state", [(0, 0)]))

    assert everywhere(brokers, play) == [("__transaction_state", [(0, -1, 17)])]


# --- Listings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [[4], [4, 4], [16, 4, 16]], ids=["brokers", "brokers twice", "two kinds"])
def test_kinds_of_resources(brokers: list[Broker], kinds: list[int]) -> None:
    """What is asked for twice is told once."""
    sent = header(LIST_CONFIG_RESOURCES, 1, flexible=True) + bytes([len(kinds) + 1, *kinds]) + b"\0"
    everywhere(brokers, lambda broker: exchange(broker, sized(sent)))


@pytest.mark.parametrize("id", [b"\x11" * 16, None], ids=["unknown", "known"])
def test_operations_on_a_topic_by_its_id(brokers: list[Broker], id: bytes | None) -> None:
    """Nothing is known to be allowed on what is not there."""
    def play(broker: Broker) -> bytes:
        asked = id or topic_id(broker, b"administered")
        body = b"\x02" + asked + b"\0\0" + b"\0\1\0"
        # The operations are the last of a topic; behind them are its tags and those of the answer.
        return exchange(broker, sized(header(METADATA, 12, flexible=True) + body))[-6:]

    everywhere(brokers, play)


# --- What cannot be taken away ------------------------------------------------------------------------


def alter_all_brokers(broker: Broker, key: int, configs: bytes) -> tuple:
    """The error and the words of AlterConfigs v0 or IncrementalAlterConfigs v0 for the default of all brokers."""
    body = pack("i", 1) + pack("b", BROKER_RESOURCE) + string(b"") + configs + b"\0"
    reader = Reader(exchange(broker, sized(header(key, 0) + body))[12:])
    reader.take("i")
    return reader.take("h"), reader.string()


def test_in_sync_replicas_of_the_cluster_stay(brokers: list[Broker]) -> None:
    """They can be changed, and not taken away, while eligible leaders depend on them (KIP-966)."""
    key = string(b"min.insync.replicas")

    def play(broker: Broker) -> list:
        return [
            alter_all_brokers(broker, INCREMENTAL_ALTER_CONFIGS, pack("i", 1) + key + b"\1" + string(None)),
            alter_all_brokers(broker, INCREMENTAL_ALTER_CONFIGS, pack("i", 1) + key + b"\0" + string(b"2")),
            alter_all_brokers(broker, INCREMENTAL_ALTER_CONFIGS, pack("i", 1) + key + b"\0" + string(b"1")),
            alter_all_brokers(broker, ALTER_CONFIGS, pack("i", 0)),
            alter_all_brokers(broker, ALTER_CONFIGS, pack("i", 1) + key + string(b"1")),
        ]

    everywhere(brokers, play)


def test_more_keys_than_one_request_may_have_records_are_refused(brokers: list[Broker]) -> None:
    """Keys that no broker knows are kept, up to so many."""
    keys = b"".join(string(b"key-%d" % number) + b"\0" + string(b"1") for number in range(10_001))
    everywhere(brokers, lambda broker: alter_all_brokers(broker, INCREMENTAL_ALTER_CONFIGS, pack("i", 10_001) + keys))


# --- Access control -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, 4))
@pytest.mark.parametrize("kinds", [(1, 1, 1, 1), (2, 3, 2, 3), (99, 99, 99, 99), (0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_nothing_is_authorized(brokers: list[Broker], version: int, kinds: tuple[int, ...]) -> None:
    """Without an authorizer; but what is asked must be sound."""
    resource, pattern, operation, permission = kinds
    null = b"\0" if version >= 2 else string(None)
    body = pack("b", resource) + null + pack("b", pattern) + null + null + pack("bb", operation, permission)
    sent = header(DESCRIBE_ACLS, version, version >= 2) + body + (b"\0" if version >= 2 else b"")
    everywhere(brokers, lambda broker: exchange(broker, sized(sent)))
