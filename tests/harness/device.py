"""A small file system of a test's own, on a loop device over an image file. Needs root.

A `Device` lies on the image itself: whatever was written is on it. A `VolatileDevice` has a write cache between that
forgets what was not flushed when its power is cut, and it can be told to fail (see volatile.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .waiting import wait_until

PATH_OF_TOOLS = os.environ.get("PATH", "") + ":/sbin:/usr/sbin"
# The file systems whose flushes the broker stands on, and how each is made.
MAKE = {"ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"), "xfs": ("mkfs.xfs", "-q", "-f")}
VOLATILE = Path(__file__).with_name("volatile.py")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout.strip()


def why_not(file_system: str = "ext4") -> str:
    """Why this machine cannot; empty if it can."""
    if os.geteuid() != 0:
        return "only root can mount"
    for tool in ("losetup", MAKE[file_system][0], "mount", "filefrag"):
        if not shutil.which(tool, path=PATH_OF_TOOLS):
            return f"needs {tool}"
    if not Path("/dev/loop-control").exists():
        return "no loop devices"
    return ""


def why_not_volatile(file_system: str = "ext4") -> str:
    """Why this machine cannot have a device that forgets; empty if it can."""
    if why := why_not(file_system):
        return why
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"no FUSE: {error}"
    return ""


class Device:
    """An image file, its loop device and where it is mounted."""

    def __init__(self, image: Path, mount: Path, file_system: str = "ext4") -> None:
        self.image = image
        self.mount_point = mount
        self.file_system = file_system
        self.loop = ""

    @classmethod
    def make(cls, folder: Path, name: str, size_bytes: int, file_system: str = "ext4") -> "Device":
        image = folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        run(*MAKE[file_system], image)
        return cls(image, folder / name, file_system).mount()

    def attach(self) -> str:
        """The loop device, just made."""
        return run("losetup", "--find", "--show", self.image)

    def mount(self) -> "Device":
        """The journal of ext4 is committed by flushes only, so that an image is what they made it."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        self.loop = self.attach()
        # A copy of an XFS has the original's identity.
        options = {"ext4": "commit=300", "xfs": "nouuid"}[self.file_system]
        run("mount", "-t", self.file_system, "-o", options, self.loop, self.mount_point)
        return self

    def unmount(self) -> None:
        if self.loop:
            # What a killed process had under way in its rings holds the file system a moment longer.
            wait_until("the file system to be let go", lambda: subprocess.run(
                ["umount", str(self.mount_point)], capture_output=True).returncode == 0)
            # It may be let go by the unmount itself.
            subprocess.run(["losetup", "-d", self.loop], capture_output=True)
            self.loop = ""

    def writes(self) -> tuple[str, str]:
        """How many writes and flushes the device has begun and finished; the same twice means that it is at rest."""
        block = Path("/sys/block") / Path(self.loop).name
        return (block / "stat").read_text(), (block / "inflight").read_text()

    def copy(self, folder: Path, name: str) -> "Device":
        """A copy of what the device holds this moment, with nothing flushed for it. Who writes must be stopped."""
        image = folder / f"{name}.img"

        def copied_at_rest() -> bool:
            before = self.writes()
            run("cp", "--sparse=always", self.image, image)
            return before == self.writes()

        wait_until("a copy during which nothing was written", copied_at_rest)
        return Device(image, folder / name, self.file_system)

    def close(self) -> None:
        if self.loop:
            subprocess.run(["umount", "-l", str(self.mount_point)], capture_output=True)
            subprocess.run(["losetup", "-d", self.loop], capture_output=True)
            self.loop = ""
        self.image.unlink(missing_ok=True)


class VolatileDevice(Device):
    """One whose image is only what was flushed. Unmounted, it may be mounted again: that is the power coming back."""

    process: subprocess.Popen | None = None

    @property
    def served(self) -> Path:
        """Where the file lies that the loop device is on."""
        return self.mount_point.with_name(f"{self.mount_point.name}-served")

    def attach(self) -> str:
        self.served.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen([sys.executable, VOLATILE, self.image, self.served], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return run("losetup", "--find", "--show", "--direct-io=on", self.answer()["file"])

    def answer(self) -> dict:
        assert self.process and self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the device's process ended with {self.process.wait()}"
        return json.loads(line)

    def tell(self, *order: object) -> dict:
        """One order of volatile.py; what came to the device so far."""
        assert self.process and self.process.stdin
        self.process.stdin.write(" ".join(map(str, order)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def cut(self, seed: int, after_writes: int | None = None) -> dict:
        """The power goes: now, or in the middle of the write that comes after so many more. What is on the image then
        is what a device may have kept."""
        return self.tell("cut", seed, *([] if after_writes is None else [after_writes]))

    def counts(self) -> dict:
        """What came to it so far, and whether its power is gone."""
        return self.tell("count")

    def fail(self, *kinds: str, within: Path | None = None) -> None:
        """From now on these fail with EIO: "writes", "flushes", "reads"; if `within` is given, of its bytes alone."""
        places = [] if within is None else self.places_of(within)
        self.tell("break", ",".join(kinds), *(f"{first}-{end}" for first, end in places))

    def mend(self) -> None:
        self.tell("mend")

    @staticmethod
    def places_of(file: Path) -> list[tuple[int, int]]:
        """Where on the device the bytes of a file lie that are allocated by now: from, and to. Between two of them there
        may be other files."""
        listed = run("filefrag", "-b1", "-v", "-e", file)
        extents = re.findall(r"^ *\d+: +\d+\.\. *\d+: +(\d+)\.\. *(\d+):", listed, re.MULTILINE)
        assert extents, listed
        return [(int(first), int(last) + 1) for first, last in extents]

    def end_serving(self) -> None:
        if not self.process:
            return
        subprocess.run(["umount", "-l", str(self.served)], capture_output=True)
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)
        self.process = None

    def unmount(self) -> None:
        super().unmount()
        self.end_serving()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            # Nothing of what is still to be written is wanted, and nobody shall wait for it.
            self.tell("break", "writes,flushes,reads")
        super().close()
        self.end_serving()
