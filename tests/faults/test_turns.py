"""Requests that are of thousands of partitions leave their core to others every half millisecond."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from harness.broker import Broker, answers
from wire.protocol import INCREMENTAL_ALTER_CONFIGS, exchange, header, pack, sized, string, whole_answers
from wire.scene import create_topic

PARTITIONS = 2000
# A group takes what one member commits as a whole, some 0.3 µs each: a machine that is several times slower is in time, too.
COMMITTED = 200
TOPICS = 150
ASKED = 12


def all_of(futures: dict) -> None:
    for future in futures.values():
        future.result(30)


def test_wide_requests_are_answered_in_turns(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    # It tells of each request that kept its core for longer than tasks may.
    monkeypatch.setenv("RUST_LOG", "info,flumen_server=debug")
    broker.start()
    client = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2}
    admin = AdminClient(client)
    wide = [TopicPartition("wide", partition) for partition in range(PARTITIONS)]
    names = [f"narrow-{number}" for number in range(TOPICS)]
    all_of(admin.create_topics([NewTopic("wide", PARTITIONS, 1), *(NewTopic(name, 4, 1) for name in names)]))
    producer = Producer(client)
    for place in wide:
        producer.produce(place.topic, b"v", partition=place.partition)
    assert producer.flush(30) == 0
    consumer = Consumer(client | {"group.id": "wide", "enable.auto.commit": False})
    a_while_ago = OffsetSpec.for_timestamp(int(time.time() * 1000) - 60_000)
    asked: dict[str, Callable[[], object]] = {
        "Metadata": lambda: admin.list_topics(timeout=30),
        "DescribeConfigs": lambda: all_of(admin.describe_configs([ConfigResource("topic", name) for name in names])),
        "ListOffsets": lambda: all_of(admin.list_offsets({place: a_while_ago for place in wide})),
        "OffsetCommit": lambda: consumer.commit(
            offsets=[TopicPartition(place.topic, place.partition, 1) for place in wide[:COMMITTED]], asynchronous=False),
        "OffsetFetch": lambda: consumer.committed(wide, timeout=30),
    }
    for ask in asked.values():
        for _ in range(ASKED):
            ask()
    consumer.close()
    broker.stop()
    log = broker.log()
    assert "turns of tasks" in log, "it says nothing of its turns"
    told = re.findall(r"a request kept its core for long api=(\w+) version=\d+ turns=(\d+) slow=(\d+)", log)
    turns, slow = Counter(), Counter()
    for api, of_request, too_long in told:
        turns[api] += int(of_request)
        slow[api] += int(too_long)
    print(turns, slow)
    # Others use the machine, too; but what is not done in turns is slow each time, in all that it has.
    assert not [api for api in asked if slow[api] > max(ASKED // 3, turns[api] // 3)], (turns, slow)


def test_a_request_that_another_thread_decodes_is_answered_as_any(broker: Broker) -> None:
    """Of more than 64 KiB."""
    broker.start()
    client = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2}
    admin = AdminClient(client)
    all_of(admin.create_topics([NewTopic("t", 40, 1)]))
    consumer = Consumer(client | {"group.id": "large", "enable.auto.commit": False})
    sent = {partition: (partition + 7, f"{partition:04}" * 1000) for partition in range(40)}
    consumer.commit(asynchronous=False, offsets=[
        TopicPartition("t", partition, offset, metadata) for partition, (offset, metadata) in sent.items()])
    kept = consumer.committed([TopicPartition("t", partition) for partition in sent], timeout=30)
    assert {place.partition: (place.offset, place.metadata) for place in kept} == sent
    consumer.close()


def test_requests_that_name_very_many_things_hold_up_nobody(broker: Broker) -> None:
    """Each of them alone; what others ask meanwhile is answered as ever."""
    broker.start()
    create_topic(broker, b"t", 1)
    names = [b"n%d" % number for number in range(60_000)]
    keys = b"".join(string(name) + b"\0" + string(b"v") for name in names)
    altered = pack("i", 1) + b"\x02" + string(b"t") + pack("i", len(names)) + keys + b"\0"
    resources = b"".join(b"\x02" + string(name) + pack("i", 0) for name in names)
    wide = {
        "keys of one topic": header(INCREMENTAL_ALTER_CONFIGS, 0) + altered,
        "topics to be configured": header(INCREMENTAL_ALTER_CONFIGS, 0) + pack("i", len(names)) + resources + b"\0",
        "topics to be deleted": header(20, 3) + pack("i", len(names)) + b"".join(map(string, names)) + pack("i", 30_000),
        "groups to be described": header(15, 0) + pack("i", len(names)) + b"".join(map(string, names)),
        "logs to be described": header(35, 1) + pack("i", len(names))
        + b"".join(string(name) + pack("ii", 1, 0) for name in names),
    }
    for what, request in wide.items():
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(exchange, broker, sized(request))
            longest_s = 0.0
            while not asked.done():
                began = time.monotonic()
                assert answers(broker.port)
                longest_s = max(longest_s, time.monotonic() - began)
            assert whole_answers(asked.result()) == 1, what
        print(f"{what}: others waited for {longest_s:.3f} s at most")
        assert longest_s < 1, what
