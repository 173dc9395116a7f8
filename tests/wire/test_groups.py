"""Groups and their offsets by hand, on every broker of the run: what no client library asks, or not at such a moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.broker import Broker, running
from harness.waiting import wait_until

from .protocol import METADATA, FlexibleReader, Reader, compact, exchange, header, pack, sized, string
from .scene import create_topic, everywhere
from .test_sessions import connected

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, LIST_GROUPS = 8, 9, 10, 11, 14, 16
DELETE_TOPICS, CREATE_PARTITIONS, OFFSET_DELETE, CONSUMER_GROUP_HEARTBEAT = 20, 37, 47, 68
UNKNOWN_TOPIC_OR_PARTITION = 3


UNSUPPORTED_VERSION, TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 35, 53
UNKNOWN_SERVER_ERROR, NONE, NOT_COORDINATOR, INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT = -1, 0, 16, 24, 26


def coordinate(brokers: list[Broker]) -> None:
    """Waits until each broker coordinates groups."""
    sent = sized(header(FIND_COORDINATOR, 0) + string(b"group"))
    offsets = sized(offset_fetch(b"group"))

    def coordinates(broker: Broker) -> bool:
        return exchange(broker, sent)[8:10] == exchange(broker, offsets)[-2:] == b"\0\0"

    for broker in brokers:
        wait_until(f"{broker.name} to coordinate groups", lambda: coordinates(broker))


@pytest.fixture
def coordinators(brokers: list[Broker]) -> list[Broker]:
    coordinate(brokers)
    return brokers


@pytest.fixture(scope="module")
def strangers(brokers: list[Broker], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    """Brokers of this module alone, whom nobody has asked for a coordinator yet. They know no groups but classic ones."""
    classic = {"group.coordinator.rebalance.protocols": "classic"}
    with running([type(broker)(tmp_path_factory.mktemp(broker.name), classic) for broker in brokers]) as started:
        yield started


def offset_commit(group: bytes, partitions: int, *topics: bytes, offset: int = 7, metadata: bytes = b"") -> bytes:
    """OffsetCommit v2 of somebody who is no member, of the first partitions of each topic."""
    indexes = b"".join(pack("iq", index, offset) + string(metadata) for index in range(partitions))
    named = b"".join(string(topic) + pack("i", partitions) + indexes for topic in topics)
    body = string(group) + pack("i", -1) + string(b"") + pack("qi", -1, len(topics))
    return header(OFFSET_COMMIT, 2) + body + named


def committed(answer: bytes) -> set[int]:
    """The errors in an answer to it."""
    reader, errors = Reader(answer[4:]), set()
    for _ in range(reader.take("i")):
        reader.string()
        errors |= {reader.take("ih")[1] for _ in range(reader.take("i"))}
    return errors


def offset_fetch(group: bytes) -> bytes:
    """OffsetFetch v2 of everything."""
    return header(OFFSET_FETCH, 2) + string(group) + pack("i", -1)


def offsets(broker: Broker, group: bytes) -> list[tuple[str | None, int, int]]:
    """Topic, partition and offset of all that a group has committed."""
    reader, found = Reader(exchange(broker, sized(offset_fetch(group)))[8:]), []
    for _ in range(reader.take("i")):
        name = reader.string()
        for _ in range(reader.take("i")):
            index, offset = reader.take("iq")
            reader.string(), reader.take("h")
            found.append((name, index, offset))
    assert reader.take("h") == 0
    return found


def join_group(group: bytes, session_timeout_ms: int = 30_000, member: bytes = b"") -> bytes:
    """JoinGroup v2 with one protocol."""
    body = string(group) + pack("ii", session_timeout_ms, 60_000) + string(member) + string(b"consumer")
    return header(JOIN_GROUP, 2) + body + pack("i", 1) + string(b"range") + pack("i", 0)


def joined(answer: bytes) -> tuple[int, int, str | None, str | None, str | None, int]:
    """Error, generation, protocol, leader, the member's id, how many members."""
    reader = Reader(answer[12:])
    error, generation = reader.take("hi")
    return error, generation, reader.string(), reader.string(), reader.string(), reader.take("i")


def sync_group(group: bytes, generation: int = 1, member: bytes = b"member") -> bytes:
    """SyncGroup v1 of a member that leads nobody."""
    return header(SYNC_GROUP, 1) + string(group) + pack("i", generation) + string(member) + pack("i", 0)


def synced(answer: bytes) -> int:
    return Reader(answer[12:]).take("h")


def offset_delete(group: bytes, partitions: int, *topics: bytes) -> bytes:
    """OffsetDelete v0 of the first partitions of each topic."""
    indexes = pack(f"{partitions}i", *range(partitions))
    named = b"".join(string(topic) + pack("i", partitions) + indexes for topic in topics)
    return header(OFFSET_DELETE, 0) + string(group) + pack("i", len(topics)) + named


