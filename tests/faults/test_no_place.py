"""Topics that the disk has no place for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.broker import Flumen
from wire.scene import produce_errors, try_to_create

KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION = 56, 3


@pytest.fixture
def flumen(tmp_path: Path):
    broker = Flumen(tmp_path / "node")
    yield broker
    broker.close()


def test_a_folder_that_cannot_be_made(flumen: Flumen) -> None:
    """Apache Kafka says yes here, and then halts: the log directory counts as failed. Flumen says no, keeps
    nothing of the topic, and serves on."""
    flumen.start()
    in_the_way = flumen.data / "wanted-1"
    in_the_way.write_text("in the way")
    error, message = try_to_create(flumen, b"wanted")
    assert error == KAFKA_STORAGE_ERROR and "wanted-1" in message, (error, message)
    assert produce_errors(flumen, b"wanted") == [UNKNOWN_TOPIC_OR_PARTITION] * 3
    assert try_to_create(flumen, b"other") == (0, None)
    assert produce_errors(flumen, b"other") == [0] * 3
    for _ in range(2):
        live = [path.name for path in flumen.data.glob("wanted-?")]
        assert live == ["wanted-1"], live
        assert in_the_way.read_text() == "in the way"
        flumen.stop()
        flumen.start()
        assert produce_errors(flumen, b"wanted") == [UNKNOWN_TOPIC_OR_PARTITION] * 3
    in_the_way.unlink()
    assert try_to_create(flumen, b"wanted") == (0, None)
    assert produce_errors(flumen, b"wanted") == [0] * 3
