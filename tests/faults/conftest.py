"""One broker of a test's own, that it may kill, stop and start again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import ApacheKafka, Broker, Flumen


@pytest.fixture
def broker(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Broker]:
    """Flumen; `--brokers apache-kafka` turns the question to Apache Kafka."""
    kind = ApacheKafka if pytestconfig.getoption("--brokers") == "apache-kafka" else Flumen
    broker = kind(tmp_path / "broker")
    yield broker
    broker.close()
