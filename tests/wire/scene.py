"""What the suites of hand-made bytes share: every broker of a run plays the same scene."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    CREATE_TOPICS, FETCH, LIST_OFFSETS, METADATA, Batch, Reader, compact, exchange, header, pack, produce, produced, sized,
    string,
)

TOPIC_ALREADY_EXISTS = 36


def everywhere(brokers: list[Broker], play) -> object:
    """The outcome, which must be the same on each broker."""
    with ThreadPoolExecutor(len(brokers)) as pool:
        outcomes = list(pool.map(play, brokers))
    for broker, outcome in zip(brokers, outcomes):
        assert outcome == outcomes[0], f"{brokers[0].name}: {outcomes[0]!r}\n{broker.name}: {outcome!r}"
    return outcomes[0]


def create_topic(broker: Broker, name: bytes, partitions: int = 3, **settings: str) -> None:
    error, message = try_to_create(broker, name, partitions, **settings)
    assert error in (0, TOPIC_ALREADY_EXISTS), message
    wait_until(f"{name.decode()} to be led", lambda: is_led(broker, name, partitions))


def try_to_create(broker: Broker, name: bytes, partitions: int = 3, **settings: str) -> tuple[int, str | None]:
    """CreateTopics: error code and message."""
    configs = [(key.replace("_", ".").encode(), value.encode()) for key, value in settings.items()]
    body = pack("i", 1) + string(name) + pack("ihi", partitions, 1, 0) + pack("i", len(configs))
    body += b"".join(string(key) + string(value) for key, value in configs) + pack("ib", 30_000, 0)
    answer = Reader(exchange(broker, sized(header(CREATE_TOPICS, 4) + body))[12:])
    answer.take("i"), answer.string()
    return answer.take("h"), answer.string()


def produce_errors(broker: Broker, name: bytes) -> list[int]:
    """What the three partitions of a topic say to a batch each."""
    answer = produced(exchange(broker, sized(produce(name, *[Batch().encode()] * 3))))
    return [partition["error"] for partition in answer]


def is_led(broker: Broker, name: bytes, partitions: int) -> bool:
    """Whether each partition of a topic says where it ends."""
    body = pack("ii", -1, 1) + string(name) + pack("i", partitions)
    body += b"".join(pack("iq", index, -1) for index in range(partitions))
    reader = Reader(exchange(broker, sized(header(LIST_OFFSETS, 1) + body))[12:])
    reader.string()
    return not any(reader.take("ihqq")[1] for _ in range(reader.take("i")))


def topic_id(broker: Broker, name: bytes) -> bytes:
    """The id of a topic that is there."""
    answer = exchange(broker, sized(header(METADATA, 12, True) + b"\x02" + bytes(16) + compact(name) + b"\0\0\0\0"))
    at = answer.rindex(compact(name)) + len(compact(name))
    return answer[at : at + 16]


def fetch_one(broker: Broker, topic: bytes, offset: int) -> bytes:
    """What is stored in partition 0 from the batch at this offset on."""
    body = pack("iiiib", -1, 100, 1, 1_000_000, 0) + pack("i", 1) + string(topic) + pack("iiqi", 1, 0, offset, 1_000_000)
    answer = exchange(broker, sized(header(FETCH, 4) + body))
    return answer[answer.index(topic) + len(topic) + 4 + 4 + 2 + 8 + 8 + 4 + 4 :]
