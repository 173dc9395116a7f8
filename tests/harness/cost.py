"""What a process costs, as the kernel counts it."""

from __future__ import annotations

import threading
from pathlib import Path

MEBIBYTE = 1 << 20


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def wake_ups(pid: int) -> int:
    """Of every thread, those of the kernel's workers included."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith(("voluntary_ctxt", "nonvoluntary_ctxt")):
                count += int(line.split()[1])
    return count


def resident_bytes(pid: int, what: str = "VmRSS") -> int:
    """What is in memory now; `VmHWM`: the most that ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {what}")


def observe(seconds: float) -> None:
    """Lets time pass, because it is what is measured."""
    threading.Event().wait(seconds)
