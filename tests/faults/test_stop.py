"""How the broker ends, whoever tells it to, and whatever is in its way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.broker import Flumen
from harness.device import Device, why_not
from harness.waiting import wait_until
from wire.protocol import Batch, produce, produced, sized
from wire.scene import create_topic

DEVICE_BYTES = 256 << 20
GIVEN_UP_S = 20.0
PRODUCERS = 12
# As many of a producer's batches as are known to a partition, and as a client has under way.
UNDER_WAY = 5


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
    # Also where this suite itself is not to hear of the terminal's end.
    flumen.wrapping = ["env", "--default-signal=HUP"]
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


class Producer:
    """One that numbers its batches, on a partition of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = self.acknowledged = 0

    def connect(self, broker: Flumen) -> None:
        self.connection = socket.create_connection(("127.0.0.1", broker.port), timeout=GIVEN_UP_S)
        self.answers = self.connection.makefile("rb")

    def send(self, sequence: int) -> None:
        batch = Batch(producer=(7000 + self.number, 0, sequence)).encode()
        self.connection.sendall(sized(produce(b"again", batch, partition=self.number)))

    def error(self) -> int | None:
        """What is answered next; None when the connection is over."""
        size = self.answers.read(4)
        return produced(size + self.answers.read(int.from_bytes(size)))[0]["error"] if len(size) == 4 else None

    def run(self) -> None:
        """Keeps as many batches as a client under way, until the connection is over."""
        try:
            while True:
                while self.sent < self.acknowledged + UNDER_WAY:
                    self.send(self.sent)
                    self.sent += 1
                error = self.error()
                if error is None:
                    return
                assert error == 0
                self.acknowledged += 1
        except ConnectionError:
            return

    def again(self, broker: Flumen) -> list[int | None]:
        """Sends again what was not acknowledged."""
        self.connect(broker)
        for sequence in range(self.acknowledged, self.sent):
            self.send(sequence)
        return [self.error() for _ in range(self.acknowledged, self.sent)]


def test_a_producer_goes_on_where_it_was(flumen: Wrapped) -> None:
    """Of what it sends again, the partitions know the last batch alone: all before it were answered."""
    flumen.start()
    create_topic(flumen, b"again", PRODUCERS)
    producers = [Producer(number) for number in range(PRODUCERS)]
    with ThreadPoolExecutor(PRODUCERS) as pool:
        for producer in producers:
            producer.connect(flumen)
        running = [pool.submit(producer.run) for producer in producers]
        wait_until("all to be under way", lambda: all(producer.acknowledged > 10 for producer in producers))
        flumen.stop()
        for run in running:
            run.result()
    flumen.start()
    assert [set(producer.again(flumen)) for producer in producers] == [{0}] * PRODUCERS
