"""Driver of kcat, which is run anew for each operation; a member of a group is a kcat that stays."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
import time
from typing import Any

from serve import ClientError, decode, encode, serve

OPERATION_S = 30.0
# kcat prints bytes as JSON strings; this suite gives it text only.
ERROR = re.compile(r"Broker: ([^\n:]+)|Local: ([^\n:]+)")


def error_of(text: str) -> str:
    found = ERROR.search(text)
    return (found.group(1) or found.group(2)).strip() if found else text.strip()[-200:]


class Driver:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.member: subprocess.Popen | None = None

    def run(self, *arguments: str, given: bytes = b"") -> str:
        command = ["kcat", "-b", self.bootstrap, "-X", "broker.address.family=v4", "-m", "30", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, timeout=OPERATION_S)
        if done.returncode:
            raise ClientError(error_of(done.stderr.decode(errors="replace")))
        return done.stdout.decode()

    def produce(self, topic: str, records: list[dict], partition: int | None = None, codec: str = "none",
                acks: str = "all", idempotent: bool = False) -> dict:
        """One kcat for each run of records with the same headers; it reports no offsets, so none are told."""
        results: list[dict] = []
        for headers, group in runs(records):
            lines = []
            for record in group:
                key, value = decode(record.get("k")), decode(record.get("v"))
                lines.append((key or b"") + b"\x01" + (value or b""))
            options = ["-P", "-t", topic, "-z", codec, "-K", "\\x01", "-D", "\\x02", "-X",
                       f"acks={acks}", "-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "linger.ms=50",
                       "-X", "message.max.bytes=20000000"]
            if any(record.get("k") is None or record.get("v") is None for record in group):
                options.append("-Z")
            if partition is not None:
                options += ["-p", str(partition)]
            for name, value in headers:
                options += ["-H", name if value is None else f"{name}={(decode(value) or b'').decode()}"]
            try:
                self.run(*options, given=b"\x02".join(lines))
                results += [{} for _ in group]
            except ClientError as error:
                results += [{"error": str(error)} for _ in group]
        return {"results": results}

    def read(self, topic: str, partition: int, count: int, **start: Any) -> dict:
        place = start.get("from", {})
        offset = str(place.get("offset", "beginning"))
        if "time" in place:
            offset = f"s@{place['time']}"
        printed = self.run("-C", "-t", topic, "-p", str(partition), "-o", offset, "-c", str(count), "-J",
                           "-X", "check.crcs=true")
        records = []
        for line in printed.splitlines():
            record = json.loads(line)
            flat = record.get("headers") or []
            records.append({"o": record["offset"], "k": text(record["key"]), "v": text(record["payload"]),
                            "t": record["ts"], "h": [[n, text(v)] for n, v in zip(flat[::2], flat[1::2])]})
        return {"records": records}

    def offset_at(self, topic: str, partition: int, timestamp: int) -> dict:
        printed = self.run("-Q", "-t", f"{topic}:{partition}:{timestamp}")
        return {"offset": int(printed.rsplit(" ", 1)[1])}

    def watermarks(self, topic: str, partition: int) -> dict:
        low, high = (self.run("-Q", "-t", f"{topic}:{partition}:{special}") for special in (-2, -1))
        return {"low": int(low.rsplit(" ", 1)[1]), "high": int(high.rsplit(" ", 1)[1])}

    def partitions(self, topic: str) -> dict:
        found = json.loads(self.run("-L", "-t", topic, "-J"))["topics"][0]
        if "error" in found:
            raise ClientError(error_of(found["error"]))
        return {"partitions": len(found["partitions"])}

    def join(self, group: str, topics: list[str], session_ms: int, instance: str | None = None) -> None:
        command = ["kcat", "-b", self.bootstrap, "-G", group, "-u", "-J", "-X", "broker.address.family=v4", "-X",
                   "auto.offset.reset=earliest", "-X", f"session.timeout.ms={session_ms}", "-X",
                   "heartbeat.interval.ms=500", *topics]
        if instance:
            command[3:3] = ["-X", f"group.instance.id={instance}"]
        # The kernel ends the member with this driver, so that killing the driver kills the member.
        self.member = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.received: queue.Queue[dict] = queue.Queue()
        self.assignment: list[int] = []
        threading.Thread(target=self.watch_records, daemon=True).start()
        threading.Thread(target=self.watch_rebalances, daemon=True).start()

    def watch_records(self) -> None:
        assert self.member and self.member.stdout
        for line in self.member.stdout:
            record = json.loads(line)
            self.received.put({"p": record["partition"], "o": record["offset"], "v": text(record["payload"])})

    def watch_rebalances(self) -> None:
        assert self.member and self.member.stderr
        for line in self.member.stderr:
            if "rebalanced" in line and "assigned:" in line:
                self.assignment = sorted(int(number) for number in re.findall(r"\[(\d+)\]", line.split("assigned:")[1]))
            elif "rebalanced" in line:
                self.assignment = []
            else:
                print(line, file=sys.stderr, end="")

    def poll(self, for_ms: int, count: int) -> dict:
        records: list[dict] = []
        deadline = time.monotonic() + for_ms / 1000
        while len(records) < count and (left := deadline - time.monotonic()) > 0:
            try:
                records.append(self.received.get(timeout=left))
            except queue.Empty:
                break
        return {"records": records, "assignment": self.assignment}

    def leave(self) -> None:
        """SIGTERM: kcat commits what it stored, and leaves the group."""
        assert self.member
        self.member.terminate()
        self.member.wait(OPERATION_S)
        self.member = None


def text(content: str | None) -> str | None:
    return None if content is None else encode(content.encode())


def runs(records: list[dict]) -> list[tuple[list, list[dict]]]:
    found: list[tuple[list, list[dict]]] = []
    for record in records:
        if not found or found[-1][0] != record.get("h", []):
            found.append((record.get("h", []), []))
        found[-1][1].append(record)
    return found


if __name__ == "__main__":
    version = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
    serve(Driver(sys.argv[1]), {
        "client": "kcat", "version": (re.search(r"Version (\S+)", version) or ["", "?"])[1],
        "can": ["produce", "read", "offset_at", "watermarks", "partitions", "join", "idempotence",
                "create_on_produce", "commits_by_itself", "no_timestamps", "no_empty"]
               + [f"codec:{codec}" for codec in ("none", "gzip", "snappy", "lz4", "zstd")],
    })
