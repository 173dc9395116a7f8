"""A device that answers EIO under the running broker: what is told to clients, what is lost (nothing), what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Flumen
from harness.device import VolatileDevice, why_not_volatile
from harness.ledger import Log
from harness.load import Load
from harness.waiting import wait_until
from wire.protocol import FETCH, Batch, Reader, exchange, header, pack, produce, produced, record, sized, string

pytestmark = pytest.mark.skipif(bool(why_not_volatile()), reason=why_not_volatile())

DEVICE_BYTES = 512 << 20
STORAGE_ERROR = 56
OFFLINE_EXIT_CODE = 1


@pytest.fixture
def device(tmp_path: Path) -> Iterator[VolatileDevice]:
    device = VolatileDevice.make(tmp_path, "failing", DEVICE_BYTES)
    yield device
    device.close()


@pytest.fixture
def broker(device: VolatileDevice, tmp_path: Path) -> Iterator[Flumen]:
    broker = Flumen(tmp_path / "node", {
        "log.dirs": str(device.mount_point / "data"), "flumen.journal.bytes": str(8 << 20), "flumen.cores": "2",
        "flumen.cache.bytes": str(16 << 20)})
    broker.start()
    yield broker
    broker.close()


def complaints(broker: Flumen) -> str:
    return "\n".join(line for line in broker.log().splitlines() if " ERROR " in line)


def await_complaint(broker: Flumen, of: str) -> None:
    """A thread of its own writes the log: an answer may be here before the line that explains it."""
    wait_until(f"a complaint of {of}", lambda: of in complaints(broker))


def create(broker: Flumen, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result(30)


def append(broker: Flumen, topic: str, value: bytes) -> int:
    """The error code of one record's Produce."""
    records = Batch(records=[record(0, value=value)]).encode()
    answer = produced(exchange(broker, sized(produce(topic.encode(), records, acks=-1))))
    assert isinstance(answer, list), answer
    return answer[0]["error"]


def fetch(broker: Flumen, topic: str, offset: int = 0) -> tuple[int, int]:
    """The error code of one partition's Fetch v4, and how many bytes of records came."""
    body = pack("iiiibi", -1, 0, 0, 1 << 20, 0, 1) + string(topic.encode()) + pack("iiqi", 1, 0, offset, 1 << 20)
    answer = exchange(broker, sized(header(FETCH, 4) + body))
    assert isinstance(answer, bytes), answer
    reader = Reader(answer[8:])
    _, topics = reader.take("ii")
    assert topics == 1
    reader.string()
    _, _, error, _, _, aborted = reader.take("iihqqi")
    assert aborted <= 0
    return error, reader.take("i")


def write_all(broker: Flumen, topic: str, count: int) -> set[str]:
    """The identities of records that were acknowledged, of a kilobyte each."""
    acknowledged: set[str] = set()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
    for number in range(count):
        identity = f"w:{number}"
        producer.produce(topic, f"{identity}|".encode() + bytes(1000),
                         on_delivery=lambda error, message: error or acknowledged.add(identity_of(message)))
    producer.flush(30)
    assert len(acknowledged) == count
    return acknowledged


def identity_of(message) -> str:
    return message.value().split(b"|", 1)[0].decode()


def identities(broker: Flumen, topic: str) -> set[str]:
    return {identity for _, identity in Log.read(broker.bootstrap, topic, 1).partitions[0]}


def power_back(device: VolatileDevice) -> None:
    """The device is well again, and mounted anew: the file system may have shut itself down."""
    device.mend()
    device.unmount()
    device.mount()


def refusal(broker: Flumen) -> str:
    """What it says when it does not start."""
    broker.launch()
    assert broker.process
    assert broker.process.wait(30) > 0
    said = broker.log().splitlines()[-1]
    assert "panicked" not in broker.log() and "Input/output error" in said and "start again" in said, said
    return said


