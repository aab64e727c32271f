"""Names of the topics and the settings of the broker behind them; imports no client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ingest.ports import Event
from store.errors import SettingsInvalid

PROMPTS = "prompts"
RESPONSES = "responses"
FEEDBACK = "feedback"
DECISIONS = "decisions"
LABELS = "labels"
ALERTS = "alerts"
INBOUND = (PROMPTS, RESPONSES, FEEDBACK)
OUTBOUND = (DECISIONS, LABELS, ALERTS)
READERS = {"serve": (PROMPTS,), "ingest": (RESPONSES, FEEDBACK)}
"""What each role reads, as a consumer group of its own."""
DEAD_LETTERS = ".dlq"
DEFAULT_PREFIX = "router."
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SHORTEST_SESSION_MS = 6_000
"""Brokers refuse less unless configured otherwise."""
DEAD_LETTERS_KEPT = 4
"""How many times as long dead letters are kept: somebody has to see them, mend the cause and replay
them, holidays included.
"""
BROKERS_DEFAULT = -1


def full_name(topic: str, *, prefix: str) -> str:
    """Return a topic's name with the prefix, added unless it is there."""
    return topic if topic.startswith(prefix) else prefix + topic


def dead_letters_of(topic: str) -> str:
    """Return the topic for what cannot be read from a topic."""
    return f"{topic}{DEAD_LETTERS}"


def every_topic(prefix: str) -> tuple[str, ...]:
    """Return the full names of all topics, dead letters of the inbound ones included."""
    inbound = [prefix + topic for topic in INBOUND]
    outbound = [prefix + topic for topic in OUTBOUND]
    return (*inbound, *outbound, *map(dead_letters_of, inbound))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent(Event):
    """An event with the headers it came with (a dead letter's say what was wrong)."""

    sent_at: datetime
    """When the broker or the sender says that it was sent."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """``STEERSMAN_KAFKA_*``: the event stream."""

    bootstrap_servers: str = ""
    """Brokers as host:port, separated by commas; empty starts the embedded broker."""
    group_id: str = "steersman"
    """Consumer group; the role is appended."""
    topic_prefix: str = DEFAULT_PREFIX
    """What every topic's name starts with, its dot included."""
    partitions: int = 6
    """Partitions of topics that are created; the most consumers that can share one."""
    replication_factor: int = BROKERS_DEFAULT
    """Replicas of topics that are created; -1 takes the broker's default."""
    retention_hours: int = 168
    """Hours for which created topics keep events, dead letters four times as long; -1 takes the
    broker's default."""
    timeout_s: float = 10.0
    """How long to wait for the broker before it counts as away."""
    session_timeout_ms: int = SHORTEST_SESSION_MS
    """A consumer silent for this long loses its partitions to the others."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str = ""
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with a SASL protocol."""
    sasl_username: str = ""
    """User for SASL."""
    sasl_password: str = field(default="", metadata={"secret": True}, repr=False)
    """Password for SASL."""
    tls_ca_file: Path | None = None
    """Certificate authorities to trust; empty trusts the system's."""
    tls_certificate_file: Path | None = None
    """Client certificate, if the broker asks for one."""
    tls_key_file: Path | None = None
    """Key of the client certificate."""

    def __post_init__(self) -> None:
        problems = []
        if self.security_protocol not in PROTOCOLS:
            problems.append(f"security_protocol must be one of {', '.join(PROTOCOLS)}")
        if self.security_protocol.startswith("SASL") and not self.sasl_mechanism:
            problems.append("sasl_mechanism is required with a SASL protocol")
        if not self.group_id:
            problems.append("group_id must not be empty")
        if self.partitions < 1:
            problems.append(f"partitions must be at least 1, got {self.partitions}")
        problems += [
            f"{name} must be {BROKERS_DEFAULT} or at least 1, got {getattr(self, name)}"
            for name in ("replication_factor", "retention_hours")
            if getattr(self, name) != BROKERS_DEFAULT and getattr(self, name) < 1
        ]
        if not self.timeout_s > 0:
            problems.append(f"timeout_s must be positive, got {self.timeout_s}")
        if self.session_timeout_ms < SHORTEST_SESSION_MS:
            problems.append(f"session_timeout_ms must be at least {SHORTEST_SESSION_MS}")
        if problems:
            raise SettingsInvalid("; ".join(problems))

    def group_of(self, role: str) -> str:
        """Return the name of a role's consumer group."""
        return f"{self.group_id}.{role}"

    def configuration_of(self, topic: str) -> dict[str, str]:
        """Return what a topic is created with besides its shape, in the broker's own words."""
        if self.retention_hours == BROKERS_DEFAULT:
            return {}
        hours = self.retention_hours
        if topic.endswith(DEAD_LETTERS):
            hours *= DEAD_LETTERS_KEPT
        return {"retention.ms": str(hours * 3_600_000)}
