"""Brokers on one data directory, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.broker import Broker
from harness.stage import Drivers


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "node"


@pytest.fixture
def run(home: Path) -> Iterator[Callable[..., Broker]]:
    """Starts a broker of a kind on the same directory; all end with the test."""
    started: list[Broker] = []

    def start(kind: type[Broker], overrides: dict[str, str] | None = None) -> Broker:
        broker = kind(home, overrides)
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        broker.close()


@pytest.fixture
def own_drivers(tmp_path: Path) -> Iterator[Drivers]:
    """Clients of this test alone, because its broker is."""
    running = Drivers(tmp_path)
    yield running
    running.close()