@pytest.mark.parametrize("what", ["flushes", "writes", "flushes,writes,reads"])
def test_everything_fails(what: str, device: VolatileDevice, broker: Flumen, tmp_path: Path) -> None:
    """The broker says what is wrong and ends; started again on the mended device, it has every acknowledged record,
    and the producers that waited go on."""
    load = Load(broker, tmp_path / "load")
    try:
        load.create_topic()
        load.add_producer()
        load.add_producer()
        load.add_member()
        load.progress(500)
        device.fail(*what.split(","))
        wait_until("the broker to give up", lambda: not broker.is_alive())
        assert broker.process and broker.process.returncode == OFFLINE_EXIT_CODE, broker.log()
        said = complaints(broker)
        assert "log directory" in said and "start again" in said and str(broker.overrides["log.dirs"]) in said, said
        assert "panicked" not in broker.log()
        power_back(device)
        broker.start()
        load.progress(500)
        load.finish()
        assert load.check() > 0
    finally:
        load.close()


def test_bad_sectors_under_one_segment(device: VolatileDevice, broker: Flumen) -> None:
    """Where one partition's segment cannot be written, that partition is offline; the others go on, and what was
    acknowledged there is in the journal for the day when the disk is well."""
    create(broker, "bad", "good")
    # The first block of records, so that the segment has a place on the device.
    assert append(broker, "bad", b"w:first|") == append(broker, "good", b"w:first|") == 0
    segment = device.mount_point / "data" / "bad-0" / f"{0:020}.log"
    wait_until("the segment to have its place", lambda: segment.exists() and segment.stat().st_blocks > 0)
    device.fail("writes", within=segment)
    acknowledged = {"w:first"}
    numbers = iter(range(100_000))

    def fails() -> bool:
        identity = f"w:{next(numbers)}"
        error = append(broker, "bad", f"{identity}|".encode() + bytes(1000))
        if not error:
            acknowledged.add(identity)
        return error == STORAGE_ERROR

    wait_until("the partition to go offline", fails)
    await_complaint(broker, "bad-0")
    assert fetch(broker, "bad")[0] == STORAGE_ERROR
    expected = {"w:first"} | write_all(broker, "good", 2000)
    assert identities(broker, "good") == expected
    assert broker.is_alive()

    # A start on the device that is still broken would have to give up what the journal holds: it is refused.
    broker.kill()
    assert "bad-0" in refusal(broker)
    device.mend()
    broker.start()
    assert acknowledged <= identities(broker, "bad")
    assert identities(broker, "good") == expected
    assert append(broker, "bad", b"w:last|") == 0


def test_bad_sectors_under_a_reader(device: VolatileDevice, broker: Flumen) -> None:
    """A cold read that fails is told to who asked for it; others read on, and so does it once the device is mended."""
    create(broker, "bad", "good")
    expected = {topic: write_all(broker, topic, 3000) for topic in ("bad", "good")}
    broker.stop()
    segment = device.mount_point / "data" / "bad-0" / f"{0:020}.log"
    device.unmount()
    device.mount()
    broker.start()
    device.fail("reads", within=segment)
    error, _ = fetch(broker, "bad")
    assert error == STORAGE_ERROR
    await_complaint(broker, "bad-0")
    assert identities(broker, "good") == expected["good"]
    assert append(broker, "good", b"w:more|") == 0
    device.mend()
    assert fetch(broker, "bad")[0] == 0
    assert identities(broker, "bad") == expected["bad"]


def test_a_journal_that_cannot_be_read(device: VolatileDevice, broker: Flumen) -> None:
    """A start that would lose what the journal holds is refused, and says where it stopped."""
    create(broker, "kept")
    assert append(broker, "kept", b"w:kept|") == 0
    broker.kill()
    journal = next((device.mount_point / "data" / "flumen-journal").iterdir())
    device.unmount()
    device.mount()
    device.fail("reads", within=journal)
    assert "flumen-journal" in refusal(broker)
    device.mend()
    broker.start()
    assert identities(broker, "kept") == {"w:kept"}
