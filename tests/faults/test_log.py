"""A log that cannot be written, or that nobody reads, is nobody else's trouble."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import Flumen
from wire.scene import produce_errors, try_to_create

# Something that is warned of at the start.
WARNED_OF = {"default.replication.factor": "3"}


class Redirected(Flumen):
    """Its log goes elsewhere."""

    elsewhere = ""

    def wrapper(self) -> list[str]:
        return ["sh", "-c", f'exec "$@" 2>{self.elsewhere}', "sh"]


@pytest.fixture
def flumen(tmp_path: Path) -> Iterator[Redirected]:
    broker = Redirected(tmp_path / "node", dict(WARNED_OF))
    yield broker
    broker.close()


def serves(broker: Flumen, topic: bytes) -> None:
    assert try_to_create(broker, topic) == (0, None)
    assert produce_errors(broker, topic) == [0] * 3


def test_a_full_disk(flumen: Redirected) -> None:
    flumen.elsewhere = "/dev/full"
    flumen.start()
    serves(flumen, b"one")
    flumen.stop()
    flumen.start()
    serves(flumen, b"two")
    flumen.stop()


def test_a_pipe_that_nobody_reads(flumen: Redirected, tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    kept_open = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.fcntl(kept_open, fcntl.F_SETPIPE_SZ, 4096)
        os.write(kept_open, b"x" * 4096)
        flumen.elsewhere = str(pipe)
        flumen.start()
        serves(flumen, b"one")
        flumen.stop()
    finally:
        os.close(kept_open)
