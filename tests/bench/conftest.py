"""A broker for the load, and the program that makes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import Broker, Flumen
from harness.paths import ROOT


@pytest.fixture(scope="session")
def bench() -> Path:
    binary = Path(os.environ.get("FLUMEN_BENCH_BINARY", ROOT / "target" / "release" / "flumen-bench"))
    assert binary.exists(), f"{binary} is not built: cargo build --release -p flumen-bench"
    return binary


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Flumen(tmp_path / "broker")
    broker.start()
    yield broker
    broker.close()
