"""How long a start takes: from the start of the process to the first acknowledged record."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from wire.protocol import Batch, header, pack, produce, sized, string

from .broker import Broker
from .cost import observe
from .waiting import wait_until

DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def answer_bytes(connection: socket.socket) -> int:
    return int.from_bytes(connection.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL), "big")


def first_acknowledgement(broker: Broker, topic: bytes = b"first") -> float:
    """Seconds from the start of the process to the first acknowledged record, asked for every millisecond."""
    # Metadata v4 makes the topic, as a client's first question does.
    create = sized(header(3, 4) + pack("i", 1) + string(topic) + b"\x01")
    ask = sized(produce(topic, Batch().encode(), acks=-1))
    began = time.monotonic()
    broker.launch()
    while time.monotonic() < began + 60:
        assert broker.is_alive(), broker.log()
        try:
            with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
                while time.monotonic() < began + 60:
                    connection.sendall(create + ask)
                    connection.recv(4 + answer_bytes(connection), socket.MSG_WAITALL)
                    answer = connection.recv(4 + answer_bytes(connection), socket.MSG_WAITALL)
                    error = int.from_bytes(answer[8 + 4 + 2 + len(topic) + 4 + 4 :][:2], "big", signed=True)
                    if answer and error == 0:
                        return time.monotonic() - began
        except (ConnectionRefusedError, ConnectionResetError):
            # Reset by the life before: the kernel takes a killed process's rings apart after it is gone, and
            # its listening socket with them. Asking without a pause would take a core from what is measured.
            observe(0.001)
    raise TimeoutError(broker.log())


def producer_of(broker: Broker, failed: list[str], **settings: object) -> Producer:
    common = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2,
              "queue.buffering.max.messages": 1_000_000}
    return Producer(common | settings | {
        "on_delivery": lambda error, _: failed.append(str(error)) if error else None})


def fill(broker: Broker, topic: str, partitions: int, size: int, record_bytes: int = 1000) -> None:
    """Makes the topic and gives each of its partitions an equal share of about `size` bytes."""
    common = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2}
    admin = AdminClient(common)
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)
    failed: list[str] = []
    producer = producer_of(broker, failed, **{"linger.ms": 50, "message.max.bytes": 1_000_000})
    value = os.urandom(record_bytes)
    for number in range(size // record_bytes):
        produce_patiently(producer, topic, value, number % partitions)
    assert producer.flush(300) == 0 and not failed, failed[:3]


def produce_patiently(producer: Producer, topic: str, value: bytes, partition: int) -> None:
    while True:
        try:
            return producer.produce(topic, value, partition=partition)
        except BufferError:
            producer.poll(1)


def small_traffic(broker: Broker, topic: str, partitions: int, size: int, seed: int = 1) -> None:
    """About `size` bytes of small records to partitions at random, some still on their way when this returns: what
    a crash then leaves to be recovered."""
    choice = random.Random(seed)
    failed: list[str] = []
    producer = producer_of(broker, failed, **{"linger.ms": 5})
    value = os.urandom(1000)
    for _ in range(size // len(value)):
        produce_patiently(producer, topic, value, choice.randrange(partitions))
        producer.poll(0)
    wait_until("most of it to be acknowledged", lambda: producer.poll(0.01) is None or len(producer) < 10_000, 120)
    assert not failed, failed[:3]
    producer.purge()


def drop_caches() -> bool:
    """Lets the machine forget what it read from disks, if this user may; says whether it did."""
    os.sync()
    try:
        DROP_CACHES.write_text("3\n")
    except OSError:
        return False
    return True


def flush_s(folder: Path) -> float:
    """Seconds that one flush of a small new file takes here now, in the middle of several."""
    times = []
    path = folder / "flushed"
    for _ in range(9):
        began = time.monotonic()
        with path.open("wb") as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
        times.append(time.monotonic() - began)
        path.unlink()
    return sorted(times)[len(times) // 2]


BUSY = "import time; began = time.monotonic()\nwhile time.process_time() < 0.15: pass\nprint(time.monotonic() - began)"


def slowdown() -> float:
    """How many times longer than alone a program takes now that wants every processor: at least 1."""
    count = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-S", "-c", BUSY], stdout=subprocess.PIPE) for _ in range(count)]
    walls = [float(process.communicate()[0]) for process in busy]
    # What a processor spent on starting the program is in its time, and not in the clock's.
    return max(1.0, max(walls) / 0.15)
