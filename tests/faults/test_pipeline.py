"""Several requests in flight on one connection: what is ready together leaves together."""

from __future__ import annotations

import socket
import struct

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import Broker
from wire.protocol import Batch, produce, sized, whole_answers

IN_FLIGHT = 20
ROUNDS = 20
# Where tcpi_data_segs_in is in struct tcp_info (linux/tcp.h): how many segments with data have come.
DATA_SEGMENTS_AT = 152


def data_segments(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_SEGMENTS_AT + 4)
    return struct.unpack_from("=I", info, DATA_SEGMENTS_AT)[0]


@pytest.mark.parametrize("flush_messages", [1, 2**63 - 1], ids=["durable", "in memory"])
def test_answers_that_are_ready_together_leave_in_one_send(broker: Broker, flush_messages: int) -> None:
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "broker.address.family": "v4", "log_level": 2})
    config = {"flush.messages": str(flush_messages)}
    admin.create_topics([NewTopic("t", 1, 1, config=config)])["t"].result(30)
    requests = sized(produce(b"t", Batch().encode())) * IN_FLIGHT
    segments = []
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        for _ in range(ROUNDS):
            before, received = data_segments(connection), b""
            connection.sendall(requests)
            while whole_answers(received) < IN_FLIGHT:
                received += connection.recv(1 << 16)
            segments.append(data_segments(connection) - before)
    print(segments)
    # The first requests come in pieces, until the connection has room for all of them, and a group may have begun.
    assert min(segments) == 1 and sorted(segments)[ROUNDS // 2] <= 3, segments
