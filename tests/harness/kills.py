"""kill -9 of the broker under load, over and over."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from .broker import Broker
from .load import Load
from .waiting import wait_until

# Several steps of what a broker gives back at a time.
DELETED_BYTES = 64 << 20
RECORD = bytes(512 << 10)


def delete_a_large_topic(broker: Broker, topic: str) -> None:
    """Leaves files that take the broker a while to unlink."""
    client = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2}
    admin = AdminClient(client)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    producer = Producer(client)
    for _ in range(DELETED_BYTES // len(RECORD)):
        producer.produce(topic, RECORD)
    assert producer.flush(30) == 0
    admin.delete_topics([topic])[topic].result(30)


def deleted_folders(broker: Broker) -> list[Path]:
    return list(broker.data.glob("*-delete"))


def kill_under_load(broker: Broker, folder: Path, kills: int, seed: int,
                    say: Callable[[str], None] = lambda text: None) -> int:
    """Committed offsets are checked after every kill, the whole log in the end. Returns how many records it holds.
    The seed chooses when to kill whom."""
    choice = random.Random(seed)
    load = Load(broker, folder)
    try:
        load.create_topic()
        for _ in range(3):
            load.add_producer()
        for _ in range(2):
            load.add_member()
        for kill in range(1, kills + 1):
            load.progress(choice.choice((1, 20, 300, 3000)))
            if choice.random() < 0.3:
                load.kill_member()
                load.add_member()
            if choice.random() < 0.3:
                delete_a_large_topic(broker, f"large-{kill}")
            broker.kill()
            broker.start()
            load.check(whole=False)
            say(f"kill {kill} of {kills}: answered again after {broker.started_s * 1000:.0f} ms")
        load.progress(100)
        wait_until("deleted topics to leave no folder", lambda: not deleted_folders(broker), within_s=90)
        load.finish()
        return load.check()
    finally:
        load.close()
