"""Fetch sessions (KIP-227) by hand, on every broker of the run: the same story gets the same answers. A session is told
only what is new, whoever finds that out and however."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    DELETE_RECORDS, FETCH, PATIENCE_S, Batch, FlexibleReader, exchange, header, pack, produce, produced, record, sized,
    string,
)
from .scene import create_topic, everywhere, topic_id

PARTITIONS = 12
WAIT_MS = 60
MILLION = 1_000_000


class Connection:
    """One connection, one request after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, request: bytes) -> None:
        self.connection.sendall(sized(request))

    def receive(self) -> bytes:
        size = struct.unpack(">i", self.exactly(4))[0]
        return self.exactly(size)

    def exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = self.connection.recv(count - len(received))
            assert more, "the connection was closed"
            received += more
        return received


@contextmanager
def connected(broker: Broker) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Connection(connection)


def fetch(topic: bytes, session: tuple[int, int], wanted: dict[int, int], forgotten: list[int] | None = None,
          wait_ms: int = WAIT_MS, bytes_max: int = MILLION, isolation: int = 0) -> bytes:
    """A Fetch request of v13."""
    forgotten = forgotten or []
    body = pack("iiiibii", -1, wait_ms, 1, bytes_max, isolation, *session)
    partitions = b"".join(pack("iiqiqi", index, -1, offset, -1, -1, MILLION) + b"\0" for index, offset in wanted.items())
    body += b"\x02" + topic + bytes([len(wanted) + 1]) + partitions + b"\0" if wanted else b"\x01"
    gone = b"".join(pack("i", index) for index in forgotten)
    body += b"\x02" + topic + bytes([len(forgotten) + 1]) + gone + b"\0" if forgotten else b"\x01"
    return header(FETCH, 13, True) + body + b"\x01\0"


def fetched(answer: bytes) -> tuple[int, int, list[dict]]:
    """The error, the session, and what is told of each partition, in the order in which it is told."""
    reader = FlexibleReader(answer)
    reader.take("i"), reader.tags()
    _, error, session = reader.take("ihi")
    told = []
    for _ in range(reader.varint() - 1):
        reader.raw(16)
        for _ in range(reader.varint() - 1):
            index, code, high_watermark, last_stable, log_start = reader.take("ihqqq")
            for _ in range(max(reader.varint() - 1, 0)):
                reader.take("qq"), reader.tags()
            reader.take("i")
            records = reader.raw(max(reader.varint() - 1, 0))
            reader.tags()
            told.append({
                "index": index, "error": code, "high watermark": high_watermark, "last stable": last_stable,
                "log start": log_start, "batches": batches(records),
            })
        reader.tags()
    return error, session, told


def batches(records: bytes) -> list[tuple[int, int]]:
    """The first and the last offset of each whole batch."""
    found, at = [], 0
    while at + 61 <= len(records):
        base, length = struct.unpack_from(">qi", records, at)
        if at + 12 + length > len(records):
            break
        found.append((base, base + struct.unpack_from(">i", records, at + 23)[0]))
        at += 12 + length
    return found


def topic(broker: Broker, name: bytes) -> bytes:
    """A new topic's id, once all of its partitions are led."""
    create_topic(broker, name, PARTITIONS)
    id = topic_id(broker, name)
    looked = sized(fetch(id, (0, -1), dict.fromkeys(range(PARTITIONS), 0), wait_ms=0))
    wait_until(f"all of {name.decode()} to be led", lambda: not any(
        partition["error"] for partition in fetched(exchange(broker, looked)[4:])[2]))
    return id


def append(broker: Broker, topic: bytes, index: int, size: int = 10) -> None:
    records = Batch([record(0, value=b"v" * size)]).encode()
    assert produced(exchange(broker, sized(produce(topic, records, partition=index))))[0]["error"] == 0


def delete_before(broker: Broker, topic: bytes, index: int, offset: int) -> None:
    body = pack("i", 1) + string(topic) + pack("iiq", 1, index, offset) + pack("i", 30_000)
    assert struct.unpack(">h", exchange(broker, sized(header(DELETE_RECORDS, 1) + body))[-2:])[0] == 0


