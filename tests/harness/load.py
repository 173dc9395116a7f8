"""Producers and members of a group under way against one broker, each a process with a ledger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from .broker import Broker
from .ledger import Ledger, Log, Promises, breaches, moved_back
from .paths import TESTS
from .waiting import wait_until

PROGRAMS = TESTS / "faults" / "load"


class Load:
    """Some producers and one group on one topic. `promises` may be asked for at any time."""

    def __init__(self, broker: Broker, folder: Path, topic: str = "ledger", partitions: int = 6) -> None:
        self.broker = broker
        self.folder = folder
        self.topic = topic
        self.group = f"{topic}-group"
        self.partitions = partitions
        self.producers: dict[str, subprocess.Popen] = {}
        self.members: dict[str, subprocess.Popen] = {}
        self.ledgers_of_producers: dict[str, Ledger] = {}
        self.ledgers_of_members: list[Ledger] = []
        self.told = Promises()
        self.born = 0
        folder.mkdir(parents=True, exist_ok=True)

    def create_topic(self, **config: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
        admin.create_topics([NewTopic(self.topic, self.partitions, 1, config=config)])[self.topic].result(30)

    def run(self, program: str, *arguments: str) -> subprocess.Popen:
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen([sys.executable, str(PROGRAMS / program), self.broker.bootstrap, self.topic,
                                     *arguments], stdout=errors, stderr=errors, stdin=subprocess.DEVNULL)

    def ledger(self, name: str) -> Path:
        return self.folder / f"{name}.ledger"

    def add_producer(self) -> None:
        self.born += 1
        name = f"p{self.born}"
        self.producers[name] = self.run("producer.py", name, str(self.ledger(name)))
        self.ledgers_of_producers[name] = Ledger(self.ledger(name))

    def add_member(self) -> None:
        self.born += 1
        name = f"m{self.born}"
        self.members[name] = self.run("consumer.py", self.group, str(self.ledger(name)))
        self.ledgers_of_members.append(Ledger(self.ledger(name)))

    def kill_member(self) -> None:
        """kill -9 of the oldest: it neither commits nor leaves."""
        name = next(iter(self.members))
        member = self.members.pop(name)
        member.kill()
        member.wait()

    def promises(self) -> Promises:
        """Everything that clients have heard by now."""
        for name, ledger in self.ledgers_of_producers.items():
            self.told.add_producer(name, ledger)
        for ledger in self.ledgers_of_members:
            self.told.add_member(ledger)
        return self.told

    def ledger_bytes(self) -> int:
        """Grows with each promise; cheap to ask."""
        return sum(path.stat().st_size for path in self.folder.glob("p*.ledger"))

    def progress(self, lines: int, within_s: float = 60.0) -> None:
        """Waits until about so many more records were acknowledged."""
        goal = self.ledger_bytes() + 10 * lines
        wait_until(f"{lines} more acknowledgements", lambda: self.still_at_work() and self.ledger_bytes() >= goal,
                   within_s)

    def still_at_work(self) -> bool:
        for name, process in self.producers.items():
            assert process.poll() is None, f"{name} ended: {self.ledger(name).read_text()[-300:]}"
        return True

    def finish(self) -> None:
        """Lets producers bring in what is on its way, and members leave."""
        for process in self.producers.values():
            process.terminate()
        for process in self.producers.values():
            process.wait(150)
        for process in self.members.values():
            process.terminate()
        for process in self.members.values():
            process.wait(60)

    def check(self, whole: bool = True) -> int:
        """Asserts that every promise was kept. Returns how many records the log holds (0 if not `whole`)."""
        told = self.promises()
        found = moved_back(told, self.broker.bootstrap, self.group, self.topic)
        count = 0
        if whole:
            log = Log.read(self.broker.bootstrap, self.topic, self.partitions)
            # Promises made while the log was read are not judged by it.
            found += breaches(told, log)
            count = log.count
        assert not found, f"{len(found)} promises broken:\n  " + "\n  ".join(found[:20])
        return count

    def close(self) -> None:
        for process in [*self.producers.values(), *self.members.values()]:
            if process.poll() is None:
                process.kill()
                process.wait()
