"""Free ports on loopback, below the range from which the kernel takes a connection's own port."""

from __future__ import annotations

import os
import random
import socket

LOWEST, HIGHEST = 20_000, 32_000

_random = random.Random(os.getpid())
_given: set[int] = set()


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive free ports, none of which this process has given away before."""
    for _ in range(10_000):
        first = _random.randrange(LOWEST, HIGHEST)
        wanted = range(first, first + count)
        if not _given & set(wanted) and all(is_free(port) for port in wanted):
            _given.update(wanted)
            return first
    raise RuntimeError("no free port found")
