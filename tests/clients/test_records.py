"""Records go in and come back as they were, through every client and codec."""

from __future__ import annotations

import base64
import random
import time

import pytest

from harness.driver import record
from harness.stage import Outcome, Play, Stage

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# An hour ago: what is older than a week, retention may take away.
NOON = (int(time.time()) - 3600) * 1000


def sent(stage: Stage, topic: str, records: list[dict], **options: object) -> list[dict]:
    answer = stage.main.ask("produce", topic=topic, partition=0, records=records, **options)
    assert "error" not in answer, answer
    return answer["results"]


def read(stage: Stage, topic: str, count: int, **start: object) -> list[dict]:
    answer = stage.main.ask("read", topic=topic, partition=0, count=count, **{"from": start})
    assert "error" not in answer, answer
    return answer["records"]


def without_time(records: list[dict]) -> list[dict]:
    return [{name: content for name, content in each.items() if name != "t"} for each in records]


def numbered(count: int, start: int = 0) -> list[dict]:
    return [record(f"value {n} of a run".encode(), f"key {n % 7}".encode(), NOON + n) for n in range(start, start + count)]


def test_fields(play: Play) -> None:
    """Keys, values and headers, null, empty and strange, each where the client can say it."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        records = [record(b"value", b"key", NOON), record(b"no key", None, NOON + 1),
                   record("grüße, κόσμε ✓".encode(), "schlüssel".encode(), NOON + 2)]
        if "no_empty" not in stage.can:
            records += [record(b"", b"", NOON + 3)]
        records += [record(None, b"tombstone", NOON + 4),
                    record(b"headers", b"h", NOON + 5, [("first", b"1"), ("second", b"zwei")])]
        if "no_null_headers" not in stage.can:
            records.append(record(b"null header", b"h", NOON + 6, [("empty", b""), ("null", None)]))
        results = sent(stage, topic, records)
        found = read(stage, topic, len(records))
        expected = [{**each, "o": offset} for offset, each in enumerate(records)]
        if "no_timestamps" in stage.can:
            assert without_time(found) == without_time(expected)
            return results, without_time(found)
        assert found == expected
        return results, found

    play.everywhere(scenario)


@pytest.mark.parametrize("codec", CODECS)
def test_codec(play: Play, codec: str) -> None:
    """Each codec, from the beginning, from the middle of a batch and to the last record."""
    if not play.can(f"codec:{codec}"):
        pytest.skip(f"{play.client.name} has no {codec}")

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        results = sent(stage, topic, numbered(60), codec=codec) + sent(stage, topic, numbered(40, 60), codec=codec)
        whole = without_time(read(stage, topic, 100))
        assert [each["o"] for each in whole] == list(range(100))
        assert [each["v"] for each in whole] == [each["v"] for each in numbered(100)]
        middle = without_time(read(stage, topic, 100 - 37, offset=37))
        assert middle == whole[37:]
        last = without_time(read(stage, topic, 1, offset=99))
        assert last == whole[99:]
        return results, whole, stage.main.ask("watermarks", topic=topic, partition=0)

    play.everywhere(scenario)


@pytest.mark.parametrize("codec", CODECS)
def test_topic_with_a_codec_of_its_own(play: Play, codec: str) -> None:
    """What the broker compressed, every client can read, whatever it came under."""
    if (play.client.name, codec) == ("kafkajs", "zstd"):
        pytest.skip("its zstd reads no frames without a length, which Apache Kafka writes")
    if not play.can(f"codec:{codec}"):
        pytest.skip(f"{play.client.name} has no {codec}")

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), compression_type="uncompressed" if codec == "none" else codec)
        results = []
        for start, came in ((0, "none"), (60, "gzip"), (120, codec)):
            results += sent(stage, topic, numbered(60, start), codec=came)
        found = without_time(read(stage, topic, 180))
        assert [each["v"] for each in found] == [each["v"] for each in numbered(180)]
        return results, found

    play.everywhere(scenario)


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
def test_many_batches(play: Play, idempotent: bool) -> None:
    """Some hundred records in several requests, in order and once each."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        for start in range(0, 600, 100):
            results = sent(stage, topic, numbered(100, start), idempotent=idempotent)
            assert not [each for each in results if "error" in each]
        found = read(stage, topic, 600)
        assert [each["v"] for each in found] == [each["v"] for each in numbered(600)]
        return [each["o"] for each in found]

    play.everywhere(scenario)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_acks(play: Play, acks: str) -> None:
    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        results = sent(stage, topic, numbered(5), acks=acks)
        found = without_time(read(stage, topic, 5))
        assert [each["v"] for each in found] == [each["v"] for each in numbered(5)]
        return results if acks != "0" else [], found

    play.everywhere(scenario)


