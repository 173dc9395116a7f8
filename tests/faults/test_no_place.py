"""Topics that the disk has no place for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.broker import Flumen
from wire.protocol import CREATE_TOPICS, Batch, Reader, exchange, header, pack, produce, produced, sized, string

KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION = 56, 3


@pytest.fixture
def flumen(tmp_path: Path):
    broker = Flumen(tmp_path / "node")
    yield broker
    broker.close()


def create(broker: Flumen, name: bytes) -> tuple[int, str | None]:
    body = pack("i", 1) + string(name) + pack("ihi", 3, 1, 0) + pack("iib", 0, 30_000, 0)
    reader = Reader(exchange(broker, sized(header(CREATE_TOPICS, 2) + body))[16:])
    assert reader.string() == name.decode()
    return reader.take("h"), reader.string()


def errors(broker: Flumen, name: bytes) -> list[int]:
    answer = produced(exchange(broker, sized(produce(name, *[Batch().encode()] * 3))))
    return [partition["error"] for partition in answer]


def test_a_folder_that_cannot_be_made(flumen: Flumen) -> None:
    """Apache Kafka says yes here, and then halts: the log directory counts as failed. Flumen says no, keeps
    nothing of the topic, and serves on."""
    flumen.start()
    in_the_way = flumen.data / "wanted-1"
    in_the_way.write_text("in the way")
    error, message = create(flumen, b"wanted")
    assert error == KAFKA_STORAGE_ERROR and "wanted-1" in message, (error, message)
    assert errors(flumen, b"wanted") == [UNKNOWN_TOPIC_OR_PARTITION] * 3
    assert create(flumen, b"other") == (0, None)
    assert errors(flumen, b"other") == [0] * 3
    for _ in range(2):
        live = [path.name for path in flumen.data.glob("wanted-?")]
        assert live == ["wanted-1"], live
        assert in_the_way.read_text() == "in the way"
        flumen.stop()
        flumen.start()
        assert errors(flumen, b"wanted") == [UNKNOWN_TOPIC_OR_PARTITION] * 3
    in_the_way.unlink()
    assert create(flumen, b"wanted") == (0, None)
    assert errors(flumen, b"wanted") == [0] * 3
