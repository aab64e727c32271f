"""Prometheus metrics of one process; the only home of prometheus_client.

Labels come from bounded sets (experts, reasons, codes, causes), never from request ids or texts.
Should a bug feed one with something unbounded, the surplus is counted under ``other``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from store.errors import SettingsInvalid
from store.ledger import Transaction
from store.records import Decision

LOOPBACK = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_SETS = 500
"""Distinct label sets of one metric; further ones become ``other``."""
LABEL_CHARACTERS = 100
OUTBOX_LIMIT = 1_000
"""Unpublished messages are counted up to this; more is the same emergency."""
PHASE_SECONDS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "decisions": ("Decisions made", ("expert", "reason")),
    "would_serve": ("Decisions in mode observe by what would have served", ("expert", "reason")),
    "events_rejected": ("Events and requests refused", ("source", "code")),
    "stream_events": ("Events of the stream by what became of them", ("topic", "outcome")),
    "experts_excluded": (
        "Decisions for which an expert lacked what the request needs",
        ("expert", "reason"),
    ),
    "outbox_deferred": ("Rounds that left messages for later", ("waiting_for",)),
    "labels": ("Labels in the ledger", ()),
    "feedback_unattributed": ("Feedback for unknown requests", ()),
    "fail_safe": ("Decisions where the reference served for lack of a safe choice", ("cause",)),
}
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lambda": ("Routing threshold in force", ()),
    "labels_effective": ("Effective labels behind the threshold", ()),
    "state_version": ("Routing state this process serves, 0 for none", ()),
    "expert_failing": ("1 while an expert is paused for failing calls", ("expert",)),
    "judge_tasks": ("Judge tasks by status", ("status",)),
    "judge_oldest_seconds": ("Age of the oldest judge task pending or leased, 0 for none", ()),
    "judge_canaries_age_seconds": (
        "Since the canaries of a judge of this process ran last",
        ("judge_version",),
    ),
    "spooled_decisions": ("Decisions made without the ledger that it has not got yet", ()),
    "stream_lag": (
        "Events of a partition read here that wait behind the last poll",
        ("topic", "partition"),
    ),
    "outbox_unmarked": (f"Messages not yet known to be published, up to {OUTBOX_LIMIT}", ()),
}
FAIL_SAFE = frozenset({"safe_starved", "safe_infeasible", "safe_cold", "no_candidate", "error"})


class Metrics:
    """Counts, gauges and timings, each with its own registry so that tests do not share."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._seen: dict[str, set[tuple[str, ...]]] = {}
        self._labels_counted = 0
        self._counters = {
            name: Counter(f"steersman_{name}", text, labels, registry=self._registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"steersman_{name}", text, labels, registry=self._registry)
            for name, (text, labels) in GAUGES.items()
        }
        self._phases = Histogram(
            "steersman_decision_seconds",
            "Seconds of a decision by phase",
            ("phase",),
            registry=self._registry,
            buckets=PHASE_SECONDS,
        )

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter: ``count("events_rejected", source="http", code="not_finite")``.

        A name that is not in ``COUNTERS`` gets its own counter with the labels of its first use.
        """
        counter = self._counter(name.removeprefix("steersman_").removesuffix("_total"), labels)
        bounded = self._bounded(name, labels)
        (counter.labels(**bounded) if bounded else counter).inc()

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge of ``GAUGES``."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def forget(self, name: str, **labels: str) -> None:
        """Show nothing under these labels of a gauge any more."""
        gauge = self._gauges[name]
        gauge.remove(*(labels[label] for label in GAUGES[name][1]))

    def decided(self, decision: Decision) -> None:
        """Count one new decision with its reason and the time of each phase."""
        self.count("decisions", expert=decision.expert, reason=decision.reason)
        if decision.would_serve is not None and decision.would_reason is not None:
            self.count("would_serve", expert=decision.would_serve, reason=decision.would_reason)
        if decision.reason in FAIL_SAFE:
            self.count("fail_safe", cause=decision.reason)
        for expert, reason in decision.excluded.items():
            if reason != "not_allowed":  # the sender's choice, not a lack
                self.count("experts_excluded", expert=expert, reason=reason)
        for phase, microseconds in decision.timings_us.items():
            bounded = self._bounded("decision_seconds", {"phase": phase})
            self._phases.labels(**bounded).observe(microseconds / 1e6)

    def observe_ledger(self, tx: Transaction, *, now: datetime) -> None:
        """Bring what the ledger knows up to date; called when someone looks."""
        active = tx.states.active()
        if active is not None:
            self.set("lambda", active.threshold)
            self.set("labels_effective", active.effective_labels)
        for status, tasks in tx.tasks.counts().items():
            self.set("judge_tasks", tasks, status=status)
        oldest = tx.tasks.oldest() or now
        self.set("judge_oldest_seconds", max(0.0, (now - oldest).total_seconds()))
        for expert in tx.experts.all():
            if expert.health.episodes:  # of the others there is nothing to say
                self.set("expert_failing", float(expert.is_failing), expert=expert.name)
        self.set("outbox_unmarked", len(tx.outbox.unmarked(limit=OUTBOX_LIMIT)))
        labels = tx.labels.count()
        with self._lock:
            # A counter never goes back; the ledger only appends, but old days are dropped.
            self._counters["labels"].inc(max(0, labels - self._labels_counted))
            self._labels_counted = max(labels, self._labels_counted)

    def render(self) -> bytes:
        """Return the text a Prometheus server scrapes."""
        return generate_latest(self._registry)

    @contextmanager
    def answering(self, port: int) -> Iterator[None]:
        """Answer scrapes on the loopback address meanwhile; what the ledger knows is not among it.

        Raises ``SettingsInvalid`` if the port is taken.
        """
        try:
            server, thread = start_http_server(port, addr=LOOPBACK, registry=self._registry)
        except OSError as problem:
            raise SettingsInvalid(
                f"STEERSMAN_METRICS_PORT {port} cannot be listened on ({problem.strerror}); each"
                " process of a machine needs a port of its own"
            ) from problem
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _counter(self, name: str, labels: Mapping[str, str]) -> Counter:
        with self._lock:
            if name not in self._counters:
                text = name.replace("_", " ").capitalize()
                self._counters[name] = Counter(
                    f"steersman_{name}", text, sorted(labels), registry=self._registry
                )
            return self._counters[name]

    def _bounded(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        values = {key: str(value)[:LABEL_CHARACTERS] for key, value in labels.items()}
        with self._lock:
            seen = self._seen.setdefault(name, set())
            key = tuple(values[label] for label in sorted(values))
            if key not in seen and len(seen) >= LABEL_SETS:
                return dict.fromkeys(values, "other")
            seen.add(key)
        return values
