"""Requests by hand: bytes that no client library would send."""

from __future__ import annotations

import re
import socket
import struct
import time
from dataclasses import dataclass

from harness.broker import Broker

PATIENCE_S = 10.0
# How long a broker that should say nothing is listened to.
SILENCE_S = 0.5

PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR, API_VERSIONS = 0, 1, 2, 3, 10, 18
CREATE_TOPICS, DELETE_RECORDS, OFFSET_FOR_LEADER_EPOCH, DESCRIBE_CONFIGS, ALTER_CONFIGS = 19, 21, 23, 32, 33
INCREMENTAL_ALTER_CONFIGS, LIST_PARTITION_REASSIGNMENTS, LIST_CONFIG_RESOURCES = 44, 46, 74
CORRELATION_ID = 7

CLOSED = "closed"
SILENT = "silent"


def pack(layout: str, *values: object) -> bytes:
    return struct.pack(">" + layout, *values)


def string(text: bytes | None) -> bytes:
    return pack("h", -1) if text is None else pack("h", len(text)) + text


def compact(text: bytes) -> bytes:
    """A short compact string."""
    return bytes([len(text) + 1]) + text


def header(key: int, version: int, flexible: bool = False, client: bytes | None = b"by hand") -> bytes:
    return pack("hhi", key, version, CORRELATION_ID) + string(client) + (b"\0" if flexible else b"")


def sized(body: bytes) -> bytes:
    return pack("i", len(body)) + body


def exchange(broker: Broker, sent: bytes, answers: int = 1, piece_bytes: int = 1 << 30) -> bytes | str:
    """Sends bytes as they are, in pieces. What comes back, up to so many answers; or that the connection was closed,
    or that there was nothing to hear."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENCE_S) as connection:
        received = b""
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(sent), piece_bytes):
                connection.sendall(sent[start : start + piece_bytes])
            connection.settimeout(PATIENCE_S if answers else SILENCE_S)
            while whole_answers(received) < max(answers, 1):
                more = connection.recv(1 << 16)
                if not more:
                    return CLOSED if not received else received
                received += more
        except (ConnectionResetError, BrokenPipeError):
            return CLOSED
        except TimeoutError:
            return SILENT
        return received


def whole_answers(received: bytes) -> int:
    count = 0
    while len(received) >= 4 and len(received) >= 4 + struct.unpack(">i", received[:4])[0]:
        received = received[4 + struct.unpack(">i", received[:4])[0] :]
        count += 1
    return count


# --- Records ------------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unsigned_varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def varint(number: int) -> bytes:
    return unsigned_varint((number << 1) ^ (number >> 63))


def field(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def record(delta: int, key: bytes | None = b"k", value: bytes | None = b"v", timestamp: int = 0,
           headers: bytes = b"\0") -> bytes:
    body = b"\0" + varint(timestamp) + varint(delta) + field(key) + field(value) + headers
    return varint(len(body)) + body


@dataclass
class Batch:
    """A sound batch of magic 2, but for what is said otherwise."""

    records: list[bytes] | None = None
    count: int | None = None
    last_delta: int | None = None
    attributes: int = 0
    base_offset: int = 0
    leader_epoch: int = 0
    producer: tuple[int, int, int] = (-1, -1, -1)
    crc: int | None = None
    magic: int = 2
    length: int | None = None
    max_timestamp: int | None = None
    base_timestamp: int | None = None

    def encode(self) -> bytes:
        records = [record(0)] if self.records is None else self.records
        now = int(time.time() * 1000) if self.base_timestamp is None else self.base_timestamp
        producer_id, epoch, sequence = self.producer
        covered = pack(
            "hiqqqhii", self.attributes, len(records) - 1 if self.last_delta is None else self.last_delta, now,
            now if self.max_timestamp is None else self.max_timestamp, producer_id, epoch, sequence,
            len(records) if self.count is None else self.count,
        ) + b"".join(records)
        crc = crc32c(covered) if self.crc is None else self.crc
        length = 9 + len(covered) if self.length is None else self.length
        return pack("qiibI", self.base_offset, length, self.leader_epoch, self.magic, crc) + covered


def produce(topic: bytes, *records: bytes | None, acks: int = 1, partition: int = 0, version: int = 8,
            transactional_id: bytes | None = None, client: bytes | None = b"by hand") -> bytes:
    """A Produce request of v3 to v8; several record sets go to partitions that follow each other."""
    body = string(transactional_id) + pack("hi", acks, 5000) + pack("i", 1) + string(topic) + pack("i", len(records))
    for index, one in enumerate(records):
        body += pack("i", partition + index) + (pack("i", -1) if one is None else pack("i", len(one)) + one)
    return header(PRODUCE, version, client=client) + body


def produce_by_id(topic: bytes, records: bytes, partition: int = 0, client: bytes | None = b"by hand") -> bytes:
    """A Produce request of v13 to one partition of the topic of this id."""
    body = b"\0" + pack("hi", 1, 5000) + b"\x02" + topic + b"\x02" + pack("i", partition)
    body += unsigned_varint(len(records) + 1) + records + b"\0\0\0"
    return header(PRODUCE, 13, flexible=True, client=client) + body


def produced_by_id(answer: bytes | str) -> dict | str:
    """What a Produce answer of v13 says of its one partition."""
    if isinstance(answer, str):
        return answer
    reader = FlexibleReader(answer[8:])
    reader.tags(), reader.varint(), reader.raw(16), reader.varint()
    _, error, offset, append_time, _ = reader.take("ihqqq")
    records = []
    for _ in range(reader.varint() - 1):
        records.append((reader.take("i"), reader.string()))
        reader.tags()
    return {"error": error, "has offset": offset >= 0, "has append time": append_time >= 0,
            "records": [(at, without_times(text)) for at, text in records], "message": without_times(reader.string())}


def produced(answer: bytes | str) -> object:
    """What a Produce answer of v8 says of each partition. Offsets only as there or not: how far a log has come
    is no matter here."""
    if isinstance(answer, str):
        return answer
    reader = Reader(answer[8:])
    partitions = []
    for _ in range(reader.take("i")):
        reader.string()
        for _ in range(reader.take("i")):
            index, error, offset, append_time, log_start = reader.take("ihqqq")
            records = [(reader.take("i"), reader.string()) for _ in range(reader.take("i"))]
            partitions.append({
                "index": index, "error": error, "has offset": offset >= 0, "has append time": append_time >= 0,
                "log start": log_start, "records": [(at, without_times(text)) for at, text in records],
                "message": without_times(reader.string()),
            })
    return partitions


def without_times(text: str | None) -> str | None:
    """Two brokers read their clocks at different moments."""
    return text and re.sub(r"-?\d{13,}", "TIME", text)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, layout: str):
        values = struct.unpack_from(">" + layout, self.data, self.position)
        self.position += struct.calcsize(">" + layout)
        return values[0] if len(values) == 1 else values

    def string(self) -> str | None:
        length = self.take("h")
        if length < 0:
            return None
        self.position += length
        return self.data[self.position - length : self.position].decode()


class FlexibleReader(Reader):
    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take("B")
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def string(self) -> str | None:
        length = self.varint() - 1
        return None if length < 0 else self.raw(length).decode()

    def raw(self, count: int) -> bytes:
        self.position += count
        return self.data[self.position - count : self.position]

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.raw(self.varint())
