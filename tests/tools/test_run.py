"""scripts/run tells what to try with the node that it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from harness.broker import answers
from harness.paths import FLUMEN, ROOT
from harness.ports import free_ports
from harness.waiting import wait_until

STOP_S = 30.0


def told(home: Path, port: int, *overrides: str) -> str:
    """Starts a node, waits for the commands to try, and stops it; gives the HOST:PORT that they name."""
    output = home.parent / "output"
    environment = os.environ | {"FLUMEN_HOME": str(home), "FLUMEN_PORT": str(port), "FLUMEN_BINARY": str(FLUMEN)}
    with output.open("wb") as log:
        node = subprocess.Popen([ROOT / "scripts" / "run", *overrides], env=environment, stdout=log,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        found = wait_until("the commands to try", lambda: re.search(r"kcat -L -b (\S+)", output.read_text()))
        host, _, own = found[1].rpartition(":")
        wait_until("an answer at that port", lambda: answers(int(own)))
    finally:
        node.send_signal(signal.SIGINT)
        status = node.wait(STOP_S)
    assert status in (0, 130), output.read_text()
    return f"{host}:{own}"


@pytest.fixture
def ports() -> tuple[int, int]:
    first = free_ports(2)
    return first, first + 1


def test_what_is_told_is_what_listens(tmp_path: Path, ports: tuple[int, int]) -> None:
    """At the first start; when the file of an earlier one says otherwise; and with a setting of the command line."""
    home, (first, other) = tmp_path / "home", ports
    assert told(home, first) == f"127.0.0.1:{first}"
    assert told(home, other) == f"127.0.0.1:{first}"
    wildcard = ("--override", f"listeners=PLAINTEXT://:{other}")
    assert told(home, first, *wildcard) == f"127.0.0.1:{other}"
