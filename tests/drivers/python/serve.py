"""The loop of a Python driver: one line of JSON in, one line of JSON out. See ../README.md."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any, TextIO


class ClientError(Exception):
    """What the client calls what went wrong."""


def decode(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def encode(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def decode_headers(headers: list[list[str | None]]) -> list[tuple[str, bytes | None]]:
    return [(str(name), decode(value)) for name, value in headers]


def encode_headers(headers: Any) -> list[list[str | None]]:
    return [[name, encode(value)] for name, value in headers or []]


def answers() -> TextIO:
    """Standard output, kept for answers: what the client itself prints goes to standard error."""
    out = sys.stdout
    sys.stdout = sys.stderr
    return out


def serve(driver: Any, hello: dict[str, Any]) -> None:
    """Answers each request by the driver's method of that name."""
    out = answers()

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    say(hello)
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            answer = getattr(driver, operation)(**request)
            say({} if answer is None else answer)
        except ClientError as error:
            say({"error": str(error)})
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            print(f"{operation}: {error!r}", file=sys.stderr)
            say({"error": type(error).__name__})
