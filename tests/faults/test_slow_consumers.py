"""Consumers that stop in the middle of their answers: what they may hold, and that others notice nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Flumen, answers
from harness.cost import MEBIBYTE, resident_bytes
from harness.ledger import Log
from wire.protocol import FETCH, header, pack, sized, string

CACHE_BYTES = 64 * MEBIBYTE
ANSWER_BYTES = 64 * MEBIBYTE
# Beyond its limit, an answer has this for each connection, or one batch: so none is larger.
ANSWER_BYTES_MIN = 64 << 10
BATCH_BYTES = 60_000
# The process itself, its connections, and what its allocator keeps.
BEYOND_BYTES = 150 * MEBIBYTE
PARTITIONS = 8
RECORD_BYTES = 10_000
# With 64 MiB of cache and a disk that others use: far below what clients wait, far above a quiet broker's.
STALL_S_MAX = 10.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Flumen]:
    broker = Flumen(tmp_path / "node", {
        "flumen.cache.bytes": str(CACHE_BYTES), "flumen.fetch.memory.bytes": str(ANSWER_BYTES), "flumen.cores": "2"})
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
    admin.create_topics([NewTopic("slow", PARTITIONS, 1)])["slow"].result(30)
    yield broker
    broker.close()


@dataclass
class Work:
    """A producer that keeps some records under way, and how long each of them took."""

    broker: Flumen
    written: int = 0
    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": self.broker.bootstrap, "broker.address.family": "v4",
                                  "linger.ms": 5, "batch.size": BATCH_BYTES, "acks": "all", "log_level": 2})

    def write(self, count: int) -> None:
        for _ in range(count):
            while len(self.producer) >= 500:
                self.producer.poll(0.01)
            began = time.monotonic()

            def reported(error: KafkaError | None, _: Message, began: float = began) -> None:
                self.took.append(time.monotonic() - began)
                if error:
                    self.failures.append(error.name())

            self.producer.produce("slow", bytes(RECORD_BYTES), partition=self.written % PARTITIONS, on_delivery=reported)
            self.written += 1
            self.producer.poll(0)
        self.producer.flush(60)

    def slowest(self) -> float:
        assert not self.failures, self.failures[:3]
        slowest = max(self.took)
        self.took.clear()
        return slowest


def stop_reading(broker: Flumen, places: list[tuple[int, int]], wait_ms: int = 0) -> socket.socket:
    """Asks for a megabyte from each (partition, offset), and does not read the answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", broker.port))
    wanted = b"".join(pack("iqi", partition, offset, MEBIBYTE) for partition, offset in places)
    body = pack("iiiibi", -1, wait_ms, 1, 50 * MEBIBYTE, 0, 1) + string(b"slow") + pack("i", len(places)) + wanted
    connection.sendall(sized(header(FETCH, 4) + body))
    return connection


def test_slow_consumers_hold_no_cache(broker: Flumen) -> None:
    """Each stops in another part of the cache, so that together they refer to all of it; appends go on."""
    work = Work(broker)
    # For some seconds, until busy partitions lie in chunks of their own.
    work.write(60_000)
    work.slowest()
    newest = work.written // PARTITIONS - 1
    with ExitStack() as stuck:
        for number in range(400):
            place = (number % PARTITIONS, newest - 16 * (number // PARTITIONS))
            connection = stuck.enter_context(stop_reading(broker, [place]))
            # Until the answer has begun to come.
            assert connection.recv(4, socket.MSG_PEEK)
        work.write(40_000)
        slowest = work.slowest()
        used = resident_bytes(broker.pid)
    print(f"{slowest:.2f} s for the slowest record, {used / MEBIBYTE:.0f} MiB resident")
    assert slowest < STALL_S_MAX
    assert used < CACHE_BYTES + ANSWER_BYTES + 400 * ANSWER_BYTES_MIN + BEYOND_BYTES


@pytest.mark.parametrize("where", ["cold", "waiting"])
def test_slow_consumers_stay_in_their_bounds(broker: Flumen, where: str) -> None:
    """A thousand of them, at the log's beginning, which only the disk has, or all at its end, waiting for the same
    records: their memory is bounded, producers go on, and who reads gets everything."""
    count = 1000
    work = Work(broker)
    work.write(12_000)
    work.slowest()
    end = work.written // PARTITIONS
    places = [(partition, 0 if where == "cold" else end) for partition in range(PARTITIONS)]
    with ExitStack() as stuck:
        for _ in range(count):
            stuck.enter_context(stop_reading(broker, places, wait_ms=60_000))
        work.write(12_000)
        slowest = work.slowest()
        most = resident_bytes(broker.pid, "VmHWM")
        assert answers(broker.port)
        log = Log.read(broker.bootstrap, "slow", PARTITIONS)
    print(f"{where}: {slowest:.2f} s for the slowest record, {most / MEBIBYTE:.0f} MiB resident at most")
    assert log.count == work.written
    assert slowest < STALL_S_MAX
    assert most < CACHE_BYTES + ANSWER_BYTES + count * ANSWER_BYTES_MIN + BEYOND_BYTES
