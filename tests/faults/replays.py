"""A router of real processes under recorded traffic, and what must hold once it is at rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest.announce import announce_alert
from ingest.broker import KafkaSource
from ingest.commands import Operator
from ingest.demo_traffic import GEMINI, LLAMA, MISTRAL
from ingest.heartbeat import heartbeat_file
from ingest.recount import recount
from ingest.topics import (
    DECISIONS,
    SHORTEST_SESSION_MS,
    KafkaSettings,
    full_name,
)
from online.encode import BUNDLED, identity_of
from online.snapshot import load_state
from online.state import RoutingState
from recalibrate.cycle import Recalibrator
from store.errors import StoreUnavailable
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import Expert, ExpertStatus, Price, RequestId
from tests.faults import crashing
from tests.faults.crashing import RoleProcess
from tests.faults.streaming import CLOCK, PROMPTS_SENT, Stream

EXPERTS = (GEMINI, LLAMA, MISTRAL)
POLICY = {
    "reference": GEMINI,
    "alpha": "0.2",
    "judge": "recorded",
    "label_rate": "0.25",
    "cluster_prompts": "100",
}
REST_S = 240.0
KILLED = -9
_OPEN = """
    SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM responses),
        (SELECT count(*) FROM judge_tasks WHERE status IN ('pending', 'leased')),
        (SELECT count(*) FROM outbox WHERE published_at IS NULL),
        (SELECT count(*) FROM parked_responses)
"""
_LABELS = "SELECT request_id, expert, judge_version, outcome, score, purpose FROM labels"


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning arrived at, and how much λ may be compared."""

    binding: str
    model: str
    threshold: float
    effective_labels: float


