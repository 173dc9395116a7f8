"""kill -9 of the broker under load, over and over."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from .broker import Broker
from .load import Load

def kill_under_load(broker: Broker, folder: Path, kills: int, seed: int,
                    say: Callable[[str], None] = lambda text: None) -> int:
    """Committed offsets are checked after every kill, the whole log in the end. Returns how many records it holds.
    The seed chooses when to kill whom."""
    choice = random.Random(seed)
    load = Load(broker, folder)
    try:
        load.create_topic()
        for _ in range(3):
            load.add_producer()
        for _ in range(2):
            load.add_member()
        for kill in range(1, kills + 1):
            load.progress(choice.choice((1, 20, 300, 3000)))
            if choice.random() < 0.3:
                load.kill_member()
                load.add_member()
            broker.kill()
            broker.start()
            load.check(whole=False)
            say(f"kill {kill} of {kills}: answered again after {broker.started_s * 1000:.0f} ms")
        load.progress(100)
        load.finish()
        return load.check()
    finally:
        load.close()
