"""kill -9 under load: nothing acknowledged is lost, nothing doubled, no committed offset moves back."""

from __future__ import annotations

import os
from pathlib import Path

from harness.broker import Broker
from harness.kills import kill_under_load

KILLS = 12
SEED = int(os.environ.get("FLUMEN_SEED", "20261122"))


def test_kill_under_load(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    assert kill_under_load(broker, tmp_path / "load", KILLS, SEED, print) > 0