@dataclass
class Replay:
    """Roles as processes, prompts that stream in, a gateway that answers; for one test."""

    folder: Path
    kafka: KafkaSettings
    url: str
    prompts: int = PROMPTS_SENT

    def __post_init__(self) -> None:
        self.folder.mkdir()
        recorded = self.folder / "recorded.jsonl"
        self.stream = Stream(self.kafka, recorded, self.prompts)
        self.ledger = PostgresLedger(self.url)
        self._started: list[RoleProcess | subprocess.Popen[bytes]] = []
        self._environment = {
            "STEERSMAN_CACHE_DIR": str(Path(".run/cache").resolve()),
            "STEERSMAN_DATABASE_URL": self.url,
            "STEERSMAN_HTTP_PORT": "0",
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "STEERSMAN_KAFKA_GROUP_ID": self.kafka.group_id,
            "STEERSMAN_KAFKA_PARTITIONS": str(self.kafka.partitions),
            "STEERSMAN_KAFKA_SESSION_TIMEOUT_MS": str(crashing.SESSION_MS),
            "STEERSMAN_KAFKA_TIMEOUT_S": "3",
            "STEERSMAN_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "STEERSMAN_RECORDED": str(recorded),
            "STEERSMAN_RUN_DIR": str(self.folder),
        }

    @contextmanager
    def open(self) -> Iterator[None]:
        """Register the pool and answer decisions while the block runs; nothing outlives it."""
        self._register()
        try:
            with self.stream.answered():
                yield
        finally:
            for process in self._started:
                process.kill()
            self.ledger.close()

    def start(self, role: str, replica: str, **options: Any) -> RoleProcess:
        """Start a role; ``options`` are those of ``crashing.start``."""
        environment = self._environment | {"STEERSMAN_REPLICA": replica}
        process = crashing.start(role, environment, self.log(replica), **options)
        self._started.append(process)
        return process

    def start_whole(self, role: str, cache: Path) -> subprocess.Popen[bytes]:
        """Start a role as an operator does: nothing replaced, nothing shortened, nothing cached."""
        own = {
            "STEERSMAN_CACHE_DIR": str(cache),
            "STEERSMAN_KAFKA_SESSION_TIMEOUT_MS": str(SHORTEST_SESSION_MS),
            "STEERSMAN_REPLICA": role,
        }
        with self.log(role).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ingest.cli", role],
                env=os.environ | self._environment | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    def url_of(self, replica: str, process: RoleProcess) -> str:
        """Return where a serving process answers HTTP, as its health check finds it."""
        file = heartbeat_file(self.folder, "serve", replica=replica)
        found: list[str] = []

        def is_told() -> bool:
            with suppress(OSError):
                told = json.loads(file.read_text())
                found[:] = [told["http_url"]] if told["pid"] == process.pid else []
            return bool(found)

        self.until(is_told, "sign of life")
        return found[0]

    def log(self, replica: str) -> Path:
        return self.folder / f"{replica}.log"

    def wait_for_state(self) -> None:
        """Return when there is a first state: from then on what is judged is always the same."""
        self.until(lambda: self._active() is not None, "a first routing state")

    def rest(self) -> None:
        """Return when everything sent has been decided, answered, judged and published."""
        count = len(self.stream.sent)
        with raw_connection(self.url) as connection:

            def look() -> tuple[object, ...]:
                return tuple(connection.execute(_OPEN).fetchone() or ())

            self.until(lambda: look() == (count, count, 0, 0, 0), "rest", show=look)

    def learned(self) -> Learned:
        """Return the state of the running learner once it has learnt everything there is."""
        seen: list[Learned] = []
        while len(seen) < 2 or seen[-1] != seen[-2]:
            wanted = self.touch_policy()
            self.wait_for_policy(wanted)
            seen.append(_learned(self._active()))
            assert len(seen) < 8, seen
        return seen[-1]

    def rebuilt(self) -> Learned:
        """Return what a learner arrives at that knows nothing but the ledger."""
        fresh = Recalibrator(
            self.ledger,
            CLOCK,
            encoder=identity_of(BUNDLED),
            announce=announce_alert,
            send=lambda _: None,
        )
        self.touch_policy()
        assert fresh.step() is not None
        return _learned(self._active())

    def touch_policy(self) -> int:
        """Ask for a state without changing what shapes one."""
        with self.ledger.begin() as tx:
            current = tx.policies.current()
            assert current is not None
            delta = 0.11 if current[1].delta == 0.1 else 0.1
            return tx.policies.set(
                replace(current[1], delta=delta), actor="test", now=CLOCK.now(), after=current[0]
            )

    def wait_for_policy(self, version: int) -> None:
        """Return when there is a state with that version of the policy."""

        def is_there() -> bool:
            active = self._active()
            return active is not None and active.policy_version == version

        self.until(is_there, "state of a new policy")

    def labels(self) -> list[tuple[object, ...]]:
        with raw_connection(self.url) as connection:
            return sorted(connection.execute(_LABELS).fetchall())

    def check(self) -> None:
        """Fail unless everything sent is everywhere once, and every label that is due is there."""
        found = recount(self.url, self.kafka, sent=self.stream.sent)
        assert [f"{c.claim}: {c.found}" for c in found if not c.holds] == []
        with self.ledger.begin() as tx:
            decided = tx.decisions.find_many({RequestId(name) for name in self.stream.sent})
        sampled = {r: d for r, d in decided.items() if d.is_sampled}
        due = {(r, e) for r, d in sampled.items() for e in (*d.due_experts, d.reference)}
        labels = [(str(row[0]), str(row[1])) for row in self.labels()]
        assert len(labels) == len(set(labels))
        assert set(labels) == due
        assert len(due) > 0.1 * len(self.stream.sent) * len(EXPERTS)
        self._check_topics()

    def until(
        self,
        found: Callable[[], bool],
        what: str,
        *,
        show: Callable[[], object] = lambda: "",
    ) -> None:
        """Return when ``found`` is true; a database that is away is waited for."""
        give_up = time.monotonic() + REST_S
        while True:
            with suppress(StoreUnavailable):
                if found():
                    return
            assert time.monotonic() < give_up, f"no {what} in {REST_S} s: {show()}"
            time.sleep(0.1)

    def _check_topics(self) -> None:
        """What is sent twice is the same twice."""
        contents: dict[tuple[str, bytes | None], set[bytes]] = defaultdict(set)
        topic = full_name(DECISIONS, prefix=self.kafka.topic_prefix)
        with closing(KafkaSource(self.kafka, topics=[topic], role="check")) as source:
            quiet = 0
            while quiet < 3 or not contents:
                events = source.poll(timeout_s=1.0, limit=2_000)
                quiet = 0 if events else quiet + 1
                for event in events:
                    contents[event.topic, event.key].add(event.value)
        assert len(contents) == len(self.stream.sent)
        assert {key for key, values in contents.items() if len(values) > 1} == set()

    def _register(self) -> None:
        Operator(self.ledger, CLOCK).set_policy(POLICY)
        with self.ledger.begin() as tx:
            for name in EXPERTS:
                cost = self.stream.traffic.mean_cost(name, list(self.stream.traffic.prompts)[:600])
                tx.experts.add(
                    Expert(
                        name=name,
                        price=Price(request_usd=cost or 0.0),
                        status=ExpertStatus.REGISTERED,
                        client={"kind": "recorded"},
                        added_at=CLOCK.now(),
                        status_changed_at=CLOCK.now(),
                    )
                )

    def _active(self) -> RoutingState | None:
        with self.ledger.begin() as tx:
            record = tx.states.active()
        return None if record is None else load_state(record.payload, sha256=record.sha256)


def stop(processes: Sequence[RoleProcess]) -> None:
    """Ask all to stop; each must end well."""
    for process in processes:
        process.terminate()
    assert [process.wait(30.0) for process in processes] == [0] * len(processes)


def _learned(state: RoutingState | None) -> Learned:
    assert state is not None
    assert state.model is not None
    return Learned(
        binding=state.binding,
        model=state.model.sha256(),
        threshold=state.threshold,
        effective_labels=state.effective_labels,
    )
