"""Power cuts: the device's image right after acknowledgements, its file system replayed, and started on."""

from __future__ import annotations

import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from .broker import Broker, Flumen
from .device import Device, VolatileDevice
from .ledger import Log, Promises, breaches, moved_back
from .load import Load
from .waiting import wait_until

DEVICE_BYTES = 1 << 30
JOURNAL_BYTES = 32 << 20

Say = Callable[[str], None]


class Cut(ABC):
    """One way for the power to go while a load is under way."""

    kind: type[Device]

    @abstractmethod
    def cut(self, device: Device, load: Load, broker: Broker, seed: int) -> tuple[Promises, Device, str]:
        """What was promised before, the device that is left, not mounted, and what became of it, in words."""


class Copied(Cut):
    """The image is copied while the broker stands still: what the file system had not written is missing."""

    kind = Device

    def cut(self, device: Device, load: Load, broker: Broker, seed: int) -> tuple[Promises, Device, str]:
        os.kill(broker.pid, signal.SIGSTOP)
        # Whatever a client has heard by now was promised before the device stood still.
        promised = load.promises()
        copy = device.copy(device.image.parent, f"copy-{seed}")
        broker.kill()
        device.unmount()
        device.close()
        return promised, copy, "copied"


class Forgotten(Cut):
    """The device loses, under way, what no flush of its own write cache covered: sectors survive by chance."""

    kind = VolatileDevice

    def cut(self, device: Device, load: Load, broker: Broker, seed: int) -> tuple[Promises, Device, str]:
        assert isinstance(device, VolatileDevice)
        device.cut(seed, random.Random(seed).randrange(40))
        # Every write and flush fails from then on, so whatever clients hear until the end stood on the device before.
        wait_until("the power to go, and the broker to give up", lambda: not broker.is_alive())
        load.close()
        promised = load.promises()
        promised.failures.clear()
        counts = device.counts()
        device.unmount()
        said = (f"{counts['flushes']} flushes, {counts['unflushed_writes']} writes unflushed, "
                f"{counts['lost_parts']} of their {counts['unflushed_parts']} parts lost, "
                f"{counts['torn_writes']} writes torn")
        return promised, device, said


def power_cuts(folder: Path, images: int, seed: int, way: Cut, say: Say = lambda text: None,
               file_system: str = "ext4") -> int:
    """Each round starts on the image that the last one left. Returns how many records there are in the end."""
    choice = random.Random(seed)
    device = way.kind.make(folder, "device", DEVICE_BYTES, file_system)
    broker: Flumen | None = None
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
                promised, device, said = way.cut(device, load, broker, seed + image)
                load.close()
                device.mount()
                if isinstance(device, VolatileDevice) and choice.random() < 0.5:
                    said += ", " + cut_at_start(device, folder / f"home-{image}-between", choice)
                broker = on(device, folder / f"home-{image}-after")
                broker.start()
                log = Log.read(broker.bootstrap, load.topic, load.partitions)
                found = breaches(promised, log) + moved_back(promised, broker.bootstrap, load.group, load.topic)
                assert not found, f"image {image} ({said}): {len(found)} promises broken:\n  " + "\n  ".join(found[:20])
                count += log.count
                say(f"image {image} of {images}: {len(promised.acknowledged)} acknowledged, {log.count} there; {said}")
                broker.stop()
            finally:
                load.close()
        return count
    finally:
        if broker and broker.is_alive():
            broker.kill()
        device.close()


def cut_at_start(device: VolatileDevice, home: Path, choice: random.Random) -> str:
    """The power goes again while the broker recovers, after some writes of its own."""
    writes = choice.randrange(60)
    device.cut(choice.randrange(1 << 30), writes)
    broker = on(device, home)
    broker.launch()
    wait_until("the power to go, or an answer", lambda: device.counts()["is_off"] or broker.answers_or_died())
    if not device.counts()["is_off"]:
        # It needed fewer than that to start.
        device.cut(choice.randrange(1 << 30))
    broker.kill()
    device.unmount()
    device.mount()
    return f"cut again at write {writes} of the start"


def on(device: Device, home: Path) -> Flumen:
    return Flumen(home, {"log.dirs": str(device.mount_point / "data"), "flumen.journal.bytes": str(JOURNAL_BYTES),
                         "flumen.cache.bytes": str(128 << 20)})
