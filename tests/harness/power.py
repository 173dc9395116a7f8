"""Power cuts: the device's image right after acknowledgements, its file system replayed, and started on."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from .broker import Flumen
from .device import Device
from .ledger import Log, breaches, moved_back
from .load import Load

DEVICE_BYTES = 1 << 30
JOURNAL_BYTES = 32 << 20


def power_cuts(folder: Path, images: int, seed: int, say: Callable[[str], None] = lambda text: None) -> int:
    """Each round starts on the image that the last one left. Returns how many records there are in the end."""
    choice = random.Random(seed)
    device = Device.make(folder, "device-0", DEVICE_BYTES)
    broker = None
    count = 0
    try:
        for image in range(1, images + 1):
            broker = on(device, folder / f"home-{image}")
            broker.start()
            load = Load(broker, folder / f"load-{image}", topic=f"ledger-{image}")
            try:
                load.create_topic()
                for _ in range(3):
                    load.add_producer()
                load.add_member()
                load.progress(choice.choice((20, 300, 3000, 10_000)))
                os.kill(broker.pid, signal.SIGSTOP)
                # Whatever a client has heard by now was promised before the device stood still.
                promised = load.promises()
                copy = device.copy(folder, f"device-{image}")
                load.close()
                broker.kill()
                device.unmount()
                device.close()
                device = copy.mount()
                broker = on(device, folder / f"home-{image}-after")
                broker.start()
                log = Log.read(broker.bootstrap, load.topic, load.partitions)
                found = breaches(promised, log) + moved_back(promised, broker.bootstrap, load.group, load.topic)
                assert not found, f"image {image}: {len(found)} promises broken:\n  " + "\n  ".join(found[:20])
                count += log.count
                say(f"image {image} of {images}: {len(promised.acknowledged)} acknowledged, {log.count} there")
                broker.stop()
            finally:
                load.close()
        return count
    finally:
        if broker and broker.is_alive():
            broker.kill()
        device.close()


def on(device: Device, home: Path) -> Flumen:
    return Flumen(home, {"log.dirs": str(device.mount_point / "data"), "flumen.journal.bytes": str(JOURNAL_BYTES),
                         "flumen.cache.bytes": str(128 << 20)})