def partitions_of(broker: Broker, topic: bytes) -> int:
    """How many Metadata v0 knows of."""
    answer = exchange(broker, sized(header(METADATA, 0) + pack("i", 1) + string(topic)))
    reader = Reader(answer[answer.rindex(string(topic)) :])
    reader.string()
    return reader.take("i")


def test_what_is_wrong_with_any_group_is_said_without_a_coordinator(strangers: list[Broker]) -> None:
    def play(broker: Broker) -> list[object]:
        joins = [join_group(b""), join_group(b"group", 5_999, b"member"), join_group(b"group", member=b"member")]
        told: list[object] = [joined(exchange(broker, sized(join))) for join in joins]
        told += [synced(exchange(broker, sized(sync_group(group)))) for group in (b"", b"group")]
        return told + [exchange(broker, sized(offset_delete(group, 1, b"topic")))[8:] for group in (b"", b"group")]

    nobody = (-1, "", "")
    assert everywhere(strangers, play) == [
        (INVALID_GROUP_ID, *nobody, "", 0),
        (INVALID_SESSION_TIMEOUT, *nobody, "member", 0),
        (NOT_COORDINATOR, *nobody, "", 0),
        INVALID_GROUP_ID,
        NOT_COORDINATOR,
        *(pack("hii", error, 0, 0) for error in (INVALID_GROUP_ID, NOT_COORDINATOR)),
    ]


@pytest.mark.parametrize("version", [0, 1])
def test_a_protocol_that_is_switched_off(strangers: list[Broker], version: int) -> None:
    """Clients that are told to use it give up at this answer."""
    body = compact(b"group") + compact(b"member") + pack("i", 0) + b"\0\0" + pack("i", 5_000) + b"\x02" + compact(b"topic")
    body += b"\0" * version + b"\0\x01\0"
    sent = sized(header(CONSUMER_GROUP_HEARTBEAT, version, flexible=True) + body)
    answer = everywhere(strangers, lambda broker: exchange(broker, sent))
    assert answer[13:15] == pack("h", 35)


def test_commits_that_race_a_deletion_leave_nothing_to_a_topic_created_anew(coordinators: list[Broker]) -> None:
    """It would be read from the middle by groups that have never seen it."""
    rounds, groups, partitions = 15, 3, 4

    def commit_until_gone(broker: Broker, group: bytes, topic: bytes, begun: threading.Barrier) -> None:
        with connected(broker) as connection:
            for offset in range(1, 100_000):
                connection.send(offset_commit(group, partitions, topic, offset=offset))
                errors = committed(connection.receive())
                if offset == 1:
                    begun.wait()
                if UNKNOWN_TOPIC_OR_PARTITION in errors:
                    return

    def play(broker: Broker) -> list[object]:
        left = []
        for number in range(rounds):
            topic = b"raced-%d" % number
            names = [b"races-%d-%d" % (number, group) for group in range(groups)]
            begun = threading.Barrier(groups + 1)
            create_topic(broker, topic, partitions)
            with ThreadPoolExecutor(groups) as pool:
                racing = [pool.submit(commit_until_gone, broker, name, topic, begun) for name in names]
                begun.wait()
                answer = exchange(broker, sized(header(DELETE_TOPICS, 1) + pack("i", 1) + string(topic) + pack("i", 30_000)))
                assert answer[-2:] == b"\0\0", answer
                for race in racing:
                    race.result()
            create_topic(broker, topic, partitions)
            left.append([offsets(broker, name) for name in names])
        return left

    assert everywhere(coordinators, play) == [[[]] * groups] * rounds


def test_a_topic_that_is_named_twice_is_answered_twice(coordinators: list[Broker]) -> None:
    """Unless something about it was answered before."""
    def play(broker: Broker) -> list[bytes | str]:
        create_topic(broker, b"twice", partitions=1)
        return [
            exchange(broker, sized(request(b"twice", partitions, *topics)))[8:]
            for partitions in (1, 2)
            for topics in ([b"twice"] * 2, [b"nowhere"] * 2, [b"nowhere", b"twice", b"twice"])
            for request in (offset_commit, offset_delete)
        ]

    everywhere(coordinators, play)


def test_a_commit_that_no_batch_has_room_for(coordinators: list[Broker]) -> None:
    def play(broker: Broker) -> list[object]:
        create_topic(broker, b"much", partitions=300)
        commits = [offset_commit(b"much", partitions, b"much", metadata=b"m" * 4_000) for partitions in (300, 200)]
        errors = [committed(exchange(broker, sized(commit))[4:]) for commit in commits]
        return errors + [len(offsets(broker, b"much"))]

    assert everywhere(coordinators, play) == [{UNKNOWN_SERVER_ERROR}, {NONE}, 200]


