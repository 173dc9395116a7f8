"""What no client library sends, sent to every broker of the run by hand: the answers must be equal."""

from __future__ import annotations

import gzip
import socket
import struct
import time

import pytest

from harness.broker import Broker

from .protocol import (
    API_VERSIONS, CLOSED, FETCH, METADATA, PATIENCE_S, PRODUCE, SILENT, Batch, Reader, compact, exchange, header, pack,
    produce, produced, record, sized, string, varint, whole_answers,
)
from .scene import create_topic, everywhere

MILLION = 1_000_000
NAME = compact(b"by-hand") + compact(b"1") + b"\0"


# --- Frames and headers -------------------------------------------------------------------------------

CLOSING = {
    "size 0": sized(b""),
    "size -1": pack("i", -1),
    "size 2^31-1": pack("i", 2**31 - 1) + b"abc",
    "size above the limit": pack("i", 104_857_601) + b"abc",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "half a header": sized(b"\0\x12\0"),
    "api key 999": sized(header(999, 0)),
    "api key -1": sized(header(-1, 0)),
    "removed api": sized(header(7, 1)),
    "a controller's api": sized(header(52, 0, flexible=True)),
    "metadata v99": sized(header(METADATA, 99, flexible=True)),
    "metadata v-1": sized(header(METADATA, -1)),
    "produce v0": sized(header(PRODUCE, 0) + pack("hii", 1, 1000, 0)),
    "produce v2": sized(header(PRODUCE, 2) + pack("hii", 1, 1000, 0)),
    "fetch v3": sized(header(FETCH, 3) + pack("iiiii", -1, 100, 1, 100, 0)),
    "api versions v99 without tags": sized(header(API_VERSIONS, 99)),
    "api versions v3 without a body": sized(header(API_VERSIONS, 3, flexible=True)),
    "metadata with a null array": sized(header(METADATA, 0) + pack("i", -1)),
    "metadata with a null name": sized(header(METADATA, 1) + pack("i", 1) + string(None)),
    "two thousand million topics": sized(header(METADATA, 1) + pack("i", 2**31 - 1)),
    "a million topics in nine bytes": sized(header(METADATA, 9, flexible=True) + b"\xc1\x84\x3d" + bytes(9)),
    "a name that is longer than the request": sized(header(METADATA, 1) + pack("ih", 1, 500) + b"abc"),
    "a tag below its version": sized(header(FETCH, 12, flexible=True) + pack("iiiib", -1, 100, 1, 100, 0)
                                     + pack("ii", 0, -1) + b"\x01\x01\x01" + b"\x01\x01\x0d" + bytes(13)),
}


@pytest.mark.parametrize("sent", CLOSING.values(), ids=CLOSING.keys())
def test_closes(brokers: list[Broker], sent: bytes) -> None:
    assert everywhere(brokers, lambda broker: exchange(broker, sent)) == CLOSED
    # The next one notices nothing.
    assert everywhere(brokers, lambda broker: exchange(broker, sized(header(API_VERSIONS, 99, True) + NAME))) != CLOSED


ANSWERED = {
    "api versions v5": (header(API_VERSIONS, 5, flexible=True) + NAME, 35),
    "api versions v99": (header(API_VERSIONS, 99, flexible=True) + NAME, 35),
    "api versions v-1": (header(API_VERSIONS, -1), 35),
    "a client with an illegal name": (header(API_VERSIONS, 3, flexible=True) + compact(b"a b!") + compact(b"1") + b"\0", 42),
    "a client without a name": (header(API_VERSIONS, 3, flexible=True) + compact(b"") + compact(b"") + b"\0", 42),
}


@pytest.mark.parametrize(("sent", "error"), ANSWERED.values(), ids=ANSWERED.keys())
def test_api_versions_refused(brokers: list[Broker], sent: bytes, error: int) -> None:
    """Byte for byte: a client that does not know the broker yet has to understand it."""
    answer = everywhere(brokers, lambda broker: exchange(broker, sized(sent)))
    assert struct.unpack(">h", answer[8:10])[0] == error


