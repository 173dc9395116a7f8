"""Waiting for a condition, with a deadline. Nothing in the suites sleeps for any other reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

INTERVAL_S = 0.02


def wait_until(what: str, condition: Callable[[], Answer], within_s: float = 30.0) -> Answer:
    """Asks until the answer is true, and returns it. `what` completes the sentence "waited for …"."""
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {within_s} s for {what}; last answer: {answer!r}")
        time.sleep(INTERVAL_S)