def test_why_there_is_no_coordinator(coordinators: list[Broker]) -> None:
    """Of something that is coordinated by nobody in these versions, and of no kind that there is."""
    def play(broker: Broker) -> list[bytes | str]:
        asked = string(b"key") + pack("b", 2)
        told = [exchange(broker, sized(header(FIND_COORDINATOR, version) + asked))[8:] for version in (1, 2)]
        several = [pack("b", kind) + b"\x03" + compact(b"key") + compact(b"other") + b"\0" for kind in (2, 3, -1)]
        return told + [exchange(broker, sized(header(FIND_COORDINATOR, 4, flexible=True) + each))[8:] for each in several]

    everywhere(coordinators, play)


@pytest.mark.parametrize("version", range(1, 7))
def test_transactions_have_no_coordinator_here(coordinators: list[Broker], version: int) -> None:
    """Apache Kafka finds one. Who asks in an older version gives up for one error alone, and looks again and again
    for any other; who asks in a newer one shows the words."""
    [flumen] = [broker for broker in coordinators if broker.name == "flumen"] or pytest.skip("without Flumen")
    if version < 3:
        answer = exchange(flumen, sized(header(FIND_COORDINATOR, version) + string(b"key") + pack("b", 1)))
        reader = Reader(answer[12:])
    else:
        keys = compact(b"key") + b"\1" if version == 3 else b"\1\2" + compact(b"key")
        answer = exchange(flumen, sized(header(FIND_COORDINATOR, version, flexible=True) + keys + b"\0"))
        reader = FlexibleReader(answer[13:])
    if version < 4:
        error, message, node = reader.take("h"), reader.string(), reader.take("i")
    else:
        assert (reader.varint(), reader.string()) == (2, "key")
        node = (reader.take("i"), reader.string(), reader.take("i"))[0]
        error, message = reader.take("h"), reader.string()
    assert error == (TRANSACTIONAL_ID_AUTHORIZATION_FAILED if version < 4 else UNSUPPORTED_VERSION)
    assert (message, node) == ("Transactions are not served by this broker.", -1)


def test_states_of_groups_are_trimmed_and_types_are_not(coordinators: list[Broker]) -> None:
    def play(broker: Broker) -> list[int]:
        create_topic(broker, b"trimmed", partitions=1)
        exchange(broker, sized(offset_commit(b"trimmed", 1, b"trimmed")))

        def listed(state: bytes, type: bytes) -> int:
            filters = b"\x02" + compact(state) + b"\x02" + compact(type) + b"\0"
            return exchange(broker, sized(header(LIST_GROUPS, 5, flexible=True) + filters)).count(compact(b"trimmed"))

        return [listed(b" eMpty\t", b"cLassic"), listed(b"Empty", b" classic"), listed(b"Empty\xc2\xa0", b"classic")]

    assert everywhere(coordinators, play) == [1, 0, 0]


def test_groups_stay_where_they_are_when_partitions_are_added(strangers: list[Broker]) -> None:
    """Until the next start: their members and offsets are where they were."""
    coordinate(strangers)
    names = [b"stays-%d" % number for number in range(12)]

    def play(broker: Broker) -> list[object]:
        create_topic(broker, b"kept", partitions=1)
        for offset, name in enumerate(names):
            with connected(broker) as connection:
                connection.send(offset_commit(name, 1, b"kept", offset=offset))
                assert committed(connection.receive()) == {NONE}
        body = pack("i", 1) + string(b"__consumer_offsets") + pack("iiib", 57, -1, 30_000, False)
        assert Reader(exchange(broker, sized(header(CREATE_PARTITIONS, 0) + body))[12:]).take("i") == 1
        wait_until("more partitions", lambda: partitions_of(broker, b"__consumer_offsets") == 57)
        found = [exchange(broker, sized(header(FIND_COORDINATOR, 0) + string(name)))[8:10] for name in names]
        return [offsets(broker, name) for name in names] + found

    assert everywhere(strangers, play) == [[("kept", 0, offset)] for offset in range(12)] + [b"\0\0"] * 12


def test_who_waits_for_a_group_is_told_at_a_stop(strangers: list[Broker]) -> None:
    """To look for the coordinator elsewhere: of a connection that just ends, clients make less."""
    coordinate(strangers)

    def play(broker: Broker) -> list[int]:
        with connected(broker) as first, connected(broker) as second, connected(broker) as third:
            for member in (first, second):
                member.send(join_group(b"syncs"))
            for member in (first, second):
                error, generation, _, leader, id, _ = joined(sized(member.receive()))
                assert error == NONE
                if id != leader:
                    follower = member
                    follower.send(sync_group(b"syncs", generation, id.encode()))
            third.send(join_group(b"joins"))
            # What came before is heard of by the groups' partitions.
            assert offsets(broker, b"syncs") == offsets(broker, b"joins") == []
            with ThreadPoolExecutor(1) as pool:
                stopping = pool.submit(broker.stop)
                told = [synced(sized(follower.receive())), joined(sized(third.receive()))[0]]
                stopping.result()
            return told

    assert everywhere(strangers, play) == [NOT_COORDINATOR, NOT_COORDINATOR]
