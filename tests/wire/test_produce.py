"""What a producer is told and what is stored of it, sent by hand to every broker of the run: topics that are the
broker's own, and times."""

from __future__ import annotations

import gzip
import struct
import time

import pytest

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    FIND_COORDINATOR, LIST_OFFSETS, Batch, Reader, compact, exchange, header, pack, produce, produce_by_id, produced,
    produced_by_id, record, sized, string,
)
from .scene import create_topic, everywhere, fetch_one, topic_id

SOUND = Batch().encode()
GROUP_TOPIC, TRANSACTION_TOPIC = b"__consumer_offsets", b"__transaction_state"


def errors(broker: Broker, request: bytes) -> list[int] | str:
    outcome = produced(exchange(broker, sized(request)))
    return outcome if isinstance(outcome, str) else [partition["error"] for partition in outcome]


# --- Topics of the broker's own -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def internal(brokers: list[Broker]) -> None:
    """The topic of the groups comes with the first group that is looked for."""
    find = sized(header(FIND_COORDINATOR, 1) + string(b"group") + pack("b", 0))
    for broker in brokers:
        create_topic(broker, TRANSACTION_TOPIC)
        exchange(broker, find)
        wait_until("the topic of the groups", lambda: errors(broker, produce(GROUP_TOPIC, SOUND)) != [3])


INTERNAL = {
    "groups": produce(GROUP_TOPIC, SOUND),
    "transactions": produce(TRANSACTION_TOPIC, SOUND),
    "several partitions": produce(GROUP_TOPIC, SOUND, SOUND, SOUND, partition=1),
    "wrong crc": produce(GROUP_TOPIC, Batch(crc=1).encode()),
    "base offset 7": produce(GROUP_TOPIC, Batch(base_offset=7).encode()),
    "nothing": produce(GROUP_TOPIC, b""),
    "two batches": produce(GROUP_TOPIC, SOUND + SOUND),
    "partition 500": produce(GROUP_TOPIC, SOUND, partition=500),
    "acks 5": produce(GROUP_TOPIC, SOUND, acks=5),
    "by another name": produce(GROUP_TOPIC, SOUND, client=b"__admin_client2"),
    "by nobody": produce(GROUP_TOPIC, SOUND, client=None),
    "by the admin client": produce(TRANSACTION_TOPIC, SOUND, client=b"__admin_client"),
}


@pytest.mark.parametrize("sent", INTERNAL.values(), ids=INTERNAL.keys())
def test_internal_topics(brokers: list[Broker], internal: None, sent: bytes) -> None:
    everywhere(brokers, lambda broker: errors(broker, sent))


def test_internal_topics_are_closed(brokers: list[Broker], internal: None) -> None:
    """Under whichever of its names; without acknowledgement the connection ends."""
    def play(broker: Broker) -> list[object]:
        by_id = produce_by_id(topic_id(broker, GROUP_TOPIC), SOUND)
        return [errors(broker, produce(GROUP_TOPIC, SOUND)), produced_by_id(exchange(broker, sized(by_id)))["error"],
                errors(broker, produce(GROUP_TOPIC, SOUND, acks=0))]

    assert everywhere(brokers, play) == [[17], 17, "closed"]


# --- Times of compressed batches ----------------------------------------------------------------------

NOW = int(time.time() * 1000)
DATED = {"plain": {}, "compacted": {"cleanup_policy": "compact"}, "uncompressed": {"compression_type": "uncompressed"},
         "snappy": {"compression_type": "snappy"}, "stamped": {"message_timestamp_type": "LogAppendTime"}}


@pytest.fixture(scope="module")
def dated(brokers: list[Broker]) -> None:
    for broker in brokers:
        for name, settings in DATED.items():
            create_topic(broker, b"dated-" + name.encode(), partitions=1, **settings)


def squeezed(times: list[int], base: int, largest: int, attributes: int = 1) -> bytes:
    records = [record(index, timestamp=time) for index, time in enumerate(times)]
    inside = gzip.compress(b"".join(records))
    return Batch([inside], count=len(times), last_delta=len(times) - 1, attributes=attributes, base_timestamp=base,
                 max_timestamp=largest).encode()


