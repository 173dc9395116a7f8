"""Driver of kafka-python."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from serve import ClientError, decode, decode_headers, encode, encode_headers, serve

OPERATION_S = 30.0


def name_of(error: BaseException) -> str:
    return type(error).__name__


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.producers: dict[tuple, KafkaProducer] = {}
        self.member: KafkaConsumer | None = None
        self.admin_client: KafkaAdminClient | None = None

    @property
    def admin(self) -> KafkaAdminClient:
        if self.admin_client is None:
            self.admin_client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.admin_client

    def producer(self, codec: str, acks: str, idempotent: bool) -> KafkaProducer:
        key = (codec, acks, idempotent)
        if key not in self.producers:
            self.producers[key] = KafkaProducer(
                bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec,
                acks="all" if acks == "all" else int(acks), enable_idempotence=idempotent, linger_ms=50,
                max_request_size=20_000_000, batch_size=131_072, delivery_timeout_ms=30_000,
                request_timeout_ms=20_000)
        return self.producers[key]

    @contextmanager
    def reader(self, **settings: Any) -> Iterator[KafkaConsumer]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False,
                                 auto_offset_reset="earliest", **settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def produce(self, topic: str, records: list[dict], partition: int | None = None, codec: str = "none",
                acks: str = "all", idempotent: bool = False) -> dict:
        producer = self.producer(codec, acks, idempotent)
        futures = []
        for record in records:
            try:
                futures.append(producer.send(
                    topic, decode(record.get("v")), decode(record.get("k")),
                    headers=decode_headers(record.get("h", [])), partition=partition, timestamp_ms=record.get("t")))
            except KafkaError as error:
                futures.append(error)
        results = []
        for future in futures:
            try:
                if isinstance(future, KafkaError):
                    raise future
                told = future.get(OPERATION_S)
                results.append({"p": told.partition, "o": told.offset})
            except KafkaError as error:
                results.append({"error": name_of(error)})
        return {"results": results}

    def read(self, topic: str, partition: int, count: int, **start: Any) -> dict:
        place = TopicPartition(topic, partition)
        wanted = start.get("from", {})
        with self.reader() as consumer:
            consumer.assign([place])
            if "offset" in wanted:
                consumer.seek(place, wanted["offset"])
            elif "time" in wanted:
                consumer.seek(place, self.look_up(consumer, place, wanted["time"]))
            else:
                consumer.seek_to_beginning(place)
            records = []
            deadline = time.monotonic() + OPERATION_S
            while len(records) < count and time.monotonic() < deadline:
                for message in consumer.poll(500, count - len(records)).get(place, []):
                    records.append({
                        "o": message.offset, "k": encode(message.key), "v": encode(message.value),
                        "t": message.timestamp, "h": encode_headers(message.headers)})
        return {"records": records}

    @staticmethod
    def look_up(consumer: KafkaConsumer, place: TopicPartition, timestamp: int) -> int:
        found = consumer.offsets_for_times({place: timestamp})[place]
        return -1 if found is None else found.offset

    def offset_at(self, topic: str, partition: int, timestamp: int) -> dict:
        with self.reader() as consumer:
            return {"offset": self.look_up(consumer, TopicPartition(topic, partition), timestamp)}

    def watermarks(self, topic: str, partition: int) -> dict:
        place = TopicPartition(topic, partition)
        with self.reader() as consumer:
            return {"low": consumer.beginning_offsets([place])[place], "high": consumer.end_offsets([place])[place]}

    def partitions(self, topic: str) -> dict:
        found = self.admin.describe_topics([topic])[0]
        if found["error_code"]:
            raise ClientError(name_of(kafka.errors.for_code(found["error_code"])()))
        return {"partitions": len(found["partitions"])}

    def create(self, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
        self.admin.create_topics(
            {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config or {}}})

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])

    def grow(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions({topic: partitions})

    def delete_records(self, topic: str, partition: int, before: int) -> dict:
        place = TopicPartition(topic, partition)
        return {"low": self.admin.delete_records({place: before})[place]["low_watermark"]}

    def join(self, group: str, topics: list[str], session_ms: int, instance: str | None = None) -> None:
        self.member = KafkaConsumer(
            *topics, bootstrap_servers=self.bootstrap, group_id=group, group_instance_id=instance,
            auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(session_ms // 10, 300), metadata_max_age_ms=5000)

    def poll(self, for_ms: int, count: int) -> dict:
        assert self.member
        records = []
        deadline = time.monotonic() + for_ms / 1000
        while len(records) < count and (left := deadline - time.monotonic()) > 0:
            for messages in self.member.poll(int(min(left, 0.2) * 1000), count - len(records)).values():
                records += [{"p": message.partition, "o": message.offset, "v": encode(message.value)}
                            for message in messages]
        return {"records": records, "assignment": sorted(place.partition for place in self.member.assignment())}

    def commit(self) -> None:
        assert self.member
        self.member.commit()

    def leave(self) -> None:
        assert self.member
        self.member.close(autocommit=False)
        self.member = None

    def committed(self, group: str, topic: str, partitions: list[int]) -> dict:
        with self.reader(group_id=group) as consumer:
            found = [consumer.committed(TopicPartition(topic, number)) for number in partitions]
        return {"offsets": [-1 if offset is None else offset for offset in found]}


if __name__ == "__main__":
    serve(Driver(sys.argv[1]), {
        "client": "kafka-python", "version": kafka.__version__,
        "can": ["produce", "read", "offset_at", "watermarks", "partitions", "create", "delete", "grow", "join",
                "committed", "delete_records", "idempotence", "create_on_produce", "no_null_headers"]
               + [f"codec:{codec}" for codec in ("none", "gzip", "snappy", "lz4", "zstd")],
    })
