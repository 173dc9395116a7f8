"""Driver of confluent-kafka (librdkafka)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from serve import ClientError, decode, decode_headers, encode, encode_headers, serve

OPERATION_S = 30.0


def name_of(error: KafkaError) -> str:
    return error.name().lstrip("_")


def wait_for(future: Any) -> Any:
    try:
        return future.result(OPERATION_S)
    except KafkaException as error:
        raise ClientError(name_of(error.args[0])) from error


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self.common = {"bootstrap.servers": bootstrap, "broker.address.family": "v4", "log_level": 3}
        self.producers: dict[tuple, Producer] = {}
        self.admin = AdminClient(self.common)
        self.member: Consumer | None = None

    def producer(self, codec: str, acks: str, idempotent: bool) -> Producer:
        key = (codec, acks, idempotent)
        if key not in self.producers:
            self.producers[key] = Producer(
                self.common
                | {
                    "compression.type": codec,
                    "acks": acks,
                    "enable.idempotence": idempotent,
                    "linger.ms": 50,
                    "message.max.bytes": 20_000_000,
                    "message.timeout.ms": 30_000,
                }
            )
        return self.producers[key]

    @contextmanager
    def reader(self, **settings: Any) -> Iterator[Consumer]:
        consumer = Consumer(self.common | {"group.id": "reader", "enable.auto.commit": False} | settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def produce(self, topic: str, records: list[dict], partition: int | None = None, codec: str = "none",
                acks: str = "all", idempotent: bool = False) -> dict:
        producer = self.producer(codec, acks, idempotent)
        results: list[dict] = [{"error": "never reported"} for _ in records]

        def reported(index: int) -> Callable[[KafkaError | None, Message], None]:
            def report(error: KafkaError | None, message: Message) -> None:
                if error:
                    results[index] = {"error": name_of(error)}
                else:
                    results[index] = {"p": message.partition(), "o": message.offset()}
            return report

        for index, record in enumerate(records):
            options: dict[str, Any] = {"on_delivery": reported(index)}
            if partition is not None:
                options["partition"] = partition
            if record.get("t") is not None:
                options["timestamp"] = record["t"]
            try:
                producer.produce(topic, decode(record.get("v")), decode(record.get("k")),
                                 headers=decode_headers(record.get("h", [])), **options)
            except KafkaException as error:
                results[index] = {"error": name_of(error.args[0])}
        producer.flush(OPERATION_S)
        return {"results": results}

    def read(self, topic: str, partition: int, count: int, **start: Any) -> dict:
        place = start.get("from", {})
        with self.reader() as consumer:
            offset = place.get("offset", confluent_kafka.OFFSET_BEGINNING)
            if "time" in place:
                offset = self.look_up(consumer, topic, partition, place["time"])
            consumer.assign([TopicPartition(topic, partition, offset)])
            records = []
            deadline = time.monotonic() + OPERATION_S
            while len(records) < count and time.monotonic() < deadline:
                for message in consumer.consume(count - len(records), 0.5):
                    if message.error():
                        raise ClientError(name_of(message.error()))
                    records.append({
                        "o": message.offset(), "k": encode(message.key()), "v": encode(message.value()),
                        "t": message.timestamp()[1], "h": encode_headers(message.headers()),
                    })
        return {"records": records}

    @staticmethod
    def look_up(consumer: Consumer, topic: str, partition: int, timestamp: int) -> int:
        found = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], OPERATION_S)[0]
        if found.error:
            raise ClientError(name_of(found.error))
        return found.offset

    def offset_at(self, topic: str, partition: int, timestamp: int) -> dict:
        with self.reader() as consumer:
            return {"offset": self.look_up(consumer, topic, partition, timestamp)}

    def watermarks(self, topic: str, partition: int) -> dict:
        with self.reader() as consumer:
            try:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), OPERATION_S)
            except KafkaException as error:
                raise ClientError(name_of(error.args[0])) from error
        return {"low": low, "high": high}

    def partitions(self, topic: str) -> dict:
        found = self.admin.list_topics(topic, timeout=OPERATION_S).topics[topic]
        if found.error:
            raise ClientError(name_of(found.error))
        return {"partitions": len(found.partitions)}

    def topics(self) -> dict:
        return {"topics": sorted(self.admin.list_topics(timeout=OPERATION_S).topics)}

    def create(self, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
        wait_for(self.admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic])

    def delete(self, topic: str) -> None:
        wait_for(self.admin.delete_topics([topic])[topic])

    def grow(self, topic: str, partitions: int) -> None:
        wait_for(self.admin.create_partitions([NewPartitions(topic, partitions)])[topic])

    def delete_records(self, topic: str, partition: int, before: int) -> dict:
        asked = TopicPartition(topic, partition, before)
        return {"low": wait_for(self.admin.delete_records([asked])[asked]).low_watermark}

    def join(self, group: str, topics: list[str], session_ms: int, instance: str | None = None) -> None:
        settings = self.common | {
            "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "session.timeout.ms": session_ms, "heartbeat.interval.ms": max(session_ms // 10, 300),
        }
        if instance:
            settings["group.instance.id"] = instance
        self.member = Consumer(settings)
        self.member.subscribe(topics)

    def poll(self, for_ms: int, count: int) -> dict:
        assert self.member
        records = []
        deadline = time.monotonic() + for_ms / 1000
        while len(records) < count and (left := deadline - time.monotonic()) > 0:
            for message in self.member.consume(count - len(records), min(left, 0.2)):
                if message.error():
                    continue  # a topic that is not there yet, a coordinator that moves: librdkafka goes on
                records.append({"p": message.partition(), "o": message.offset(), "v": encode(message.value())})
        return {"records": records, "assignment": sorted(place.partition for place in self.member.assignment())}

    def commit(self) -> None:
        assert self.member
        try:
            self.member.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise ClientError(name_of(error.args[0])) from error

    def leave(self) -> None:
        assert self.member
        self.member.close()
        self.member = None

    def committed(self, group: str, topic: str, partitions: list[int]) -> dict:
        with self.reader(**{"group.id": group}) as consumer:
            found = consumer.committed([TopicPartition(topic, number) for number in partitions], OPERATION_S)
        return {"offsets": [max(place.offset, -1) for place in found]}


if __name__ == "__main__":
    serve(Driver(sys.argv[1]), {
        "client": "confluent-kafka", "version": confluent_kafka.__version__,
        "can": ["produce", "read", "offset_at", "watermarks", "partitions", "create", "delete", "grow", "join",
                "committed", "delete_records", "idempotence", "create_on_produce"]
               + [f"codec:{codec}" for codec in ("none", "gzip", "snappy", "lz4", "zstd")],
    })
