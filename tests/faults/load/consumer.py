"""A member of a group that goes on through crashes of the broker, and writes down what it saw and committed.

    consumer.py BOOTSTRAP TOPIC GROUP LEDGER

Lines: "saw PARTITION OFFSET NAME:NUMBER" for each record received, "committed PARTITION OFFSET" for each commit that
was acknowledged. SIGTERM: it leaves the group.
"""

from __future__ import annotations

import signal
import sys
from typing import TextIO

from confluent_kafka import Consumer, KafkaException, TopicPartition


class Member:
    def __init__(self, bootstrap: str, topic: str, group: str, ledger: TextIO) -> None:
        self.ledger = ledger
        self.stopping = False
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap, "broker.address.family": "v4", "group.id": group,
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 50, "fetch.wait.max.ms": 100, "log_level": 2, "topic.metadata.refresh.interval.ms": 2000})
        self.consumer.subscribe([topic])

    def stop(self, *_: object) -> None:
        self.stopping = True

    def commit(self, places: dict[int, int], topic: str) -> None:
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in places.items()]
        try:
            for place in self.consumer.commit(offsets=wanted, asynchronous=False) or []:
                if place.error is None:
                    self.ledger.write(f"committed {place.partition} {place.offset}\n")
        except KafkaException as error:
            # The broker is away, or the group moved on: nothing was acknowledged.
            self.ledger.write(f"refused {error.args[0].name()}\n")

    def run(self, topic: str) -> None:
        while not self.stopping:
            places: dict[int, int] = {}
            for message in self.consumer.consume(500, 0.1):
                if message.error():
                    continue
                identity = message.value().split(b"|", 1)[0].decode()
                self.ledger.write(f"saw {message.partition()} {message.offset()} {identity}\n")
                places[message.partition()] = message.offset() + 1
            if places:
                self.commit(places, topic)
            self.ledger.flush()
        self.consumer.close()


if __name__ == "__main__":
    with open(sys.argv[4], "w") as out:
        member = Member(sys.argv[1], sys.argv[2], sys.argv[3], out)
        signal.signal(signal.SIGTERM, member.stop)
        member.run(sys.argv[2])
