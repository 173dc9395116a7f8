"""Driver of aiokafka. Its event loop runs in a thread, so that a member heartbeats between requests."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError, for_code

from serve import ClientError, decode, decode_headers, encode, encode_headers, serve

OPERATION_S = 30.0


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.producers: dict[tuple, AIOKafkaProducer] = {}
        self.member: AIOKafkaConsumer | None = None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, operation: str) -> Any:
        """`produce` is `_produce` on the event loop's thread, and so on."""
        if operation.startswith("_"):
            raise AttributeError(operation)
        coroutine = getattr(type(self), "_" + operation)
        return lambda **fields: self.run(coroutine(self, **fields))

    def run(self, coroutine: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(3 * OPERATION_S)

    async def producer(self, codec: str, acks: str, idempotent: bool) -> AIOKafkaProducer:
        key = (codec, acks, idempotent)
        if key not in self.producers:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec,
                acks="all" if acks == "all" else int(acks), enable_idempotence=idempotent, linger_ms=50,
                max_request_size=20_000_000, max_batch_size=131_072, request_timeout_ms=20_000)
            await producer.start()
            self.producers[key] = producer
        return self.producers[key]

    async def consumer(self, group: str | None = None, **settings: Any) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False,
                                    auto_offset_reset="earliest", **settings)
        await consumer.start()
        return consumer

    async def admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        return admin

    async def _produce(self, topic: str, records: list[dict], partition: int | None = None, codec: str = "none",
                       acks: str = "all", idempotent: bool = False) -> dict:
        producer = await self.producer(codec, acks, idempotent)
        futures: list[Any] = []
        for record in records:
            try:
                futures.append(await producer.send(
                    topic, decode(record.get("v")), decode(record.get("k")), partition=partition,
                    timestamp_ms=record.get("t"), headers=decode_headers(record.get("h", []))))
            except KafkaError as error:
                futures.append(error)
        results = []
        for future in futures:
            try:
                if isinstance(future, KafkaError):
                    raise future
                told = await asyncio.wait_for(future, OPERATION_S)
                # With acks=0 there is nothing to tell.
                results.append({"p": told.partition, "o": told.offset} if told else {})
            except (KafkaError, asyncio.TimeoutError) as error:
                results.append({"error": type(error).__name__})
        return {"results": results}

    async def _read(self, topic: str, partition: int, count: int, **start: Any) -> dict:
        place = TopicPartition(topic, partition)
        wanted = start.get("from", {})
        consumer = await self.consumer()
        try:
            consumer.assign([place])
            if "offset" in wanted:
                consumer.seek(place, wanted["offset"])
            elif "time" in wanted:
                consumer.seek(place, await self.look_up(consumer, place, wanted["time"]))
            else:
                await consumer.seek_to_beginning(place)
            records = []
            deadline = time.monotonic() + OPERATION_S
            while len(records) < count and time.monotonic() < deadline:
                found = await consumer.getmany(place, timeout_ms=500, max_records=count - len(records))
                for message in found.get(place, []):
                    records.append({
                        "o": message.offset, "k": encode(message.key), "v": encode(message.value),
                        "t": message.timestamp, "h": encode_headers(message.headers)})
        finally:
            await consumer.stop()
        return {"records": records}

    @staticmethod
    async def look_up(consumer: AIOKafkaConsumer, place: TopicPartition, timestamp: int) -> int:
        found = (await consumer.offsets_for_times({place: timestamp}))[place]
        return -1 if found is None else found.offset

    async def _offset_at(self, topic: str, partition: int, timestamp: int) -> dict:
        consumer = await self.consumer()
        try:
            return {"offset": await self.look_up(consumer, TopicPartition(topic, partition), timestamp)}
        finally:
            await consumer.stop()

    async def _watermarks(self, topic: str, partition: int) -> dict:
        place = TopicPartition(topic, partition)
        consumer = await self.consumer()
        try:
            return {"low": (await consumer.beginning_offsets([place]))[place],
                    "high": (await consumer.end_offsets([place]))[place]}
        finally:
            await consumer.stop()

    async def _partitions(self, topic: str) -> dict:
        admin = await self.admin()
        try:
            found = (await admin.describe_topics([topic]))[0]
        finally:
            await admin.close()
        if found["error_code"]:
            raise ClientError(for_code(found["error_code"]).__name__)
        return {"partitions": len(found["partitions"])}

    async def _create(self, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
        admin = await self.admin()
        try:
            answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        finally:
            await admin.close()
        refuse(answer.topic_errors)

    async def _delete(self, topic: str) -> None:
        admin = await self.admin()
        try:
            answer = await admin.delete_topics([topic])
        finally:
            await admin.close()
        refuse(answer.topic_error_codes)

    async def _grow(self, topic: str, partitions: int) -> None:
        admin = await self.admin()
        try:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            await admin.close()

    async def _delete_records(self, topic: str, partition: int, before: int) -> dict:
        place = TopicPartition(topic, partition)
        admin = await self.admin()
        try:
            return {"low": (await admin.delete_records({place: RecordsToDelete(before)}))[place]}
        finally:
            await admin.close()

    async def _join(self, group: str, topics: list[str], session_ms: int, instance: str | None = None) -> None:
        self.member = AIOKafkaConsumer(
            *topics, bootstrap_servers=self.bootstrap, group_id=group, group_instance_id=instance,
            auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(session_ms // 10, 300), metadata_max_age_ms=5000)
        # Not awaited: it ends only when the group has settled, and that needs the other members.
        self.joining = asyncio.ensure_future(self.member.start())

    async def _poll(self, for_ms: int, count: int) -> dict:
        assert self.member
        records: list[dict] = []
        deadline = time.monotonic() + for_ms / 1000
        await asyncio.wait([self.joining], timeout=for_ms / 1000)
        if not self.joining.done():
            return {"records": [], "assignment": []}
        self.joining.result()
        while len(records) < count and (left := deadline - time.monotonic()) > 0:
            found = await self.member.getmany(timeout_ms=int(min(left, 0.2) * 1000), max_records=count - len(records))
            for messages in found.values():
                records += [{"p": message.partition, "o": message.offset, "v": encode(message.value)}
                            for message in messages]
        return {"records": records, "assignment": sorted(place.partition for place in self.member.assignment())}

    async def _commit(self) -> None:
        assert self.member
        await self.member.commit()

    async def _leave(self) -> None:
        assert self.member
        await self.joining
        await self.member.stop()
        self.member = None

    async def _committed(self, group: str, topic: str, partitions: list[int]) -> dict:
        consumer = await self.consumer(group)
        try:
            found = [await consumer.committed(TopicPartition(topic, number)) for number in partitions]
        finally:
            await consumer.stop()
        return {"offsets": [-1 if offset is None else offset for offset in found]}


def refuse(answers: list[tuple]) -> None:
    for _, code, *_ in answers:
        if code:
            raise ClientError(for_code(code).__name__)


if __name__ == "__main__":
    serve(Driver(sys.argv[1]), {
        "client": "aiokafka", "version": aiokafka.__version__,
        "can": ["produce", "read", "offset_at", "watermarks", "partitions", "create", "delete", "grow", "join",
                "committed", "delete_records", "idempotence", "create_on_produce"]
               + [f"codec:{codec}" for codec in ("none", "gzip", "snappy", "lz4", "zstd")],
    })