ACCEPTED = {
    "no client id": header(API_VERSIONS, 0, client=None),
    "a client id that is not utf-8": header(API_VERSIONS, 0, client=b"a\xff"),
    "bytes behind the request": header(API_VERSIONS, 0) + b"xyz",
    "unknown tags in the header": pack("hhi", API_VERSIONS, 3, 7) + string(b"c") + b"\x01\x07\x02xx" + NAME,
    "a topic that is not utf-8": header(METADATA, 0) + pack("i", 1) + string(b"a\xff"),
    "unknown tags in the body": header(API_VERSIONS, 3, True) + compact(b"a") + compact(b"1") + b"\x01\x63\x03abc",
}


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(brokers: list[Broker], sent: bytes) -> None:
    def play(broker: Broker) -> int:
        answer = exchange(broker, sized(sent))
        assert isinstance(answer, bytes), answer
        return struct.unpack(">h", answer[8:10])[0]

    assert everywhere(brokers, play) == 0


def test_pipelined_requests_are_answered_in_order(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> list[int]:
        sent = b"".join(sized(pack("hhi", API_VERSIONS, 0, number) + string(b"c")) for number in range(20))
        answer = exchange(broker, sent, answers=20)
        ids = []
        while answer:
            size, number = struct.unpack(">ii", answer[:8])
            ids.append(number)
            answer = answer[4 + size :]
        return ids

    assert everywhere(brokers, play) == list(range(20))


def test_records_are_acknowledged_together(brokers: list[Broker]) -> None:
    """Requests that arrive together are answered together. Kafka sends each answer for itself."""
    def play(broker: Broker) -> int:
        create_topic(broker, b"together", partitions=1)
        request = sized(produce(b"together", SOUND))
        with socket.create_connection(("127.0.0.1", broker.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request * 40)
            received = b""
            while whole_answers(received) < 40:
                received += connection.recv(1 << 16)
            # tcpi_data_segs_in of tcp(7)'s struct tcp_info.
            told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
            return struct.unpack_from("I", told, 152)[0]

    segments = {broker.name: play(broker) for broker in brokers}
    assert 1 <= segments.get("flumen", 1) <= 20, segments


ENDING = {
    "api key 999": sized(header(999, 0)),
    "half a produce": sized(header(PRODUCE, 8) + b"\0\1"),
    "size -5": pack("i", -5),
    "size 2^30": pack("i", 1 << 30),
}


@pytest.mark.parametrize("wrong", ENDING.values(), ids=ENDING.keys())
def test_what_comes_before_the_end_of_a_connection_is_answered(brokers: list[Broker], wrong: bytes) -> None:
    def play(broker: Broker) -> int | str:
        answers = exchange(broker, sized(produce(b"plain", SOUND)) * 3 + wrong, answers=4)
        return answers if isinstance(answers, str) else whole_answers(answers)

    assert everywhere(brokers, play) == 3


# --- Produce ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def topics(brokers: list[Broker]) -> None:
    for broker in brokers:
        create_topic(broker, b"plain")
        create_topic(broker, b"sizes", partitions=1)
        create_topic(broker, b"compacted", cleanup_policy="compact")
        create_topic(broker, b"stamped", message_timestamp_type="LogAppendTime")
        for codec in ("uncompressed", "gzip", "snappy"):
            create_topic(broker, b"stored-" + codec.encode(), compression_type=codec)


# What Apache Kafka says of a refused batch besides its code. Of all others it says nothing, and Flumen what is
# wrong; and Flumen looks at most of them before it asks their partition, so that it knows no log start then.
WORDED = ("Record size", "Invalid magic", "One or more records")


def told(outcome: object) -> object:
    if isinstance(outcome, str):
        return outcome
    for partition in outcome:
        if partition["error"] != 0:
            partition["log start"] = None
            if not (partition["message"] or "").startswith(WORDED):
                partition["message"] = None
    return sorted(outcome, key=lambda partition: partition["index"])


SOUND = Batch().encode()

RECORDS = {
    "sound": SOUND,
    "empty": b"",
    "seven bytes": b"garbage",
    "zeros": bytes(61),
    "wrong crc": Batch(crc=1).encode(),
    "magic 0": Batch(magic=0).encode(),
    "magic 1": Batch(magic=1).encode(),
    "magic 5": Batch(magic=5).encode(),
    "magic -1": Batch(magic=-1).encode(),
    "count 2 of 1": Batch(count=2).encode(),
    "count 0": Batch(count=0).encode(),
    "count -1": Batch(count=-1).encode(),
    "count and delta 2 of 1": Batch(count=2, last_delta=1).encode(),
    "count 1 of 2": Batch(records=[record(0), record(1)], count=1, last_delta=0).encode(),
    "last delta 5": Batch(last_delta=5).encode(),
    "last delta -1": Batch(last_delta=-1).encode(),
    "no records": Batch(records=[], count=0, last_delta=-1).encode(),
    "base offset 77": Batch(base_offset=77).encode(),
    "leader epoch 99": Batch(leader_epoch=99).encode(),
    "bytes behind the records": Batch(records=[record(0) + b"zz"]).encode(),
    "two batches": SOUND + SOUND,
    "five bytes behind the batch": SOUND + b"abcde",
    "zeros behind the batch": SOUND + bytes(20),
    "cut": SOUND[:-3],
    "length 10^9": Batch(length=10**9).encode(),
    "length -5": Batch(length=-5).encode(),
    "length 13": Batch(length=13).encode(),
    "length 48": Batch(length=48).encode(),
    "control": Batch(attributes=0x20).encode(),
    "transactional, nobody's": Batch(attributes=0x10).encode(),
    "transactional, no id": Batch(attributes=0x10, producer=(1, 0, 0)).encode(),
    "producer without a sequence": Batch(producer=(5, 0, -1)).encode(),
    "sequence -2": Batch(producer=(10, 0, -2)).encode(),
    "reserved attributes": Batch(attributes=0x4000).encode(),
    "max timestamp -1": Batch(max_timestamp=-1).encode(),
    "null value": Batch(records=[record(0, value=None)]).encode(),
    "null header value": Batch(records=[record(0, headers=varint(1) + varint(1) + b"h" + varint(-1))]).encode(),
    "null header key": Batch(records=[record(0, headers=varint(1) + varint(-1) + varint(-1))]).encode(),
    "header count -1": Batch(records=[record(0, headers=varint(-1))]).encode(),
    "headers missing": Batch(records=[record(0, headers=varint(5))]).encode(),
    "record too long": Batch(records=[varint(500) + bytes(7)]).encode(),
    "record too short": Batch(records=[varint(3) + b"\0\0\0\2k\2v\0"]).encode(),
    "key length -5": Batch(records=[varint(6) + b"\0\0\0" + varint(-5) + b"\2v\0"]).encode(),
    "two hours ahead": Batch(records=[record(0, timestamp=7_200_000)]).encode(),
    "long ago": Batch(records=[record(0, timestamp=-(10**12))]).encode(),
    "too large": Batch(records=[record(0, value=b"x" * 1_100_000)]).encode(),
}


@pytest.mark.parametrize("records", RECORDS.values(), ids=RECORDS.keys())
def test_record_sets(brokers: list[Broker], records: bytes) -> None:
    everywhere(brokers, lambda broker: told(produced(exchange(broker, sized(produce(b"plain", records))))))


# Around what an idle connection has room for, what a body has for nothing, and twice what came before.
VALUE_BYTES = (10, 900, 1_000, 2_000, 4_000, 8_100, 16_100, 16_300, 16_400, 40_000, 70_000, 30_000, 300_000, 100, 33_000,
               66_500, 5, 12_000, 3)


@pytest.mark.parametrize("piece_bytes", (1 << 30, 65_536, 16_389, 1_021))
def test_requests_of_all_sizes(brokers: list[Broker], piece_bytes: int) -> None:
    """Whatever a connection has sent before, and wherever its bytes are parted, each request is taken whole."""
    sent = b"".join(
        sized(produce(b"sizes", Batch(records=[record(0, value=bytes([number]) * size)]).encode()))
        for number, size in enumerate(VALUE_BYTES))

    def play(broker: Broker) -> list[tuple[int, int]]:
        answer = exchange(broker, sent, answers=len(VALUE_BYTES), piece_bytes=piece_bytes)
        outcomes = []
        while answer:
            size = struct.unpack(">i", answer[:4])[0]
            reader = Reader(answer[8 : 4 + size])
            reader.take("i"), reader.string(), reader.take("i")
            _, error, offset = reader.take("ihq")
            outcomes.append((error, offset))
            answer = answer[4 + size :]
        return [(error, offset - outcomes[0][1]) for error, offset in outcomes]

    assert everywhere(brokers, play) == [(0, number) for number in range(len(VALUE_BYTES))]


def test_without_acknowledgement(brokers: list[Broker]) -> None:
    """Silence if all is well; otherwise the connection ends, so that the producer asks anew."""
    assert everywhere(
        brokers, lambda broker: exchange(broker, sized(produce(b"plain", SOUND, acks=0)), answers=0)) == SILENT
    wrong = [produce(b"plain", Batch(crc=1).encode(), acks=0), produce(b"nowhere", SOUND, acks=0)]
    for request in wrong:
        assert everywhere(brokers, lambda broker: exchange(broker, sized(request))) == CLOSED


OTHERS = {
    "acks 5": produce(b"plain", SOUND, acks=5),
    "acks -2": produce(b"plain", SOUND, acks=-2),
    "acks 5, unknown topic": produce(b"nowhere", SOUND, acks=5),
    "unknown topic": produce(b"nowhere", SOUND),
    "illegal topic": produce(b"a b/c", SOUND),
    "no topic": produce(b"", SOUND),
    "long topic": produce(b"x" * 300, SOUND),
    "partition 5": produce(b"plain", SOUND, partition=5),
    "partition -1": produce(b"plain", SOUND, partition=-1),
    "one good, one of a wrong crc": produce(b"plain", SOUND, Batch(crc=1).encode()),
    "one good, one that is no batch": produce(b"plain", SOUND, bytes(61)),
    "zeros to an unknown topic": produce(b"nowhere", bytes(61)),
    "keyless to a compacted topic": produce(b"compacted", Batch(records=[record(0), record(1, key=None), record(2, key=None)]).encode()),
    "five keyless": produce(b"compacted", Batch(records=[record(number, key=None) for number in range(5)]).encode()),
    "stamped by the broker": produce(b"stamped", SOUND),
    "a transactional id alone": produce(b"plain", SOUND, transactional_id=b"tx"),
}


@pytest.mark.parametrize("request_bytes", OTHERS.values(), ids=OTHERS.keys())
def test_produce(brokers: list[Broker], request_bytes: bytes) -> None:
    everywhere(brokers, lambda broker: told(produced(exchange(broker, sized(request_bytes)))))


def squeezed(*records: bytes, count: int | None = None, payload: bytes | None = None) -> bytes:
    """A gzip batch of these records, or of what is said to be one."""
    count = len(records) if count is None else count
    inside = gzip.compress(b"".join(records)) if payload is None else payload
    return Batch(records=[inside], count=count, last_delta=count - 1, attributes=1).encode()


KEYED, KEYLESS = record(0), record(1, key=None)

SQUEEZED = {
    "with keys": squeezed(KEYED, record(1)),
    "one without a key": squeezed(KEYED, KEYLESS),
    "five without keys": squeezed(*(record(number, key=None) for number in range(5))),
    "garbage": squeezed(KEYED, payload=b"this is not compressed at all"),
    "nothing": squeezed(KEYED, payload=b""),
    "cut": squeezed(KEYED, payload=gzip.compress(KEYED * 100)[:-12]),
    "fewer than counted": squeezed(KEYED, count=3),
    "more than counted": squeezed(KEYED, record(1), count=1),
    "bytes behind the records": squeezed(KEYED, payload=gzip.compress(KEYED + b"zz")),
    "a record too long": squeezed(KEYED, payload=gzip.compress(varint(500) + bytes(7))),
    "two members": squeezed(KEYED, record(1), payload=gzip.compress(KEYED) + gzip.compress(record(1))),
    "parted amid a record": squeezed(KEYED, record(1), payload=gzip.compress(KEYED[:4]) + gzip.compress(KEYED[4:] + record(1))),
    "a torn second member": squeezed(KEYED, record(1), payload=gzip.compress(KEYED) + gzip.compress(record(1))[:-12]),
    "zeros behind the member": squeezed(KEYED, payload=gzip.compress(KEYED) + bytes(40)),
    "junk behind the member": squeezed(KEYED, payload=gzip.compress(KEYED) + b"junk that is long enough for a header"),
    "too large as it came": squeezed(KEYED, payload=gzip.compress(KEYED) + bytes(1_100_000)),
}


@pytest.mark.parametrize("records", SQUEEZED.values(), ids=SQUEEZED.keys())
def test_compressed_to_a_compacted_topic(brokers: list[Broker], records: bytes) -> None:
    everywhere(brokers, lambda broker: told(produced(exchange(broker, sized(produce(b"compacted", records))))))


def zstd_frame(content: bytes) -> bytes:
    """One frame of Zstandard with a short content as it is (RFC 8878)."""
    block = len(content) << 3 | 1
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + struct.pack("<I", block)[:3] + content


def zstd(payload: bytes, count: int = 2) -> bytes:
    return Batch([payload], count=count, last_delta=count - 1, attributes=4).encode()


SKIPPED = struct.pack("<II", 0x184D2A53, 5) + b"?????"
FRAMES = zstd_frame(KEYED), zstd_frame(record(1))

ZSTD = {
    "one frame": zstd(zstd_frame(KEYED + record(1))),
    "one frame without a key": zstd(zstd_frame(KEYED + KEYLESS)),
    "two frames": zstd(FRAMES[0] + FRAMES[1]),
    "frames to skip": zstd(SKIPPED + FRAMES[0] + SKIPPED + SKIPPED + FRAMES[1] + SKIPPED),
    "a second frame without a key": zstd(FRAMES[0] + zstd_frame(KEYLESS)),
    "a torn second frame": zstd(FRAMES[0] + FRAMES[1][:-3]),
    "a torn frame to skip": zstd(FRAMES[0] + FRAMES[1] + SKIPPED[:-2]),
    "junk behind the frames": zstd(FRAMES[0] + FRAMES[1] + b"junk"),
    "nothing but frames to skip": zstd(SKIPPED),
    "nothing": zstd(b""),
}


@pytest.mark.parametrize("records", ZSTD.values(), ids=ZSTD.keys())
def test_zstd_to_a_compacted_topic(brokers: list[Broker], records: bytes) -> None:
    everywhere(brokers, lambda broker: told(produced(exchange(broker, sized(produce(b"compacted", records))))))


RECOMPRESSED = {
    "gzip to uncompressed": (b"stored-uncompressed", squeezed(KEYED, record(1, timestamp=5))),
    "plain to uncompressed": (b"stored-uncompressed", Batch(records=[KEYED, KEYLESS]).encode()),
    "plain to gzip": (b"stored-gzip", Batch(records=[KEYED, record(1, timestamp=5)]).encode()),
    "gzip to gzip": (b"stored-gzip", squeezed(KEYED)),
    "plain to snappy": (b"stored-snappy", Batch(records=[KEYED] + [record(n) for n in range(1, 9)]).encode()),
    "garbage to uncompressed": (b"stored-uncompressed", SQUEEZED["garbage"]),
    "too large before it is compressed": (b"stored-gzip", Batch(records=[record(0, value=b"x" * 1_100_000)]).encode()),
    "too large when it is opened": (b"stored-uncompressed", squeezed(record(0, value=b"x" * 1_100_000))),
    "idempotent": (b"stored-gzip", Batch(records=[KEYED], producer=(4001, 0, 0)).encode()),
}


@pytest.mark.parametrize(("topic", "records"), RECOMPRESSED.values(), ids=RECOMPRESSED.keys())
def test_a_topic_with_a_codec_of_its_own(brokers: list[Broker], topic: bytes, records: bytes) -> None:
    """What is answered, and what is stored: the header but for its offset and checksum, and the records."""

    def play(broker: Broker) -> object:
        answer = exchange(broker, sized(produce(topic, records)))
        outcome = told(produced(answer))
        offset = struct.unpack(">q", answer[8 + 4 + 2 + len(topic) + 4 + 4 + 2 :][:8])[0]
        if offset < 0:
            return outcome
        fetched = exchange(broker, sized(fetch(topic=topic, partition=0, offset=offset)))
        batch = fetched[fetched.index(topic) + len(topic) + 4 + 4 + 2 + 8 + 8 + 4 + 4 :]
        header, inside = batch[21:61], batch[61:]
        codec = header[1] & 7
        return outcome, header.hex(), gzip.decompress(inside) if codec == 1 else inside if codec == 0 else codec

    everywhere(brokers, play)


def test_sequences(brokers: list[Broker]) -> None:
    """In order, a gap, the same again, a new epoch that does not begin at 0, one that does, the old epoch."""
    steps = [(0, 7), (0, 9), (0, 7), (0, 8), (1, 3), (1, 0), (0, 9)]

    def play(broker: Broker) -> object:
        return [
            produced(exchange(broker, sized(produce(b"plain", Batch(producer=(4000, epoch, sequence)).encode(), partition=1))))[0]["error"]
            for epoch, sequence in steps
        ]

    assert everywhere(brokers, play) == [0, 45, 0, 0, 45, 0, 47]


def test_zstd_before_version_7(brokers: list[Broker]) -> None:
    request = produce(b"plain", Batch(attributes=4).encode(), version=6)
    answer = everywhere(brokers, lambda broker: exchange(broker, sized(request)))
    assert b"\0\x4c" in answer


# --- Fetch --------------------------------------------------------------------------------------------


def fetch(version: int = 4, topic: bytes | None = b"plain", partition: int = 2, offset: int = 0, isolation: int = 0,
          session: tuple[int, int] | None = None, partition_bytes: int = MILLION, bytes_max: int = MILLION) -> bytes:
    """A Fetch request of v4 or v7."""
    body = pack("iiiib", -1, 100, 1, bytes_max, isolation)
    body += pack("ii", *session) if session else b""
    if topic is None:
        body += pack("i", 0)
    else:
        start = pack("q", -1) if version >= 5 else b""
        body += pack("i", 1) + string(topic) + pack("iiq", 1, partition, offset) + start + pack("i", partition_bytes)
    return header(FETCH, version) + body + (pack("i", 0) if version >= 7 else b"")


FETCHES = {
    "nothing": fetch(topic=None),
    "from an empty partition": fetch(),
    "read committed from an empty partition": fetch(isolation=1),
    "isolation 9": fetch(isolation=9),
    "isolation -1": fetch(isolation=-1),
    "isolation 9, an unknown partition": fetch(isolation=9, partition=9),
    "isolation 9, no partition": fetch(topic=None, isolation=9),
    "isolation 9, v7": fetch(version=7, session=(0, -1), isolation=9),
    "isolation 9, a new session": fetch(version=7, session=(0, 0), isolation=9),
    "isolation 9, an unknown session": fetch(version=7, session=(5, 1), isolation=9),
    "behind the end": fetch(offset=9999),
    "before the beginning": fetch(offset=-1),
    "unknown topic": fetch(topic=b"nowhere"),
    "illegal topic": fetch(topic=b"a b"),
    "unknown partition": fetch(partition=9),
    "partition -1": fetch(partition=-1),
    "an unknown session": fetch(version=7, session=(5, 1)),
    "no session, wrong epoch": fetch(version=7, session=(0, 3)),
    "no session": fetch(version=7, session=(0, -1)),
    "the end of an unknown session": fetch(version=7, session=(5, -1)),
    "unknown id": header(FETCH, 13, True) + pack("iiiibii", -1, 100, 1, 100, 0, 0, -1) + b"\x02" + b"\x11" * 16 + b"\x02"
    + pack("iiqiqi", 0, -1, 0, -1, -1, 100) + b"\0\0\x01\x01\0",
    "no id": header(FETCH, 13, True) + pack("iiiibii", -1, 100, 1, 100, 0, 0, -1) + b"\x02" + bytes(16) + b"\x02"
    + pack("iiqiqi", 0, -1, 0, -1, -1, 100) + b"\0\0\x01\x01\0",
}


for epoch in (0, 5):
    FETCHES[f"leader epoch {epoch}"] = header(FETCH, 9) + pack("iiiibii", -1, 100, 1, 100, 0, 0, -1) + pack("i", 1) \
        + string(b"plain") + pack("iiiqqi", 1, 2, epoch, 0, -1, 100) + pack("i", 0)


@pytest.mark.parametrize("sent", FETCHES.values(), ids=FETCHES.keys())
def test_fetch(brokers: list[Broker], sent: bytes) -> None:
    """Byte for byte; partition 2 holds nothing."""
    everywhere(brokers, lambda broker: exchange(broker, sized(sent)))


def test_a_first_batch_is_answered_with_at_once(brokers: list[Broker]) -> None:
    """Larger than its partition may give, and than what is waited for."""
    records = Batch(records=[record(0, value=b"x" * 9000)]).encode()
    wait_ms = 20_000
    body = pack("iiiib", -1, wait_ms, 5000, MILLION, 0) + pack("i", 1) + string(b"large-first") + pack("iiqi", 1, 0, 0, 100)

    def play(broker: Broker) -> object:
        create_topic(broker, b"large-first", partitions=1)
        outcome = told(produced(exchange(broker, sized(produce(b"large-first", records)))))
        began = time.monotonic()
        answer = exchange(broker, sized(header(FETCH, 4) + body))
        assert time.monotonic() - began < wait_ms / 2000
        return outcome, len(answer)

    everywhere(brokers, play)


def test_a_session_is_opened(brokers: list[Broker]) -> None:
    def play(broker: Broker) -> bytes:
        answer = exchange(broker, sized(fetch(version=7, session=(0, 0))))
        session = struct.unpack(">i", answer[14:18])[0]
        assert session > 0
        again = exchange(broker, sized(fetch(version=7, topic=None, session=(session, 1))))
        # The same epoch once more.
        repeated = exchange(broker, sized(fetch(version=7, topic=None, session=(session, 1))))
        return answer[:14] + answer[18:] + again[:14] + again[18:] + repeated

    everywhere(brokers, play)
