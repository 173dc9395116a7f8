"""What a producer is told, sent by hand to every broker of the run: of topics that are the broker's own."""

from __future__ import annotations

import pytest

from harness.broker import Broker
from harness.waiting import wait_until

from .protocol import (
    FIND_COORDINATOR, Batch, exchange, header, pack, produce, produce_by_id, produced, produced_by_id, sized, string,
)
from .scene import create_topic, everywhere, topic_id

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
