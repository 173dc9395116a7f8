"""What the suites share: the brokers of a run, and the clients that this machine has.

`--brokers flumen` plays on Flumen alone, `--brokers apache-kafka` on the oracle alone; by default on both, where
Apache Kafka is installed. `--clients kcat,java` plays with these alone.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.broker import ApacheKafka, Broker, Flumen, kafka_is_installed, running  # noqa: E402
from harness.driver import CLIENTS, Client  # noqa: E402
from harness.stage import Drivers, Play  # noqa: E402

KINDS = {"flumen": Flumen, "apache-kafka": ApacheKafka}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--brokers", default="", help="flumen, apache-kafka, or both with a comma; the default is both")
    parser.addoption("--clients", default="", help="the names of clients, with commas; the default is all")


def names_of_brokers(config: pytest.Config) -> list[str]:
    chosen = config.getoption("--brokers")
    if chosen:
        return chosen.split(",")
    return ["apache-kafka", "flumen"] if kafka_is_installed() else ["flumen"]


@pytest.fixture(scope="session")
def brokers(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    """Started with default settings; the oracle first."""
    with running([KINDS[name](tmp_path_factory.mktemp(name)) for name in names_of_brokers(pytestconfig)]) as started:
        yield started


@pytest.fixture
def brokers_with(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[dict[str, str]], list[Broker]]]:
    """Starts brokers of a test's own, with these settings; they end with the test."""
    with ExitStack() as ending:
        def start(overrides: dict[str, str]) -> list[Broker]:
            names = names_of_brokers(pytestconfig)
            return ending.enter_context(running([KINDS[name](tmp_path_factory.mktemp(name), overrides) for name in names]))

        yield start


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    running = Drivers(tmp_path_factory.mktemp("drivers"))
    yield running
    running.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "client" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--clients").split(",")
        clients = [client for client in CLIENTS if chosen == [""] or client.name in chosen]
        metafunc.parametrize("client", clients, ids=[client.name for client in clients])


@pytest.fixture
def play(request: pytest.FixtureRequest, client: Client, brokers: list[Broker], drivers: Drivers) -> Play:
    if not client.is_there():
        pytest.skip(f"{client.name}: {client.why_not}")
    title = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.node.name.removeprefix("test_")).strip("-")
    playing = Play(brokers, client, drivers, title)
    needs = request.node.get_closest_marker("needs")
    if needs and not playing.can(*needs.args):
        pytest.skip(f"{client.name} has no {' and '.join(needs.args)}")
    return playing


def pytest_configure(config: pytest.Config) -> None:
    # Ended from outside, it still ends the brokers that it started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))
    config.addinivalue_line("markers", "needs(*operations): what a client must be able to do for this scenario")
