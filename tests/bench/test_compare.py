"""`scripts/compare` fills the disk with many GB for a while, and runs two brokers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness.broker import kafka_is_installed
from harness.paths import FLUMEN, ROOT
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(not kafka_is_installed(), reason="needs Apache Kafka")


def processes_of(*names: str) -> list[str]:
    """The command lines in which one of these is named."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if any(name in line for name in names)]


@pytest.mark.parametrize(("reached", "ending"), [
    ("kafka-data", signal.SIGTERM),
    ("flumen-data/compare-1-0", signal.SIGINT),
], ids=["while-kafka-starts", "while-caches-fill"])
def test_ended_early_it_leaves_nothing(bench: Path, tmp_path: Path, reached: str, ending: signal.Signals) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | {
        "TMPDIR": str(work), "FLUMEN_BINARY": str(FLUMEN), "FLUMEN_BENCH_BINARY": str(bench)}
    # In a session of its own, as a terminal's signal would also reach what it started.
    compare = subprocess.Popen([ROOT / "scripts/compare"], env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_until(reached, lambda: any(work.glob(f"flumen-compare-*/{reached}")), 60)
        # Apache Kafka's is known by the name of its node.
        names = (str(work), f"/compare-{compare.pid}/")
        assert processes_of(*names)
        compare.send_signal(ending)
        _, errors = compare.communicate(timeout=120)
        assert compare.returncode == 128 + ending, errors
    finally:
        compare.terminate()
        compare.wait(120)
    assert list(work.iterdir()) == []
    wait_until("all processes to end", lambda: not processes_of(*names), 10)
