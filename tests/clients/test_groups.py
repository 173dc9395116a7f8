"""Consumer groups whose members come, go and die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from harness.driver import Driver, record
from harness.stage import Outcome, Play, Stage

PARTITIONS = 4
SETTLE_S = 60.0
POLL_MS = 300

pytestmark = pytest.mark.needs("join")


class Group:
    """The members of one group, polled together until something is so. Counts what each record was received."""

    def __init__(self, stage: Stage, topic: str, session_ms: int = 6000) -> None:
        self.stage = stage
        self.topic = topic
        self.name = f"group-{topic}"
        self.session_ms = session_ms
        self.members: list[Driver] = []
        self.assignments: list[list[int]] = []
        self.received: Counter[tuple[int, int]] = Counter()

    def come(self, instance: str | None = None) -> Driver:
        member = self.stage.member(self.name, [self.topic], self.session_ms, instance)
        self.members.append(member)
        return member

    def go(self, member: Driver) -> None:
        self.members.remove(member)
        answer = member.ask("leave")
        assert "error" not in answer, answer
        member.close()

    def die(self, member: Driver) -> None:
        self.members.remove(member)
        member.kill()

    def commit(self) -> None:
        if "commits_by_itself" in self.stage.can:
            return
        for member in self.members:
            answer = member.ask("commit")
            assert "error" not in answer, answer

    def poll(self) -> None:
        for member in self.members:
            member.send("poll", for_ms=POLL_MS, count=100_000)
        answers = [member.answer() for member in self.members]
        assert not [each for each in answers if "error" in each], answers
        self.assignments = [each["assignment"] for each in answers]
        for each in answers:
            self.received.update((found["p"], found["o"]) for found in each["records"])

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SETTLE_S
        while True:
            self.poll()
            if condition():
                return
            assert time.monotonic() < deadline, (
                f"{self.stage.broker.name}: waited {SETTLE_S} s for {what}; assignments {self.assignments}, "
                f"{len(self.received)} records; {self.members[0].complaints() if self.members else ''}")

    def settle(self) -> list[int]:
        """Waits until each partition has one owner, and no member idles; returns how many each has."""
        def settled() -> bool:
            everything = sorted(partition for each in self.assignments for partition in each)
            busy = min(len(self.members), PARTITIONS)
            return everything == list(range(PARTITIONS)) and sum(1 for each in self.assignments if each) == busy

        self.until(f"{len(self.members)} members to share {PARTITIONS} partitions", settled)
        return sorted(len(each) for each in self.assignments)

    def receive(self, count: int) -> None:
        self.until(f"{count} records", lambda: len(self.received) >= count)


def fill(stage: Stage, topic: str, count: int, start: int = 0) -> None:
    for number in range(PARTITIONS):
        records = [record(f"{start + n}".encode(), f"{number}".encode()) for n in range(count)]
        answer = stage.steward.ask("produce", topic=topic, partition=number, records=records)
        assert all("o" in each for each in answer["results"]), answer


def committed(stage: Stage, group: Group) -> list[int]:
    return stage.steward.ask("committed", group=group.name, topic=group.topic,
                             partitions=list(range(PARTITIONS)))["offsets"]


def test_members_come_go_and_die(play: Play) -> None:
    """One, two, three members; one leaves, one is killed. Every record arrives, none twice."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), PARTITIONS)
        group = Group(stage, topic)
        shares = []
        fill(stage, topic, 25)
        first = group.come()
        shares.append(group.settle())
        group.receive(100)
        group.commit()
        second = group.come()
        shares.append(group.settle())
        fill(stage, topic, 25, 25)
        group.receive(200)
        group.commit()
        third = group.come()
        shares.append(group.settle())
        group.go(third)
        shares.append(group.settle())
        fill(stage, topic, 25, 50)
        group.receive(300)
        group.commit()
        group.die(first)
        shares.append(group.settle())
        fill(stage, topic, 25, 75)
        group.receive(400)
        group.commit()
        group.go(second)
        # kcat commits every five seconds, so what a killed kcat had received may come again.
        twice = sum(1 for times in group.received.values() if times > 1)
        return shares, twice if "commits_by_itself" not in stage.can else None, committed(stage, group)

    outcome = play.everywhere(scenario)
    assert outcome[0] == [[4], [2, 2], [1, 1, 2], [2, 2], [4]]
    assert outcome[1] in (0, None)
    assert outcome[2] == [100] * PARTITIONS


def test_resume(play: Play) -> None:
    """A group that comes back goes on behind what it committed."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), PARTITIONS)
        fill(stage, topic, 10)
        group = Group(stage, topic)
        member = group.come()
        group.receive(40)
        group.commit()
        group.go(member)
        first = committed(stage, group)
        fill(stage, topic, 5, 10)
        member = group.come()
        group.receive(60)
        group.commit()
        group.go(member)
        return first, committed(stage, group), max(group.received.values())

    assert play.everywhere(scenario) == ([10] * PARTITIONS, [15] * PARTITIONS, 1)


@pytest.mark.needs("committed")
def test_committed_offsets(play: Play) -> None:
    """What was committed can be asked for; a group that never was has committed nothing."""

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), PARTITIONS)
        fill(stage, topic, 3)
        group = Group(stage, topic)
        member = group.come()
        group.receive(12)
        group.commit()
        group.go(member)
        everywhere = list(range(PARTITIONS))
        return (stage.main.ask("committed", group=group.name, topic=topic, partitions=everywhere),
                stage.main.ask("committed", group="never-was", topic=topic, partitions=everywhere))

    play.everywhere(scenario)


def test_static_member_returns(play: Play) -> None:
    """A static member that dies and is back within its session takes its partitions without moving the others."""
    if play.client.name == "kafkajs":
        pytest.skip("kafkajs has no static membership")

    def scenario(stage: Stage) -> Outcome:
        topic = stage.create(stage.topic(), PARTITIONS)
        group = Group(stage, topic, session_ms=30_000)
        first, second = group.come("one"), group.come("two")
        shares = group.settle()
        before = dict(zip(("one", "two"), group.assignments))
        group.die(second)
        group.poll()
        kept = group.assignments == [before["one"]]
        group.come("two")
        group.until("the second to be back", lambda: group.assignments == [before["one"], before["two"]])
        fill(stage, topic, 5)
        group.receive(20)
        group.go(first)
        return shares, kept, max(group.received.values())

    assert play.everywhere(scenario) == ([2, 2], True, 1)
