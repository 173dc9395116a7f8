"""A block device with a volatile write cache, whose power can be cut, and which can be told to fail.

    volatile.py IMAGE MOUNT_POINT

Serves IMAGE as the one file of a FUSE file system, for a loop device to lie on. What was written counts as being on
the medium only once a flush that came later was answered; IMAGE is the medium. Obeys lines on its standard input, and
answers each with one line of JSON:

    cut SEED [WRITES]
                  the power goes, now or in the middle of the write that comes after so many more: of what no flush
                  covered then, sectors survive by chance, and all that comes later fails
    break WHAT [FROM TO]
                  from now on these fail with EIO: "writes", "flushes", "reads", or several with commas; reads and
                  writes only where they touch bytes FROM to TO, if said
    mend          nothing fails any longer
    lie           flushes are answered and not obeyed, as by a device that must not be trusted
    count         how much was written and flushed so far
"""

from __future__ import annotations

import errno
import json
import os
import random
import select
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.fuse import FILE_NAME, Server, mount  # noqa: E402

SECTOR_BYTES = 512
# A write of one block is not torn, nor is the device's first block in a larger one: ext4 stands on that where it writes
# its superblock, and the block layer may join that write with its neighbours'.
BLOCK_BYTES = 4096
# A real device's cache is no larger; when it is full, the device writes it back by itself.
CACHE_BYTES_MAX = 256 << 20
# How much of what no flush covered survives a cut: nothing, a little, half, nearly all.
SURVIVAL = (0.0, 0.05, 0.5, 0.95)


@dataclass
class Counts:
    """What came so far."""

    writes: int = 0
    written_bytes: int = 0
    flushes: int = 0
    # Reads, writes and flushes that were told to fail.
    failed: int = 0
    # Set by a cut.
    is_off: bool = False
    unflushed_writes: int = 0
    unflushed_parts: int = 0
    lost_parts: int = 0
    torn_writes: int = 0


@dataclass
class Device:
    """What was written, on the medium and above it. Invariant: `newest` is the medium with `cached` applied."""

    medium: int
    newest: int
    size: int
    # In the order of writing; none of them is covered by a flush.
    cached: list[tuple[int, bytes]] = field(default_factory=list)
    cached_bytes: int = 0
    broken: frozenset[str] = frozenset()
    broken_places: tuple[tuple[int, int], ...] = ()
    lies: bool = False
    # Writes until the power goes, and the seed of what survives.
    cut_after: tuple[int, int] | None = None
    counts: Counts = field(default_factory=Counts)

    def fail_if(self, kind: str, position: int = 0, length: int = 1) -> None:
        is_there = kind == "flushes" or any(
            position < end and position + length > first for first, end in self.broken_places)
        if self.counts.is_off or (kind in self.broken and is_there):
            self.counts.failed += 1
            raise OSError(errno.EIO, f"{kind} fail")

    def read(self, position: int, length: int) -> bytes:
        self.fail_if("reads", position, length)
        return os.pread(self.newest, length, position)

    def write(self, position: int, data: bytes) -> None:
        self.fail_if("writes", position, len(data))
        os.pwrite(self.newest, data, position)
        self.cached.append((position, data))
        self.cached_bytes += len(data)
        self.counts.writes += 1
        self.counts.written_bytes += len(data)
        if self.cut_after:
            left, seed = self.cut_after
            self.cut_after = (left - 1, seed)
            if left == 0:
                self.cut(seed)
                self.fail_if("writes")
        if self.cached_bytes > CACHE_BYTES_MAX and not self.lies:
            self.write_back()

    def flush(self) -> None:
        self.fail_if("flushes")
        self.counts.flushes += 1
        if not self.lies:
            self.write_back()

    def write_back(self) -> None:
        for position, data in self.cached:
            os.pwrite(self.medium, data, position)
        self.cached.clear()
        self.cached_bytes = 0

    def cut(self, seed: int) -> None:
        """Each part of a write survives or not by itself, so that it may be torn and any order may show."""
        choice = random.Random(seed)
        survival = choice.choice(SURVIVAL)
        self.counts.unflushed_writes = len(self.cached)
        for position, data in self.cached:
            parts = parts_of(position, len(data))
            kept = [(start, end) for start, end in parts if choice.random() < survival]
            for start, end in kept:
                os.pwrite(self.medium, data[start:end], position + start)
            self.counts.unflushed_parts += len(parts)
            self.counts.lost_parts += len(parts) - len(kept)
            self.counts.torn_writes += 0 < len(kept) < len(parts)
        self.cached.clear()
        self.counts.is_off = True

    def obey(self, order: str, *words: str) -> None:
        match order:
            case "cut":
                seed, *writes = map(int, words)
                if writes:
                    self.cut_after = (writes[0], seed)
                else:
                    self.cut(seed)
            case "break":
                self.broken = frozenset(words[0].split(","))
                places = [tuple(map(int, word.split("-"))) for word in words[1:]]
                self.broken_places = tuple(places) or ((0, self.size),)
            case "mend":
                self.broken = frozenset()
            case "lie":
                self.lies = True
            case "count":
                pass
            case _:
                raise ValueError(f"no order {order!r}")


def parts_of(position: int, length: int) -> list[tuple[int, int]]:
    """The parts of a write that survive or not, each by itself: from where to where in its data."""
    if position // BLOCK_BYTES == (position + length - 1) // BLOCK_BYTES:
        return [(0, length)]
    in_first_block = min(length, max(0, BLOCK_BYTES - position))
    starts = ([0] if in_first_block else []) + list(range(in_first_block, length, SECTOR_BYTES))
    return list(zip(starts, [*starts[1:], length]))


def serve(device: Device, folder: Path) -> None:
    descriptor = mount(folder)
    server = Server(descriptor, device)
    print(json.dumps({"file": str(folder / FILE_NAME.decode())}), flush=True)
    orders = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([descriptor, orders], [], [])
        # The order first: what a cut finds unanswered was not promised to anybody.
        if orders in ready:
            line = sys.stdin.buffer.readline().decode()
            if not line:
                return
            device.obey(*line.split())
            print(json.dumps(asdict(device.counts)), flush=True)
        if descriptor in ready and not server.serve_one():
            return


def main(image: Path, folder: Path) -> None:
    medium = os.open(image, os.O_RDWR)
    newest = os.open(image.parent, os.O_RDWR | os.O_TMPFILE, 0o600)
    size = os.fstat(medium).st_size
    os.ftruncate(newest, size)
    copy_data(medium, newest, size)
    serve(Device(medium, newest, size), folder)


def copy_data(source: int, target: int, size: int) -> None:
    """What is not a hole."""
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(source, position, os.SEEK_HOLE)
        while position < end:
            position += os.copy_file_range(source, target, end - position, position, position)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
