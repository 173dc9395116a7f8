"""The load must not flatter: what it says is held against what happened, and against other programs."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from harness.broker import Broker, kafka_is_installed
from harness.paths import APACHE_KAFKA

IN_MEMORY = "flush.messages=9223372036854775807"


class Load:
    """One running `flumen-bench load`."""

    def __init__(self, bench: Path, bootstrap: str, *options: object, **process: object) -> None:
        command = [bench, "load", "--json", "--bootstrap", bootstrap, "--config", IN_MEMORY, *map(str, options)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **process
        )

    def await_second(self, second: int) -> None:
        """Reads the progress until this second of the measured window is over."""
        for line in self.process.stderr:
            if re.match(rf"\s*{second} s ", line):
                return
        raise AssertionError(f"it ended before second {second}")

    def finish(self) -> tuple[int, dict, str]:
        """Its exit status, its result, and what it said last."""
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(output) if output else {}, errors


def measured(bench: Path, broker: Broker, *options: object) -> dict:
    status, result, errors = Load(bench, broker.bootstrap, *options).finish()
    assert status == 0, errors
    return result


def refusal(bench: Path, bootstrap: str, *options: object, **process: object) -> str:
    status, result, errors = Load(bench, bootstrap, *options, **process).finish()
    assert status != 0 and not result, f"it was not refused: {result}"
    return errors.strip().splitlines()[-1]


def end_offsets(broker: Broker, topic: str, partitions: int) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "counter", "broker.address.family": "v4"})
    try:
        offsets = [consumer.get_watermark_offsets(TopicPartition(topic, nth), timeout=30) for nth in range(partitions)]
        return sum(end for _, end in offsets)
    finally:
        consumer.close()


def test_a_second_in_which_the_broker_stands_still_shows_in_the_tail(bench: Path, broker: Broker) -> None:
    load = Load(bench, broker.bootstrap, "--rate", 2500, "--connections", 4, "--consumers", 1,
                "--record-bytes", 100, "--warmup", 1, "--duration", 6, "--overload")
    load.await_second(1)
    os.kill(broker.pid, signal.SIGSTOP)
    threading.Event().wait(1.0)
    os.kill(broker.pid, signal.SIGCONT)
    status, result, errors = load.finish()
    assert status == 0, errors
    for kind in ("ack", "end_to_end"):
        assert result[kind]["p99_9_us"] >= 900_000, (kind, result[kind])
        # Every sixth request fell due in that second, and waited on average for half of it.
        assert result[kind]["p90_us"] >= 250_000, (kind, result[kind])
    # What fell due while it stood still was sent when there was room again: that is slip, not service.
    assert result["send_slip"]["p99_9_us"] >= 500_000, result["send_slip"]


def test_every_record_that_is_claimed_is_in_the_log_and_no_other(bench: Path, broker: Broker) -> None:
    result = measured(bench, broker, "--topic", "claimed", "--partitions", 3, "--connections", 5, "--depth", 2,
                      "--batch-records", 7, "--request-batches", 2, "--warmup", 0, "--duration", 2, "--idempotent")
    in_log = end_offsets(broker, "claimed", 3)
    assert result["unanswered"] == 0
    assert in_log == result["produced"]["records"] + result["uncounted_records"]
    assert result["uncounted_records"] < result["produced"]["records"] / 10
    assert result["produced"]["records_per_second"] == pytest.approx(
        result["produced"]["records"] / result["seconds"], rel=0.01)
    assert result["broker"]["pid"] == broker.pid and result["broker"]["cpu_seconds"] > 0


def test_an_open_loop_sends_what_was_asked_and_every_batch_is_delivered(bench: Path, broker: Broker) -> None:
    result = measured(bench, broker, "--rate", 1000, "--connections", 3, "--consumers", 2, "--groups", 2,
                      "--warmup", 1, "--duration", 3, "--overload")
    assert result["ack"]["samples"] == 3000
    assert result["end_to_end"]["samples"] == 2 * 3000
    assert (result["unsent"], result["unanswered"], result["undelivered"]) == (0, 0, 0)
    # On a machine that is busy with other things answers come late, and the result says so.
    assert result["rate"]["is_held"] == (result["rate"]["reached"] >= 980)
    assert result["ack"]["mean_us"] >= result["service"]["mean_us"]
    # A consumer may have a record before the producer hears of it, but not before it was sent.
    assert result["end_to_end"]["min_us"] > result["send_slip"]["min_us"]


def test_consumers_of_their_own_thread_give_way_and_get_everything(bench: Path, broker: Broker) -> None:
    load = Load(bench, broker.bootstrap, "--rate", 1000, "--consumers", 3, "--consumer-threads", 1, "--threads", 2,
                "--connections", 2, "--warmup", 0, "--duration", 3, "--overload")
    load.await_second(1)
    threads = {int(task.name): (task / "comm").read_text().strip()
               for task in Path(f"/proc/{load.process.pid}/task").iterdir()}
    niceness = {name: os.getpriority(os.PRIO_PROCESS, thread) for thread, name in threads.items()
                if name.startswith("load-")}
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == {"load-0": own, "load-1": own, "load-2": 19}
    status, result, errors = load.finish()
    assert status == 0, errors
    assert result["end_to_end"]["samples"] == result["ack"]["samples"] == 3000
    assert (result["unsent"], result["unanswered"], result["undelivered"]) == (0, 0, 0)


def test_percentiles_need_samples(bench: Path, broker: Broker) -> None:
    result = measured(bench, broker, "--rate", 100, "--warmup", 0, "--duration", 2)
    assert result["ack"]["samples"] == 200 and result["ack"]["p95_us"] is not None
    assert result["ack"]["p99_us"] is None and result["ack"]["p99_9_us"] is None


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_taken(bench: Path, broker: Broker, codec: str) -> None:
    result = measured(bench, broker, "--codec", codec, "--compressible", 0.7, "--batch-records", 10, "--warmup", 0,
                      "--duration", 0.5)
    assert 0 < result["produced"]["bytes"] < result["produced"]["records"] * 1024 * 0.6


@pytest.mark.skipif(not kafka_is_installed(), reason="needs Apache Kafka's tools")
def test_it_agrees_with_kafka_producer_perf_test(bench: Path, broker: Broker) -> None:
    rate, seconds = 3000, 8
    ours = measured(bench, broker, "--topic", "ours", "--rate", rate, "--batch-records", 10, "--warmup", 1,
                    "--duration", seconds, "--overload")
    output = subprocess.run(
        [APACHE_KAFKA, "tool", "org.apache.kafka.tools.ProducerPerformance", "--topic", "ours",
         "--num-records", str(rate * seconds), "--record-size", "1024", "--throughput", str(rate),
         "--producer-props", f"bootstrap.servers={broker.bootstrap}", "acks=all"],
        check=True, capture_output=True, text=True).stdout
    theirs = float(re.findall(r"([0-9.]+) records/sec", output)[-1])
    assert ours["produced"]["records_per_second"] == pytest.approx(theirs, rel=0.10), output


def test_interrupted_it_keeps_what_was_measured(bench: Path, broker: Broker, tmp_path: Path) -> None:
    load = Load(bench, broker.bootstrap, "--rate", 500, "--warmup", 0, "--duration", 60, "--out", tmp_path / "kept")
    load.await_second(2)
    load.process.send_signal(signal.SIGINT)
    status, result, errors = load.finish()
    assert status == 0, errors
    assert result["ended"] == "interrupted" and result["ack"]["samples"] >= 900
    kept = json.loads((tmp_path / "kept" / "load.json").read_text())
    assert kept["ack"]["samples"] == result["ack"]["samples"]
    assert (tmp_path / "kept" / "load.hlog").read_text().count("Tag=ack,") >= 2


def test_when_the_broker_dies_the_measured_part_stays(bench: Path, broker: Broker, tmp_path: Path) -> None:
    load = Load(bench, broker.bootstrap, "--rate", 500, "--warmup", 0, "--duration", 60, "--out", tmp_path / "kept")
    load.await_second(2)
    broker.kill()
    status, result, errors = load.finish()
    assert status == 1 and "did not come to its end" in errors
    assert result["ended"] not in ("time", "interrupted") and result["ack"]["samples"] >= 900
    assert result["broker"]["rss_bytes_max"] > 0
    assert (tmp_path / "kept" / "load.json").exists()


def test_impossible_rates_are_refused(bench: Path, broker: Broker) -> None:
    assert "an impossible rate" in refusal(bench, broker.bootstrap, "--rate", 1_000_000_000)
    # Possible for the load, but not for one connection with one request in flight.
    said = refusal(bench, broker.bootstrap, "--rate", 900_000, "--depth", 1, "--warmup", 3)
    assert "an impossible rate" in said and "reached" in said


def test_a_target_that_does_not_answer_is_told(bench: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert "does not answer" in refusal(bench, address)
    assert "does not answer" in refusal(bench, address)


def test_too_few_descriptors_are_refused(bench: Path, broker: Broker) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    said = refusal(bench, broker.bootstrap, "--connections", 1000, preexec_fn=limit)
    assert "file descriptors" in said and "256" in said


def test_a_full_disk_is_refused(bench: Path, broker: Broker, tmp_path: Path) -> None:
    said = refusal(bench, broker.bootstrap, "--bytes-max", 10**16, "--data", tmp_path)
    assert "GB free" in said


def test_the_report_is_one_page_without_a_network(bench: Path, broker: Broker, tmp_path: Path) -> None:
    measured(bench, broker, "--rate", 1000, "--consumers", 1, "--warmup", 0, "--duration", 2, "--out", tmp_path)
    (tmp_path / "load.hlog").rename(tmp_path / "other.hlog")
    text = subprocess.run([bench, "report", tmp_path], check=True, capture_output=True, text=True).stdout
    page = (tmp_path / "report.html").read_text()
    assert "ack" in text and "other end-to-end" in text
    assert page.count("<svg") >= 3 and "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(""", page)
