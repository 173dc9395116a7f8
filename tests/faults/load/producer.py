"""An idempotent producer that goes on through crashes of the broker, and writes down what was acknowledged.

    producer.py BOOTSTRAP TOPIC NAME LEDGER

Every record's value begins with "NAME:NUMBER|". One line "NUMBER PARTITION OFFSET" is written for each
acknowledgement, when it is known. SIGTERM: it waits for what is on its way, and ends with the line "done NUMBER",
the first number that was never sent. A record that fails for good ends it with the line "failed NUMBER ERROR".
"""

from __future__ import annotations

import random
import signal
import sys
import time
from typing import TextIO

from confluent_kafka import KafkaError, Message, Producer

PENDING_MAX = 2000
# Some thousand records a second: enough that every kill finds batches under way.
BURST = 20
PACE_S = 0.01
CODECS = ["none", "lz4", "zstd", "snappy", "gzip"]


class Load:
    def __init__(self, bootstrap: str, topic: str, name: str, ledger: TextIO) -> None:
        self.topic = topic
        self.name = name
        self.ledger = ledger
        self.random = random.Random(name)
        self.stopping = False
        self.failed = False
        self.producer = Producer({
            "bootstrap.servers": bootstrap, "broker.address.family": "v4", "enable.idempotence": True,
            "linger.ms": 2, "compression.type": self.random.choice(CODECS), "message.timeout.ms": 180_000,
            "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50,
            "socket.timeout.ms": 10_000, "log_level": 2, "queue.buffering.max.messages": 100_000})

    def stop(self, *_: object) -> None:
        self.stopping = True

    def acknowledged(self, error: KafkaError | None, message: Message) -> None:
        number = int(message.value().split(b"|", 1)[0].split(b":")[1])
        if error:
            self.failed = True
            self.ledger.write(f"failed {number} {error.name()}\n")
        else:
            self.ledger.write(f"{number} {message.partition()} {message.offset()}\n")

    def pace(self) -> None:
        """Serves acknowledgements until it is time for the next burst."""
        until = time.monotonic() + PACE_S
        while (left := until - time.monotonic()) > 0:
            self.producer.poll(left)

    def run(self) -> None:
        number = 0
        while not self.stopping and not self.failed:
            while len(self.producer) < PENDING_MAX and not self.stopping:
                # Mostly small, some that fill a batch of their own.
                padding = self.random.choice((0, 10, 100, 1000)) if self.random.random() < 0.98 else 60_000
                value = f"{self.name}:{number}|".encode() + self.random.randbytes(padding)
                self.producer.produce(self.topic, value, f"{self.name}-{number % 16}".encode(),
                                      on_delivery=self.acknowledged)
                number += 1
                if number % BURST == 0:
                    break
            self.pace()
            self.ledger.flush()
        left = self.producer.flush(120)
        self.ledger.write(f"done {number}\n" if not left else f"failed {number} {left} never reported\n")
        self.ledger.flush()


if __name__ == "__main__":
    with open(sys.argv[4], "w") as out:
        load = Load(sys.argv[1], sys.argv[2], sys.argv[3], out)
        signal.signal(signal.SIGTERM, load.stop)
        load.run()
