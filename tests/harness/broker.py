"""One broker on loopback: Flumen, or Apache Kafka as the oracle. Both have the same face here."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .paths import APACHE_KAFKA, FLUMEN
from .ports import free_ports
from .waiting import wait_until

START_S = 60.0
STOP_S = 30.0
API_VERSIONS_V0 = bytes.fromhex("0000000a" "0012" "0000" "00000001" "0000")


def answers(port: int) -> bool:
    """Does something on this port answer ApiVersions?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(API_VERSIONS_V0)
            return len(connection.recv(4)) > 0
    except OSError:
        return False


class Broker(ABC):
    """A node with its data in `home`. It may be started again on what it left there."""

    name: str

    def __init__(self, home: Path, overrides: dict[str, str] | None = None) -> None:
        self.home = home
        self.overrides = overrides or {}
        self.port = 0
        self.process: subprocess.Popen | None = None
        home.mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def pid(self) -> int:
        assert self.process, f"{self.name} has not been started"
        return self.process.pid

    @abstractmethod
    def command(self) -> list[str]:
        """Writes what the node needs, and returns the command that runs it."""

    def log(self) -> str:
        path = self.home / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Starts the process, and does not wait for its answer."""
        if not self.port:
            self.port = free_ports(2)
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def start(self) -> "Broker":
        """Starts it, waits until it answers, and gives the time that took to `started_s`."""
        began = time.monotonic()
        self.launch()
        wait_until(f"{self.name} to answer", self.answers_or_died, START_S)
        self.started_s = time.monotonic() - began
        return self

    def answers_or_died(self) -> bool:
        if not self.is_alive():
            raise RuntimeError(f"{self.name} died at its start:\n{self.log()[-4000:]}")
        return answers(self.port)

    def stop(self) -> float:
        """SIGTERM. Returns how many seconds the stop took; its exit status must be that of a clean one."""
        assert self.process
        began = time.monotonic()
        self.process.terminate()
        status = self.process.wait(STOP_S)
        assert status in (0, 143, -signal.SIGTERM), f"{self.name} exited with {status}:\n{self.log()[-4000:]}"
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9, of this process only."""
        assert self.process
        self.process.kill()
        self.process.wait(STOP_S)

    def close(self) -> None:
        """Ends it, however it is, and removes its data."""
        if self.is_alive():
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


class Flumen(Broker):
    """The binary under test, with default settings but for where it lives."""

    name = "flumen"

    def command(self) -> list[str]:
        properties = self.home / "server.properties"
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(self.data),
        }
        properties.write_text("".join(f"{key}={value}\n" for key, value in (lines | self.overrides).items()))
        return [*self.wrapper(), str(FLUMEN), str(properties)]

    def wrapper(self) -> list[str]:
        """A command that runs the binary under other circumstances; a suite may override it."""
        return []


class ApacheKafka(Broker):
    """Apache Kafka, one KRaft node."""

    name = "apache-kafka"

    def command(self) -> list[str]:
        # scripts/apache-kafka knows how a node is laid out; it is only asked for its class path here, so that the
        # process is this one's child.
        version = Path(subprocess.check_output([APACHE_KAFKA, "install"], text=True).strip())
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.port + 1}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.port + 1}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
        }
        properties = self.home / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in (lines | self.overrides).items()))
        java = ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{version}/jars/*",
                f"-Dlog4j2.configurationFile={version}/log4j2.yaml"]
        if not (self.data / "meta.properties").exists():
            cluster = os.environ.get("KAFKA_CLUSTER_ID", "Zmx1bWVuLXRlc3RzLTEyMw")
            subprocess.run([*java, "kafka.tools.StorageTool", "format", "-c", properties, "-t", cluster],
                           check=True, capture_output=True)
        return [*java, "-server", "-Djava.awt.headless=true", "kafka.Kafka", str(properties)]


def kafka_is_installed() -> bool:
    version = os.environ.get("KAFKA_VERSION", "4.3.1")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = Path(os.environ.get("APACHE_KAFKA_HOME", cache / "apache-kafka"))
    return shutil.which("java") is not None and (home / version / ".complete").exists()


@contextmanager
def running(brokers: list[Broker]) -> Iterator[list[Broker]]:
    """Starts all of them at once, and ends them afterwards."""
    try:
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(lambda broker: broker.start(), brokers))
        yield brokers
    finally:
        for broker in brokers:
            broker.close()