UNSET = {
    "-1": squeezed([0, 7, 5], NOW, -1),
    "0": squeezed([0, 7, 5], NOW, 0),
    "below the first": squeezed([0, 7, 5], NOW, NOW - 1),
    "below the first, and so are others": squeezed([0, -9, -4], NOW, NOW - 9),
    "right": squeezed([0, 7, 5], NOW, NOW + 7),
    "no times": squeezed([0, 0, 0], -1, -1),
    "too late": squeezed([0, 7_200_000], NOW, -1),
}


@pytest.mark.parametrize("topic", DATED)
@pytest.mark.parametrize("records", UNSET.values(), ids=UNSET.keys())
def test_the_largest_timestamp_is_stored_right(brokers: list[Broker], dated: None, topic: str, records: bytes) -> None:
    """Where a client does not set it, the broker does: the header as it is stored, but for offset and checksum."""
    name = b"dated-" + topic.encode()

    def play(broker: Broker) -> object:
        answer = exchange(broker, sized(produce(name, records)))
        error, offset = struct.unpack_from(">hq", answer, 8 + 4 + 2 + len(name) + 4 + 4)
        if error != 0:
            return error
        stored = fetch_one(broker, name, offset)[21:61]
        return stored.hex() if topic != "stamped" else (stored[:14] + stored[22:]).hex()

    everywhere(brokers, play)


def test_what_was_sent_without_a_largest_timestamp_is_found_by_time(brokers: list[Broker]) -> None:
    name = b"found-by-time"

    def play(broker: Broker) -> list[int]:
        create_topic(broker, name, partitions=1)
        for number in range(3):
            outcome = produced(exchange(broker, sized(produce(name, squeezed([0], NOW + number, -1)))))
            assert outcome[0]["error"] == 0, outcome
        offsets = []
        for wanted in (NOW - 1, NOW + 1, NOW + 2, NOW + 3):
            body = pack("ib", -1, 0) + b"\x02" + compact(name) + b"\x02" + pack("iiq", 0, -1, wanted) + b"\0\0\0"
            answer = exchange(broker, sized(header(LIST_OFFSETS, 7, flexible=True) + body))
            reader = Reader(answer[4 + 4 + 1 + 4 + 1 + len(compact(name)) + 1 :])
            offsets.append(reader.take("ihqqi")[1:4])
        return offsets

    assert everywhere(brokers, play) == [(0, NOW, 0), (0, NOW + 1, 1), (0, NOW + 2, 2), (0, -1, -1)]


# --- Times that are not accepted ----------------------------------------------------------------------

LIMITED = {"by default": {}, "an hour": {"message_timestamp_before_max_ms": "3600000"},
           "by the broker": {"message_timestamp_type": "LogAppendTime"}}
TIMES = {
    "none": Batch([record(0)], base_timestamp=-1, max_timestamp=-1),
    "-2": Batch([record(0)], base_timestamp=-2, max_timestamp=-2),
    "-5 after one that is sound": Batch([record(0), record(1, timestamp=-NOW - 5)], base_timestamp=NOW, max_timestamp=NOW),
    "none after one that is sound": Batch([record(0), record(1, timestamp=-NOW - 1)], base_timestamp=NOW, max_timestamp=NOW),
    "long before the beginning": Batch([record(0)], base_timestamp=-(2**62), max_timestamp=-(2**62)),
    "the earliest": Batch([record(0)], base_timestamp=-(2**63), max_timestamp=-(2**63)),
    "the latest": Batch([record(0)], base_timestamp=2**63 - 1, max_timestamp=2**63 - 1),
    "of the broker": Batch([record(0), record(1, key=None, value=None)], attributes=8, base_timestamp=NOW, max_timestamp=NOW),
    "of the broker, none": Batch([record(0)], attributes=8, base_timestamp=NOW, max_timestamp=-1),
    "of the broker, late": Batch([record(0)], attributes=8, base_timestamp=NOW, max_timestamp=NOW + 7_200_000),
}


