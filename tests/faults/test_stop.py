"""How the broker ends, whoever tells it to, and whatever is in its way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import Flumen
from harness.device import Device, why_not
from harness.waiting import wait_until

DEVICE_BYTES = 256 << 20
GIVEN_UP_S = 20.0


class Wrapped(Flumen):
    """Run by another command."""

    wrapping: list[str] = []

    def wrapper(self) -> list[str]:
        return self.wrapping


@pytest.fixture
def flumen(tmp_path: Path) -> Iterator[Wrapped]:
    broker = Wrapped(tmp_path / "node")
    yield broker
    broker.close()


def stopped_cleanly(broker: Flumen) -> bool:
    return (broker.data / ".kafka_cleanshutdown").exists() and not (broker.data / "flumen-journal").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_stops_it_cleanly(flumen: Wrapped, name: str) -> None:
    flumen.start()
    os.kill(flumen.pid, getattr(signal, name))
    assert flumen.process and flumen.process.wait(GIVEN_UP_S) == 0
    assert stopped_cleanly(flumen) and f'signal="{name}"' in flumen.log()


def test_who_is_not_to_hear_of_the_terminals_end_does_not(flumen: Wrapped) -> None:
    flumen.wrapping = ["nohup"]
    flumen.start()
    os.kill(flumen.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        flumen.process.wait(1)
    assert flumen.answers_or_died()
    flumen.stop()


def test_a_start_that_comes_to_nothing_leaves_a_clean_directory_clean(flumen: Wrapped) -> None:
    flumen.start()
    flumen.stop()
    before = sorted(path.name for path in flumen.data.iterdir())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flumen.port = taken.getsockname()[1]
        flumen.launch()
        assert flumen.process and flumen.process.wait(GIVEN_UP_S) == 1
    assert "the port is in use" in flumen.log()
    assert stopped_cleanly(flumen)
    assert sorted(path.name for path in flumen.data.iterdir()) == before


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a device")
@pytest.mark.parametrize("signals", [1, 2])
def test_a_full_disk_does_not_keep_it(tmp_path: Path, signals: int) -> None:
    device = Device.make(tmp_path, "full", DEVICE_BYTES)
    broker = Flumen(tmp_path / "node", {"log.dirs": str(device.mount_point / "data")})
    try:
        broker.start()
        fill(device.mount_point / "filler")
        assert broker.process
        for number in range(signals):
            broker.process.terminate()
            wait_until("it to hear of it", lambda: "stopping" in broker.log() or not broker.is_alive())
        assert broker.process.wait(GIVEN_UP_S) == 1
        said = broker.log().splitlines()[-1]
        why = "the disk is full" if signals == 1 else "SIGTERM came a second time"
        assert said.startswith("flumen: did not stop cleanly") and why in said, said
        (device.mount_point / "filler").unlink()
        broker.start()
        broker.stop()
    finally:
        broker.close()
        device.close()


def fill(path: Path) -> None:
    """Takes all the room that there is."""
    with path.open("wb", buffering=0) as file:
        for piece in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError:
                os.fsync(file.fileno())
