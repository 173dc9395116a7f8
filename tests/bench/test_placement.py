"""Which core of the target a connection and its partition live on, as a load tells them by the target's threads."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import Flumen

IN_MEMORY = "flush.messages=9223372036854775807"

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


@pytest.fixture
def two_cores(tmp_path: Path) -> Iterator[Flumen]:
    broker = Flumen(tmp_path / "broker", {"flumen.cores": "2"})
    broker.start()
    yield broker
    broker.close()


def thread_times(pid: int) -> dict[str, int]:
    """Nanoseconds that each thread has run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {thread.name: int((thread / "schedstat").read_text().split()[0]) for thread in threads}


def loaded(bench: Path, broker: Flumen, connections: int, wrong_core: float) -> tuple[dict, list[int]]:
    """The result of a short load, and the times of the two threads that were busiest meanwhile."""
    before = thread_times(broker.pid)
    output = subprocess.run(
        [bench, "load", "--json", "--quiet", "--bootstrap", broker.bootstrap, "--config", IN_MEMORY, "--connections",
         str(connections), "--record-bytes", "100", "--wrong-core", str(wrong_core), "--warmup", "0.2", "--duration",
         "1", "--delete-topic"], check=True, capture_output=True, text=True, timeout=60).stdout
    times = {thread: time - before.get(thread, 0) for thread, time in thread_times(broker.pid).items()}
    return json.loads(output), sorted(times.values())[-2:]


def test_one_connection_has_its_partition_where_it_was_asked_for(bench: Path, two_cores: Flumen) -> None:
    _, (idle, busy) = loaded(bench, two_cores, 1, 0)
    assert idle < busy / 8, (idle, busy)
    _, (helping, busy) = loaded(bench, two_cores, 1, 1)
    assert helping > busy / 8, (helping, busy)


def test_requests_that_arrive_on_the_wrong_core_cost_more(bench: Path, two_cores: Flumen) -> None:
    right, wrong = (loaded(bench, two_cores, 8, share)[0]["broker"]["cpu_us_per_request"] for share in (0, 1))
    print(f"{right:.2f} CPU-µs a request on the right core, {wrong:.2f} on the wrong one")
    assert wrong > right


def test_a_target_of_one_core_has_no_wrong_one(bench: Path, tmp_path: Path) -> None:
    broker = Flumen(tmp_path / "broker", {"flumen.cores": "1"})
    broker.start()
    try:
        with pytest.raises(subprocess.CalledProcessError) as refused:
            loaded(bench, broker, 1, 1)
        assert "no partition lives on another core" in refused.value.stderr
    finally:
        broker.close()