def test_time(play: Play) -> None:
    """The first record at or after a time, also inside a batch and behind the last; reading from there."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        records = [record(f"{n}".encode(), b"k", NOON + 1000 * n) for n in range(20)]
        for start in (0, 5, 10):
            answer = stage.steward.ask("produce", topic=topic, partition=0,
                                       records=records[start : start + (10 if start == 10 else 5)])
            assert all("o" in each for each in answer["results"]), answer
        times = [NOON - 1, NOON, NOON + 1, NOON + 6500, NOON + 7000, NOON + 12_001, NOON + 19_000, NOON + 19_001]
        offsets = [stage.main.ask("offset_at", topic=topic, partition=0, timestamp=each)["offset"] for each in times]
        assert offsets[:7] == [0, 0, 1, 7, 7, 13, 19]
        found = read(stage, topic, 7, time=NOON + 12_001)
        assert [each["o"] for each in found] == list(range(13, 20))
        return offsets, found

    play.everywhere(scenario)


def test_time_that_falls_back(play: Play) -> None:
    """Timestamps need not rise: the answer is the first record, in order of offsets, that is young enough."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        for minutes in ([5, 1, 9], [2, 3], [20, 4]):
            batch = [record(b"v", b"k", NOON + 60_000 * each) for each in minutes]
            stage.steward.ask("produce", topic=topic, partition=0, records=batch)
        return [stage.main.ask("offset_at", topic=topic, partition=0, timestamp=NOON + 60_000 * each)["offset"]
                for each in (0, 2, 5, 6, 9, 10, 20, 21)]

    assert play.everywhere(scenario)[:5] == [0, 0, 0, 2, 2]


def test_partitions_by_key(play: Play) -> None:
    """Without a partition, the client's own partitioner decides; nothing is lost between partitions."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), partitions=4)
        answer = stage.main.ask("produce", topic=topic, partition=None, records=numbered(40))
        assert not [each for each in answer["results"] if "error" in each], answer
        marks = [stage.main.ask("watermarks", topic=topic, partition=number) for number in range(4)]
        assert sum(each["high"] for each in marks) == 40
        return marks

    play.everywhere(scenario)


def test_large_record(play: Play) -> None:
    """900 kB that do not compress, which is just allowed, read with the default limits of a consumer."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        letters = random.Random(7).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=900_000)
        large = record(bytes(letters), b"large", NOON)
        results = sent(stage, topic, [large]) + sent(stage, topic, numbered(1))
        found = read(stage, topic, 2)
        assert found[0]["v"] == large["v"]
        return results, [each["o"] for each in found]

    play.everywhere(scenario)


def test_too_large_record(play: Play) -> None:
    """2 MB is refused with the client's name for MESSAGE_TOO_LARGE, and the next record goes through."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic())
        refused = sent(stage, topic, [record(b"x" * 2_000_000, b"large", NOON)])
        assert "error" in refused[0], refused
        results = sent(stage, topic, numbered(1))
        assert "error" not in results[0]
        found = read(stage, topic, 1)
        assert base64.b64decode(found[0]["v"]) == b"value 0 of a run"
        return refused, results, [each["o"] for each in found]

    play.everywhere(scenario)
