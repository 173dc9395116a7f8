"""The long forms of the faults, for scripts/torture. Ends with a line 'N passed, N failed'."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness.broker import Flumen
from harness.kills import kill_under_load
from harness.starts import drop_caches, fill, first_acknowledgement, small_traffic


ROUND = 20
START_S = 1.0
IMAGES_OF_A_ROUND = 5


def say(text: str) -> None:
    print(text, flush=True)


def kill(kills: int, seed: int) -> None:
    """In rounds, each with a directory of its own, so that the log that is read in the end stays small."""
    records = 0
    for first in range(0, kills, ROUND):
        count = min(ROUND, kills - first)
        with tempfile.TemporaryDirectory(prefix="flumen-kills-") as folder:
            broker = Flumen(Path(folder) / "broker")
            try:
                broker.start()
                records += kill_under_load(broker, Path(folder) / "load", count, seed + first)
            finally:
                broker.close()
        say(f"{first + count} of {kills} kills: {records} records, every promise kept")


def cut_power(images: int, seed: int) -> None:
    """Each image stands on the one before; a device of its own for every round keeps the logs small."""
    from harness.device import MAKE, why_not_volatile
    from harness.power import Copied, Forgotten, power_cuts

    file_systems = [name for name in MAKE if not why_not_volatile(name)]
    for name in MAKE.keys() - set(file_systems):
        say(f"left out: devices that forget, with {name}: {why_not_volatile(name)}")
    for number, first in enumerate(range(0, images, IMAGES_OF_A_ROUND)):
        count = min(IMAGES_OF_A_ROUND, images - first)
        file_system = file_systems[number % len(file_systems)] if file_systems else "ext4"
        # Every fourth round, or all of them where nothing else can be had, looks at the file system alone.
        way = Forgotten() if file_systems and number % 4 != 3 else Copied()
        with tempfile.TemporaryDirectory(prefix="flumen-images-") as folder:
            records = power_cuts(Path(folder), count, seed + first, way, say, file_system)
        say(f"{first + count} of {images} images: {records} records, every promise kept")


def time_starts(starts: int, seed: int) -> None:
    """From the start of the process to the first acknowledged record, on 1,000 partitions and 10 GB, with nothing of
    it in the machine's memory: after kill -9 under load, of an idle broker, and after a clean stop."""
    with tempfile.TemporaryDirectory(prefix="flumen-starts-") as folder:
        broker = Flumen(Path(folder) / "broker")
        try:
            broker.start()
            fill(broker, "many", partitions=1000, size=10_000_000_000, record_bytes=100_000)
            times: dict[str, list[float]] = {"killed under load": [], "killed idle": [], "stopped cleanly": []}
            for start in range(starts):
                small_traffic(broker, "many", 1000, 100_000_000, seed + start)
                for way, end in zip(times, (broker.kill, broker.kill, broker.stop), strict=True):
                    end()
                    if not drop_caches():
                        say("left out: files stay in the machine's memory, since only root can drop them")
                    times[way].append(first_acknowledgement(broker, b"many"))
                    say(f"{way}: first record after {times[way][-1] * 1000:.0f} ms")
            for way, taken in times.items():
                say(f"{way}: median {median(taken) * 1000:.0f} ms, worst {max(taken) * 1000:.0f} ms")
                assert median(taken) <= START_S, way
        finally:
            broker.close()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=0)
    options.add_argument("--images", type=int, default=0)
    options.add_argument("--starts", type=int, default=0)
    options.add_argument("--seed", type=int, required=True)
    chosen = options.parse_args()
    passed = failed = 0
    wanted: list[tuple[int, Callable[[int, int], None]]] = [
        (chosen.kills, kill), (chosen.images, cut_power), (chosen.starts, time_starts)]
    for count, run in wanted:
        if not count:
            continue
        try:
            run(count, chosen.seed)
            passed += 1
        except Exception:  # noqa: BLE001 - the rest is still asked
            traceback.print_exc()
            failed += 1
    say(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