class Story:
    """What a client does, with some chance in it. It goes the same way for the same seed where the answers are the
    same."""

    def __init__(self, broker: Broker, name: bytes, seed: int) -> None:
        self.broker, self.name, self.chance = broker, name, random.Random(seed)
        self.topic = topic(broker, name)
        self.offsets: dict[int, int] = {}
        self.told: list[object] = []

    def step(self, connection: Connection, session: tuple[int, int]) -> None:
        chance = self.chance
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            append(self.broker, self.name, chance.randrange(PARTITIONS), chance.choice([10, 10, 3000]))
        if chance.random() < 0.15:
            # What was read, at most: who falls behind the log's start is told of it in every answer.
            index = chance.randrange(PARTITIONS)
            delete_before(self.broker, self.name, index, self.offsets.get(index, 0))
        forgotten = [index for index in self.offsets if chance.random() < 0.04]
        for index in forgotten:
            self.kept[index] = self.offsets.pop(index)
        again = [index for index in self.kept if index not in forgotten and chance.random() < 0.3]
        for index in again:
            self.offsets[index] = self.moved[index] = self.kept.pop(index)
        wanted = {index: offset for index, offset in self.moved.items() if index in self.offsets}
        bytes_max = chance.choice([MILLION, MILLION, MILLION, 2000])
        isolation = int(chance.random() < 0.1)
        connection.send(fetch(self.topic, session, wanted, forgotten, bytes_max=bytes_max, isolation=isolation))
        self.take_in(connection)

    def take_in(self, connection: Connection) -> int:
        error, session, told = fetched(connection.receive())
        self.told.append((error, told))
        self.moved = {}
        for partition in told:
            # Now and then a client does not move on: it gets the same again.
            if partition["batches"] and self.chance.random() < 0.9:
                self.offsets[partition["index"]] = self.moved[partition["index"]] = partition["batches"][-1][1] + 1
        return session

    def play(self, steps: int) -> list[object]:
        with connected(self.broker) as connection:
            self.offsets = dict.fromkeys(range(PARTITIONS), 0)
            self.kept: dict[int, int] = {}
            connection.send(fetch(self.topic, (0, 0), self.offsets))
            session = self.take_in(connection)
            for epoch in range(1, steps):
                self.step(connection, (session, epoch))
        return self.told


@pytest.mark.parametrize("seed", range(4))
def test_a_session_is_told_what_is_new(brokers: list[Broker], seed: int) -> None:
    name = b"session-%d" % seed

    def play(broker: Broker) -> list[object]:
        return Story(broker, name, seed).play(80)

    story = everywhere(brokers, play)
    assert all(error == 0 for error, _ in story)
    assert any(partition["batches"] for _, told in story for partition in told)


def test_a_waiting_session_is_woken_by_any_of_its_partitions(brokers: list[Broker]) -> None:
    """Also by one that it has heard nothing of for several polls, but not by one that it forgot."""
    name = b"session-wakes"

    def play(broker: Broker) -> list[object]:
        id, story = topic(broker, name), []
        with connected(broker) as connection:
            connection.send(fetch(id, (0, 0), dict.fromkeys(range(PARTITIONS), 0), wait_ms=0))
            _, session, told = fetched(connection.receive())
            moved: dict[int, int] = {}
            for epoch, index in enumerate([3, 4, 3, 9, 10, 11], start=1):
                connection.send(fetch(id, (session, epoch), moved, wait_ms=30_000))
                append(broker, name, index)
                # Within the socket's patience, which is less than the wait.
                _, _, told = fetched(connection.receive())
                story.append(told)
                moved = {partition["index"]: partition["high watermark"] for partition in told}
            connection.send(fetch(id, (session, 7), moved, forgotten=[9], wait_ms=400))
            begun = time.monotonic()
            append(broker, name, 9)
            story.append(fetched(connection.receive())[2])
            assert time.monotonic() - begun > 0.3, "woken by what it forgot"
        return story

    story = everywhere(brokers, play)
    assert [[partition["index"] for partition in told] for told in story] == [[3], [4], [3], [9], [10], [11], []]


def test_a_session_is_told_that_a_topic_is_gone(brokers: list[Broker]) -> None:
    """At once, though it waits, and in every answer from then on."""
    from kafka.admin import KafkaAdminClient

    name = b"session-loses"

    def play(broker: Broker) -> list[dict]:
        id = topic(broker, name)
        with connected(broker) as connection:
            connection.send(fetch(id, (0, 0), dict.fromkeys(range(PARTITIONS), 0), wait_ms=0))
            _, session, _ = fetched(connection.receive())
            for epoch in (1, 2):
                connection.send(fetch(id, (session, epoch), {}))
                assert fetched(connection.receive()) == (0, session, [])
            connection.send(fetch(id, (session, 3), {}, wait_ms=30_000))
            admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{broker.port}")
            admin.delete_topics([name.decode()])
            admin.close()
            first = fetched(connection.receive())[2]
            assert first and all(partition["error"] in (3, 6) for partition in first)
            for epoch in range(4, 100):
                connection.send(fetch(id, (session, epoch), {}))
                told = fetched(connection.receive())[2]
                if len(told) == PARTITIONS:
                    return told
        return []

    told = everywhere(brokers, play)
    assert {partition["error"] for partition in told} == {3}
