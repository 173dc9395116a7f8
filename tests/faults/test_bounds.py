"""What an idle broker costs, and what a crowd of connections does to it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import API_VERSIONS_V0, Flumen, answers
from harness.cost import MEBIBYTE, cpu_ticks, observe, resident_bytes, wake_ups
from harness.waiting import wait_until
from wire.protocol import PRODUCE, header, pack

CACHE_BYTES = 64 * MEBIBYTE
BEYOND_BYTES = 150 * MEBIBYTE
OBSERVED_S = 5.0


@pytest.fixture
def flumen(tmp_path: Path) -> Iterator[Flumen]:
    broker = Flumen(tmp_path / "node", {"flumen.cache.bytes": str(CACHE_BYTES)})
    broker.start()
    yield broker
    broker.close()


def create(broker: Flumen, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)


def test_idle(flumen: Flumen) -> None:
    """No CPU: some seconds with partitions and connections cost less than two ticks, and hardly a wake-up."""
    create(flumen, "idle", 100)
    with ExitStack() as connections:
        for _ in range(100):
            connections.enter_context(socket.create_connection(("127.0.0.1", flumen.port)))
        wait_until("what was begun to end", lambda: settled(flumen.pid))
        ticks, wakes = cpu_ticks(flumen.pid), wake_ups(flumen.pid)
        observe(OBSERVED_S)
        ticks, wakes = cpu_ticks(flumen.pid) - ticks, wake_ups(flumen.pid) - wakes
    print(f"idle for {OBSERVED_S} s: {ticks} ticks of CPU, {wakes} wake-ups")
    assert ticks <= 2 and wakes <= 20 * OBSERVED_S, (ticks, wakes)


def settled(pid: int) -> bool:
    before = wake_ups(pid)
    observe(1.0)
    return wake_ups(pid) - before < 20


def resident_at_rest(pid: int) -> int:
    """Once the cache's memory is there: it is asked of the kernel beforehand, beside what a start does."""
    wait_until("the cache to be in memory", lambda: resident_bytes(pid) >= CACHE_BYTES)
    wait_until("what was begun to end", lambda: settled(pid))
    return resident_bytes(pid)


def test_memory(flumen: Flumen) -> None:
    """1,000 empty partitions and 1,000 connections: less than 150 MB beyond the cache."""
    create(flumen, "many", 1000)
    with ExitStack() as connections:
        for _ in range(1000):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", flumen.port), timeout=10))
            connection.sendall(API_VERSIONS_V0)
            assert connection.recv(4)
        used = resident_bytes(flumen.pid)
    print(f"{used / MEBIBYTE:.0f} MiB resident, {CACHE_BYTES / MEBIBYTE:.0f} MiB of them the cache's bound")
    assert used < CACHE_BYTES + BEYOND_BYTES


def test_half_bodies(tmp_path: Path) -> None:
    """Bodies that stop half-way hold no more than the bound, and not for long while others wait for it."""
    count, limit = 100, 16 * MEBIBYTE
    broker = Flumen(tmp_path / "node", {
        "flumen.cache.bytes": str(CACHE_BYTES), "queued.max.request.bytes": str(limit),
        "socket.request.max.bytes": str(limit), "flumen.cores": "1"})
    with closing(broker.start()), ExitStack() as connections:
        create(broker, "whole", 1)
        before = resident_at_rest(broker.pid)
        half = pack("i", MEBIBYTE) + header(PRODUCE, 9)
        half += bytes(MEBIBYTE // 2 - len(half))
        for _ in range(count):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", broker.port), timeout=10))
            connection.setblocking(False)
            assert connection.send(half) > 64 << 10
        began = time.monotonic()
        producer = Producer({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
        producer.produce("whole", bytes(900_000))
        assert producer.flush(60) == 0
        took = time.monotonic() - began
        most = resident_bytes(broker.pid, "VmHWM")
    print(f"{took:.1f} s for a whole one behind {count} halves, {(most - before) / MEBIBYTE:.0f} MiB for them")
    assert most - before < limit + 32 * MEBIBYTE
    # A second or two for each bound's worth of them; the time that a body has is some fifty.
    assert took < 30


def test_crowd(flumen: Flumen) -> None:
    """A thousand connections that crawl, lie and leave half a frame; the next client notices nothing."""
    beginnings = [b"", b"\0", b"\0\0\0\x0a\0\x12", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n",
                  b"\0\0\0\x64" + bytes(50), bytes(range(256)) * 4]
    before = resident_at_rest(flumen.pid)
    with ExitStack() as connections:
        for number in range(1000):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", flumen.port), timeout=10))
            connection.sendall(beginnings[number % len(beginnings)])
        for _ in range(20):
            assert answers(flumen.port)
        create(flumen, "after-the-crowd", 1)
        used = resident_bytes(flumen.pid)
    print(f"{(used - before) / MEBIBYTE:.0f} MiB for the crowd")
    assert used - before < 64 * MEBIBYTE
    assert flumen.is_alive() and answers(flumen.port)
