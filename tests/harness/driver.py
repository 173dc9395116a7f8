"""A real client in a process of its own, driven by lines of JSON. See tests/drivers/README.md."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .broker import Broker, kafka_is_installed
from .paths import APACHE_KAFKA, BUILT, DRIVERS

ANSWER_S = 90.0


def python(file: str) -> list[str]:
    return [sys.executable, str(DRIVERS / "python" / file)]


def java() -> list[str]:
    jars = subprocess.check_output([APACHE_KAFKA, "classpath"], text=True).strip()
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILT / 'java'}:{jars}",
            "Driver"]


@dataclass(frozen=True)
class Client:
    """One real client: how its driver is run, and whether this machine has it."""

    name: str
    command: Callable[[], list[str]]
    is_there: Callable[[], bool]
    why_not: str


CLIENTS = [
    Client("kcat", lambda: python("kcat.py"), lambda: shutil.which("kcat") is not None, "kcat is not installed"),
    Client("confluent-kafka", lambda: python("confluent.py"), lambda: True, ""),
    Client("kafka-python", lambda: python("kafka_python.py"), lambda: True, ""),
    Client("aiokafka", lambda: python("aiokafka_driver.py"), lambda: True, ""),
    Client("java", java, lambda: kafka_is_installed() and (BUILT / "java" / "Driver.class").exists(),
           "needs a JDK and Maven"),
    Client("kafkajs", lambda: ["node", str(DRIVERS / "node" / "driver.js")],
           lambda: (DRIVERS / "node" / "node_modules").exists(), "needs Node.js"),
    Client("franz-go", lambda: [str(BUILT / "franz-go")], lambda: (BUILT / "franz-go").exists(), "needs Go"),
]


class DriverDied(Exception):
    """The client's process ended instead of answering."""


class Driver:
    """One process of one client. `ask` is `send` followed by `answer`."""

    def __init__(self, client: Client, broker: Broker, errors: Path) -> None:
        self.client = client
        with errors.open("ab") as sink:
            self.process = subprocess.Popen(
                [*client.command(), broker.bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
                text=True, env=os.environ | {"KAFKAJS_NO_PARTITIONER_WARNING": "1"},
            )
        self.errors = errors
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()
        hello = self.answer()
        self.version: str = hello["version"]
        self.can: set[str] = set(hello["can"])

    def _collect(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def send(self, operation: str, **fields: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"op": operation} | fields) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=ANSWER_S)
        except queue.Empty:
            raise DriverDied(f"{self.client.name} did not answer within {ANSWER_S} s: {self.complaints()}") from None
        if not line:
            raise DriverDied(f"{self.client.name} died: {self.complaints()}")
        return json.loads(line)

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        self.send(operation, **fields)
        return self.answer()

    def complaints(self) -> str:
        return self.errors.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """kill -9: a member that dies without a word."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()


def encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def record(value: bytes | None, key: bytes | None = None, timestamp: int | None = None,
           headers: list[tuple[str, bytes | None]] | None = None) -> dict[str, Any]:
    """A record as drivers take it."""
    return {"k": encoded(key), "v": encoded(value), "t": timestamp,
            "h": [[name, encoded(content)] for name, content in headers or []]}
