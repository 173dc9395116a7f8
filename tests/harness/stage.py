"""Where a scenario plays: one broker, one real client. The same scenario plays on every broker of a run, at the
same time, and what it returns must be equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .broker import Broker
from .driver import CLIENTS, Client, Driver

Outcome = Any
Scenario = Callable[["Stage"], Outcome]

CONFLUENT = next(client for client in CLIENTS if client.name == "confluent-kafka")


class Drivers:
    """The drivers of a run that are not members of a group, one for each client and broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[tuple[str, str], Driver] = {}

    def of(self, client: Client, broker: Broker) -> Driver:
        key = (client.name, broker.name)
        if key not in self.running or self.running[key].process.poll() is not None:
            self.running[key] = Driver(client, broker, self.folder / f"{client.name}-{broker.name}.log")
        return self.running[key]

    def close(self) -> None:
        for driver in self.running.values():
            driver.close()


class Stage:
    """One scenario on one broker."""

    def __init__(self, broker: Broker, client: Client, drivers: Drivers, title: str) -> None:
        self.broker = broker
        self.client = client
        self.drivers = drivers
        self.title = title
        self.members: list[Driver] = []

    @property
    def main(self) -> Driver:
        """The client under test."""
        return self.drivers.of(self.client, self.broker)

    @property
    def steward(self) -> Driver:
        """A client that prepares and inspects, where the one under test cannot."""
        return self.drivers.of(CONFLUENT, self.broker)

    @property
    def can(self) -> set[str]:
        return self.main.can

    def topic(self, suffix: str = "") -> str:
        """A name of this scenario's own, the same on every broker."""
        return f"{self.title}{suffix}"

    def create(self, topic: str, partitions: int = 1, **config: str) -> str:
        """Creates the topic, and waits until clients see it."""
        from .waiting import wait_until

        named = {key.replace("_", "."): value for key, value in config.items()}
        answer = self.steward.ask("create", topic=topic, partitions=partitions, config=named)
        assert "error" not in answer, f"{self.broker.name}: create {topic}: {answer}"
        for number in range(partitions):
            wait_until(f"{topic}-{number} to have a leader",
                       lambda: "high" in self.steward.ask("watermarks", topic=topic, partition=number))
        return topic

    def member(self, group: str, topics: list[str], session_ms: int = 6000, instance: str | None = None) -> Driver:
        """A new process of the client that joins the group."""
        driver = Driver(self.client, self.broker, self.drivers.folder / f"{self.client.name}-{self.broker.name}.log")
        self.members.append(driver)
        answer = driver.ask("join", group=group, topics=topics, session_ms=session_ms, instance=instance)
        assert "error" not in answer, f"{self.broker.name}: join: {answer}"
        return driver

    def close(self) -> None:
        for member in self.members:
            member.close()


class Play:
    """Plays scenarios of one client on every broker of the run."""

    def __init__(self, brokers: list[Broker], client: Client, drivers: Drivers, title: str) -> None:
        self.brokers = brokers
        self.client = client
        self.drivers = drivers
        self.title = title

    def can(self, *operations: str) -> bool:
        return set(operations) <= self.drivers.of(self.client, self.brokers[0]).can

    def on(self, broker: Broker, scenario: Scenario) -> Outcome:
        stage = Stage(broker, self.client, self.drivers, self.title)
        try:
            return scenario(stage)
        except Exception as error:
            error.add_note(f"on {broker.name}, with {self.client.name}")
            raise
        finally:
            stage.close()

    def everywhere(self, scenario: Scenario) -> Outcome:
        """The outcome, which must be the same on each broker."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            playing = [(broker, pool.submit(self.on, broker, scenario)) for broker in self.brokers]
        outcomes = {broker.name: future.result() for broker, future in playing}
        first, *others = outcomes.items()
        for name, outcome in others:
            assert outcome == first[1], difference(first[0], first[1], name, outcome)
        return first[1]


def difference(left: str, left_outcome: Outcome, right: str, right_outcome: Outcome) -> str:
    def shown(outcome: Outcome) -> str:
        return json.dumps(outcome, sort_keys=True, default=str)[:4000]

    return f"outcomes differ\n  {left}: {shown(left_outcome)}\n  {right}: {shown(right_outcome)}"
