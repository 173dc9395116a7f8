"""Power cuts and full disks, on a file system of the test's own."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from faults.test_kills import SEED
from harness.broker import Flumen
from harness.device import MAKE, Device, VolatileDevice, why_not, why_not_volatile
from harness.ledger import Log
from harness.power import Copied, Forgotten, power_cuts
from harness.volatile import parts_of
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

needs_volatile = pytest.mark.skipif(bool(why_not_volatile()), reason=why_not_volatile())

SMALL_BYTES = 160 << 20
# A seed with which a cut keeps no sector that was not flushed.
NOTHING_SURVIVES = 2


def test_power_cut(tmp_path: Path) -> None:
    """The image of the device right after acknowledgements: everything acknowledged is on it."""
    assert power_cuts(tmp_path, 1, SEED, Copied(), print) > 0


@pytest.mark.parametrize("file_system", MAKE)
def test_power_cut_of_a_write_cache(tmp_path: Path, file_system: str) -> None:
    """The device forgets what was not flushed, or some sectors of it, under load and at the start after."""
    if why := why_not_volatile(file_system):
        pytest.skip(why)
    assert power_cuts(tmp_path, 2, SEED, Forgotten(), print, file_system) > 0


def test_what_a_cut_tears() -> None:
    """Sectors by themselves, but neither a write of one block nor the block of the file system's superblock."""
    assert parts_of(8192, 4096) == [(0, 4096)] and parts_of(1024, 1024) == [(0, 1024)]
    assert parts_of(8192, 8192) == [(at, at + 512) for at in range(0, 8192, 512)]
    assert parts_of(0, 8192) == [(0, 4096)] + [(at, at + 512) for at in range(4096, 8192, 512)]
    assert parts_of(1024, 4096) == [(0, 3072), (3072, 3584), (3584, 4096)]


@needs_volatile
def test_the_device_forgets(tmp_path: Path) -> None:
    """What the test before stands on: unflushed writes are lost, flushed ones are not, and a lie loses those too."""
    block = b"written" + bytes(4089)
    for lies in (False, True):
        device = VolatileDevice.make(tmp_path, f"lies-{lies}", 64 << 20)
        try:
            files = {name: os.open(device.mount_point / name, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
                     for name in ("flushed", "unflushed")}
            aligned = mmap.mmap(-1, len(block))
            aligned[:] = bytes(len(block))
            for file in files.values():
                os.pwrite(file, aligned, 0)
                os.fsync(file)
            if lies:
                device.tell("lie")
            aligned[:] = block
            os.pwrite(files["flushed"], aligned, 0)
            os.fdatasync(files["flushed"])
            os.pwrite(files["unflushed"], aligned, 0)
            counts = device.cut(NOTHING_SURVIVES)
            assert counts["lost_parts"] == counts["unflushed_parts"] > 0, counts
            for file in files.values():
                os.close(file)
            device.unmount()
            device.mount()
            assert (device.mount_point / "flushed").read_bytes() == (bytes(4096) if lies else block)
            assert (device.mount_point / "unflushed").read_bytes() == bytes(4096)
        finally:
            device.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Device]:
    device = Device.make(tmp_path, "small", SMALL_BYTES)
    yield device
    device.close()


def test_full_disk(small: Device, tmp_path: Path) -> None:
    """No room: producers are told, nothing acknowledged is lost, and with room again all goes on."""
    ballast = small.mount_point / "ballast"
    ballast.write_bytes(bytes(32 << 20))
    settings = {"log.dirs": str(small.mount_point / "data"), "flumen.journal.bytes": str(8 << 20), "flumen.cores": "2",
                "flumen.cache.bytes": str(64 << 20)}
    broker = Flumen(tmp_path / "node", settings)
    broker.start()
    acknowledged: list[int] = []
    refused: list[str] = []

    def reported(error: KafkaError | None, message: Message) -> None:
        if error:
            refused.append(error.name())
        else:
            acknowledged.append(int(message.value()[:12]))

    try:
        common = {"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2}
        admin = AdminClient(common)
        admin.create_topics([NewTopic("full", 1, 1)])["full"].result(30)
        producer = Producer(common | {"message.timeout.ms": 8000, "acks": "all", "linger.ms": 5,
                                      "queue.buffering.max.kbytes": 16_384})
        number = 0
        while not refused and number * 8192 < 2 * SMALL_BYTES:
            if len(producer) < 1000:
                producer.produce("full", b"%012d" % number + bytes(8180), on_delivery=reported)
                number += 1
            producer.poll(0 if len(producer) < 1000 else 0.01)
        producer.purge()
        producer.flush(20)
        assert refused, f"{number} records went onto a disk that is too small for them"
        assert "panicked" not in broker.log(), broker.log()[-3000:]
        print(f"{len(acknowledged)} acknowledged, then {refused[0]}")

        if broker.is_alive():
            broker.kill()
        said = [line for line in broker.log().splitlines() if " ERROR " in line or "full" in line or "space" in line]
        assert said, f"it did not say what is wrong: {broker.log()[-3000:]}"
        ballast.unlink()
        broker.start()
        consumed = Log.read(broker.bootstrap, "full", 1).partitions[0]
        there = {int(identity[:12]) for _, identity in consumed}
        assert not set(acknowledged) - there, f"{len(set(acknowledged) - there)} acknowledged records are lost"
        acknowledged.clear()
        again = Producer(common | {"message.timeout.ms": 20_000})
        again.produce("full", b"%012d" % number, on_delivery=reported)
        wait_until("a record to go through again", lambda: again.poll(0.05) and acknowledged)
    finally:
        broker.close()
