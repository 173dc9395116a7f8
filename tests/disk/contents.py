"""Something of everything in a data directory, and what must be found there again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from harness.broker import Broker
from harness.driver import CLIENTS, record
from harness.stage import Drivers, Stage

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CONFLUENT = next(client for client in CLIENTS if client.name == "confluent-kafka")


@dataclass
class Contents:
    """Topics with their records, as this process wrote them."""

    # (topic, partition) -> records in order
    records: dict[tuple[str, int], list[dict]] = field(default_factory=dict)
    # (group, topic, partition) -> committed offset
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def write(self, broker: Broker, drivers: Drivers, part: int) -> None:
        """Adds a part: every codec, idempotent and not, small segments that roll, a group that commits."""
        stage = Stage(broker, CONFLUENT, drivers, f"disk-{part}")
        if part == 0:
            stage.create("disk-codecs", 2)
            stage.create("disk-rolls", 2, segment_bytes="1048576", index_interval_bytes="4096")
        driver = stage.main
        now = int(time.time() * 1000)
        letters = random.Random(part)
        for place, codec in enumerate(CODECS):
            for number in range(2):
                batch = [record(f"{part} {codec} {n} ".encode() * 5, f"k{n}".encode(), now + n, [("part", b"%d" % part)])
                         for n in range(20)]
                self.sent(driver, "disk-codecs", number, batch, codec=codec, idempotent=place % 2 == 0)
        for number in range(2):
            for burst in range(16):
                batch = [record(letters.randbytes(7000), None, now + 1000 * burst + n) for n in range(30)]
                self.sent(driver, "disk-rolls", number, batch, idempotent=True)
        self.commit(stage, f"disk-group-{part}")

    def sent(self, driver, topic: str, partition: int, batch: list[dict], **options: object) -> None:
        answer = driver.ask("produce", topic=topic, partition=partition, records=batch, **options)
        known = self.records.setdefault((topic, partition), [])
        assert [each.get("o") for each in answer["results"]] == list(range(len(known), len(known) + len(batch))), answer
        known += batch

    def commit(self, stage: Stage, group: str) -> None:
        member = stage.member(group, ["disk-codecs"])
        wanted = sum(len(records) for (topic, _), records in self.records.items() if topic == "disk-codecs")
        count = 0
        while count < wanted:
            answer = member.ask("poll", for_ms=500, count=wanted - count)
            assert "error" not in answer, answer
            count += len(answer["records"])
        assert "error" not in member.ask("commit")
        member.ask("leave")
        stage.close()
        for number in range(2):
            self.committed[group, "disk-codecs", number] = len(self.records["disk-codecs", number])

    def check(self, broker: Broker, drivers: Drivers) -> None:
        """Everything that was written is there, record by record, and each time finds its offset."""
        stage = Stage(broker, CONFLUENT, drivers, "disk")
        for (topic, partition), wanted in self.records.items():
            answer = stage.main.ask("read", topic=topic, partition=partition, count=len(wanted), **{"from": {}})
            assert "error" not in answer, f"{topic}-{partition} on {broker.name}: {answer}"
            found = answer["records"]
            offsets = [each["o"] for each in found]
            assert offsets == list(range(len(wanted))), (
                f"{topic}-{partition} on {broker.name}: {len(wanted)} records wanted, found {offsets[:5]}…{offsets[-5:]}")
            assert [dict(each, o=None) for each in found] == [dict(each, o=None) for each in wanted]
            marks = stage.main.ask("watermarks", topic=topic, partition=partition)
            assert marks == {"low": 0, "high": len(wanted)}
            middle = wanted[len(wanted) // 2]
            first = next(n for n, each in enumerate(wanted) if each["t"] >= middle["t"])
            assert stage.main.ask("offset_at", topic=topic, partition=partition, timestamp=middle["t"]) == {"offset": first}
        for (group, topic, partition), offset in self.committed.items():
            answer = stage.main.ask("committed", group=group, topic=topic, partitions=[partition])
            assert answer == {"offsets": [offset]}, f"{group} {topic}-{partition} on {broker.name}"
