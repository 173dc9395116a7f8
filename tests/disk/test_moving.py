"""In and out: Apache Kafka starts on Flumen's directory and Flumen on Apache Kafka's, without a copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from disk.contents import Contents
from harness.broker import ApacheKafka, Broker, Flumen, kafka_is_installed
from harness.stage import Drivers

pytestmark = pytest.mark.skipif(not kafka_is_installed(), reason="no Apache Kafka: needs a JDK and Maven")


def move(run: Callable[..., Broker], drivers: Drivers, contents: Contents, kinds: list[type[Broker]],
         leave: Callable[[Broker], object]) -> None:
    """Each broker in turn finds what was there, adds a part, and is left."""
    for part, kind in enumerate(kinds):
        broker = run(kind)
        contents.check(broker, drivers)
        contents.write(broker, drivers, part)
        contents.check(broker, drivers)
        drivers.close()
        drivers.running.clear()
        leave(broker)


def test_flumen_to_kafka_and_back(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    move(run, own_drivers, Contents(), [Flumen, ApacheKafka, Flumen], lambda broker: broker.stop())


def test_kafka_to_flumen_and_back(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    move(run, own_drivers, Contents(), [ApacheKafka, Flumen, ApacheKafka], lambda broker: broker.stop())


def test_kafka_that_was_killed(run: Callable[..., Broker], own_drivers: Drivers) -> None:
    """Flumen starts on what a killed Apache Kafka left."""
    contents = Contents()
    killed = run(ApacheKafka)
    contents.write(killed, own_drivers, 0)
    own_drivers.close()
    own_drivers.running.clear()
    killed.kill()
    contents.check(run(Flumen), own_drivers)
