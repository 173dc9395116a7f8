"""A small ext4 file system of a test's own, on a loop device over an image file. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .waiting import wait_until


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout.strip()


def why_not() -> str:
    """Why this machine cannot; empty if it can."""
    if os.geteuid() != 0:
        return "only root can mount"
    for tool in ("losetup", "mkfs.ext4", "mount"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin"):
            return f"needs {tool}"
    if not Path("/dev/loop-control").exists():
        return "no loop devices"
    return ""


class Device:
    """An image file, its loop device and where it is mounted."""

    def __init__(self, image: Path, mount: Path) -> None:
        self.image = image
        self.mount_point = mount
        self.loop = ""

    @classmethod
    def make(cls, folder: Path, name: str, size_bytes: int) -> "Device":
        image = folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        return cls(image, folder / name).mount()

    def mount(self) -> "Device":
        """The journal of the file system is committed by flushes only, so that an image is what they made it."""
        self.mount_point.mkdir(parents=True, exist_ok=True)
        self.loop = run("losetup", "--find", "--show", self.image)
        run("mount", "-o", "commit=300", self.loop, self.mount_point)
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
        return Device(image, folder / name)

    def close(self) -> None:
        if self.loop:
            subprocess.run(["umount", "-l", str(self.mount_point)], capture_output=True)
            subprocess.run(["losetup", "-d", self.loop], capture_output=True)
            self.loop = ""
        self.image.unlink(missing_ok=True)
