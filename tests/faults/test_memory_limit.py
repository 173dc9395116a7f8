"""A broker in a container with little memory: what does not fit is refused, and said; the kernel never ends it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.broker import Flumen, answers
from harness.cost import MEBIBYTE
from harness.waiting import wait_until
from wire.protocol import PRODUCE, header, pack

LIMIT_BYTES = 160_000_000
# Of cgroup v1 where it is mounted, else of v2: the folder, and the file that holds the limit.
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
ROOM, LIMIT_FILE = (V1, "memory.limit_in_bytes") if V1.is_dir() else (V2, "memory.max")


class Limited(Flumen):
    """Runs in a cgroup of its own."""

    def __init__(self, home: Path, limit_bytes: int, overrides: dict[str, str] | None = None) -> None:
        super().__init__(home, overrides)
        self.cgroup = ROOM / f"flumen-test-{os.getpid()}-{limit_bytes}"
        self.cgroup.mkdir()
        (self.cgroup / LIMIT_FILE).write_text(str(limit_bytes))

    def wrapper(self) -> list[str]:
        return ["sh", "-c", f'echo $$ > {self.cgroup}/cgroup.procs && exec "$@"', "sh"]

    def close(self) -> None:
        super().close()
        wait_until("the cgroup to be empty", lambda: not (self.cgroup / "cgroup.procs").read_text())
        self.cgroup.rmdir()


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    try:
        broker = Limited(tmp_path / "node", LIMIT_BYTES, {"flumen.cores": "2", "flumen.journal.bytes": "16777216"})
    except OSError as error:
        pytest.skip(f"cannot make a cgroup with a memory limit: {error}")
    yield broker
    broker.close()


def outcome(connection: socket.socket) -> str:
    """Whether the broker closed the connection."""
    try:
        return "closed" if connection.recv(1) == b"" else "answered"
    except ConnectionError:
        return "closed"


def test_large_requests(limited: Limited) -> None:
    """Two of 62 MiB at once, more than the limit has room for, are refused; two of 25 MiB are read."""
    limited.start()
    assert "socket.request.max.bytes=104857600 has no place in the memory limit of 152 MiB" in limited.log()
    for size, read in ((62 * MEBIBYTE, False), (25 * MEBIBYTE, True), (62 * MEBIBYTE, False)):
        body = pack("i", size) + header(PRODUCE, 9)
        body += bytes(size + 4 - len(body))
        with ExitStack() as connections:
            both = [connections.enter_context(socket.create_connection(("127.0.0.1", limited.port), timeout=30))
                    for _ in range(2)]
            sent = []
            for connection in both:
                try:
                    connection.sendall(body)
                    sent.append(True)
                except ConnectionError:
                    sent.append(False)
            assert sent == [read, read], (size, limited.log()[-2000:])
            # It is no sound Produce, and both end the same way.
            assert [outcome(connection) for connection in both] == ["closed", "closed"]
        assert limited.is_alive() and answers(limited.port), limited.log()[-2000:]


def test_hardly_any_memory(tmp_path: Path) -> None:
    try:
        broker = Limited(tmp_path / "node", 64 * MEBIBYTE, {"flumen.cache.bytes": str(64 * MEBIBYTE)})
    except OSError as error:
        pytest.skip(f"cannot make a cgroup with a memory limit: {error}")
    with closing(broker):
        broker.launch()
        said = "the memory limit of 64 MiB is less than what may be used: 64 MiB of cache"
        wait_until("the warning", lambda: said in broker.log())
