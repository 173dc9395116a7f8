"""Apache Kafka's own command-line tools, run against a broker."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .broker import Broker
from .paths import APACHE_KAFKA

TOOL_S = 90.0

TOPICS = "org.apache.kafka.tools.TopicCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONFIGS = "kafka.admin.ConfigCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
ELECTIONS = "org.apache.kafka.tools.LeaderElectionCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
ACLS = "org.apache.kafka.tools.AclCommand"
DUMP_LOG = "org.apache.kafka.tools.DumpLogSegments"


@dataclass
class Output:
    """What a tool said, and how it ended."""

    status: int
    text: str

    def normalised(self, broker: Broker) -> str:
        """Without what differs between any two brokers: addresses, ids, times, and how columns are padded."""
        text = self.text.replace(broker.bootstrap, "BROKER")
        text = re.sub(r"(TopicId|topicId)[:=] ?[\w-]{22}", "TopicId: ID", text)
        text = re.sub(r"\[\d{4}-\d\d-\d\d[^\]]*\] ", "", text)
        text = re.sub(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "-UUID", text)
        text = re.sub(r'"timestamp":\d+', '"timestamp":T', text)
        return "\n".join(re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines())


def command_of(tool: str, *arguments: str) -> list[str]:
    return [str(APACHE_KAFKA), "tool", tool, *arguments]


def run_tool(tool: str, *arguments: str, given: str = "") -> Output:
    done = subprocess.run(command_of(tool, *arguments), input=given, capture_output=True, text=True, timeout=TOOL_S)
    return Output(done.returncode, done.stdout + done.stderr)


def dump(*files: Path, options: tuple[str, ...] = ()) -> str:
    """What DumpLogSegments prints about these files; it must not complain."""
    output = run_tool(DUMP_LOG, "--files", ",".join(str(file) for file in files), *options)
    assert output.status == 0, output.text[-3000:]
    return output.text