@pytest.mark.parametrize("limits", LIMITED)
@pytest.mark.parametrize("batch", TIMES.values(), ids=TIMES.keys())
def test_times_that_are_not_accepted(brokers: list[Broker], limits: str, batch: Batch) -> None:
    name = b"limited-" + limits.replace(" ", "-").encode()

    def play(broker: Broker) -> object:
        create_topic(broker, name, partitions=1, **LIMITED[limits])
        answer = produced(exchange(broker, sized(produce(name, batch.encode()))))[0]
        return answer["error"], answer["records"], answer["message"]

    everywhere(brokers, play)


def test_compressed_times_of_the_broker(brokers: list[Broker]) -> None:
    sent = squeezed([0, 7], NOW, -1, attributes=9)

    def play(broker: Broker) -> list[int]:
        for limits, settings in LIMITED.items():
            create_topic(broker, b"limited-" + limits.replace(" ", "-").encode(), partitions=1, **settings)
        return [errors(broker, produce(b"limited-" + limits.replace(" ", "-").encode(), sent)) for limits in LIMITED]

    assert everywhere(brokers, play) == [[32]] * 3


@pytest.mark.parametrize("limits", ["by default", "by the broker"])
def test_when_a_batch_was_appended_that_is_there_already(brokers: list[Broker], limits: str) -> None:
    """Its own time is told, whoever gave it that."""
    name = b"there-already-" + limits.replace(" ", "-").encode()
    records = Batch([record(0), record(1, timestamp=5)], producer=(5000, 0, 0), base_timestamp=NOW, max_timestamp=NOW + 5)

    def play(broker: Broker) -> list[tuple]:
        create_topic(broker, name, partitions=1, **LIMITED[limits])
        told = []
        for _ in range(2):
            reader = Reader(exchange(broker, sized(produce(name, records.encode())))[8:])
            reader.take("i"), reader.string(), reader.take("ii")
            error, offset, append_time = reader.take("hqq")
            told.append((error, offset, append_time if limits == "by default" else append_time > NOW))
        return told

    assert everywhere(brokers, play) == ([(0, 0, -1), (0, 0, NOW + 5)] if limits == "by default" else [(0, 0, True)] * 2)


# --- Sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_000_000, 1_100_000, 2_100_000])
def test_what_no_segment_has_room_for(brokers: list[Broker], size: int) -> None:
    """A batch may be larger than a segment, and is refused for another reason than one that is too large."""
    records = Batch([record(0, value=bytes(size))]).encode()

    def play(broker: Broker) -> object:
        create_topic(broker, b"short", partitions=1, segment_bytes="1048576", max_message_bytes="2000000")
        answer = produced(exchange(broker, sized(produce(b"short", records))))[0]
        return answer["error"], answer["log start"]

    assert everywhere(brokers, play)[0] == {1_000_000: 0, 1_100_000: 18, 2_100_000: 10}[size]


# --- Topics by their ids ------------------------------------------------------------------------------


KEYLESS = Batch([record(0), record(1, key=None)])
BY_ID = {
    "sound": (SOUND, 0),
    "partition 7": (SOUND, 7),
    "partition -1": (SOUND, -1),
    "keyless": (KEYLESS.encode(), 0),
    "keyless, compressed": (Batch([gzip.compress(b"".join(KEYLESS.records))], count=2, last_delta=1, attributes=1).encode(), 0),
}


@pytest.mark.parametrize(("records", "partition"), BY_ID.values(), ids=BY_ID.keys())
def test_a_topic_by_its_id(brokers: list[Broker], records: bytes, partition: int) -> None:
    """What is not there is the partition; and words about its records have its name."""
    name = b"compacted-by-id"

    def play(broker: Broker) -> object:
        create_topic(broker, name, cleanup_policy="compact")
        told = produced_by_id(exchange(broker, sized(produce_by_id(topic_id(broker, name), records, partition))))
        return told if told["records"] else told["error"]

    everywhere(brokers, play)


def test_an_id_of_no_topic(brokers: list[Broker]) -> None:
    sent = sized(produce_by_id(b"\x11" * 16, SOUND))
    assert everywhere(brokers, lambda broker: produced_by_id(exchange(broker, sent))["error"]) == 100
