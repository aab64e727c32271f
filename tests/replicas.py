"""Serving replicas as processes over one ledger, and callers that ask all of them all the time."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.commands import Operator
from ingest.stage import Stage
from ingest.topics import KafkaSettings
from online.snapshot import load_state
from online.state import RoutingState
from store.clock import SystemClock
from store.ledger import Ledger
from store.records import TRAFFIC, Decision, JsonObject, Label, Price, RequestId
from tests.contract.apache_kafka import free_ports
from tests.waiting import until

CALLERS = 8
CALL_S = 30.0
CACHE = Path(".run") / "cache"
CLOCK = SystemClock()
RECORDED = {"kind": "recorded"}


def process_ids(stage: Stage) -> dict[str, int]:
    """Return the number of each process of a stage."""
    return {name: process.pid for name, (process, _) in stage._processes.items()}


@dataclass(frozen=True, slots=True)
class Replica:
    """One ``steersman serve`` and where it listens."""

    name: str
    port: int
    stage: Stage

    def start(self) -> None:
        self.stage.start(self.name, ["serve"])

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.stage._processes[self.name][0].kill()
        self.stage.stop(self.name)

    def is_ready(self) -> bool:
        self.stage.check()
        try:
            return self.ask("GET", "/ready")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: JsonObject | None = None) -> tuple[int, JsonObject]:
        """Return the status and the document of one call over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_S)
        try:
            return asked(connection, method, path, body)
        finally:
            connection.close()


def register(operator: Operator) -> None:
    """Make a policy that has everything judged, and two experts to choose from."""
    operator.set_policy({"reference": "strong", "label_rate": "1", "cluster_prompts": "50"})
    operator.add_expert("strong", Price(request_usd=1.0), RECORDED)
    operator.add_expert("cheap", Price(request_usd=0.1), RECORDED)


@contextmanager
def replicas(folder: Path, database_url: str, kafka: KafkaSettings) -> Iterator[list[Replica]]:
    """Yield two ready replicas, with a learner beside them."""
    shared = {
        "STEERSMAN_DATABASE_URL": database_url,
        "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "STEERSMAN_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "STEERSMAN_KAFKA_GROUP_ID": kafka.group_id,
        "STEERSMAN_RUN_DIR": str(folder),
        "STEERSMAN_CACHE_DIR": str(CACHE),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = []
        for number, port in enumerate(free_ports(2), start=1):
            name = f"r-{number}"
            own = {"STEERSMAN_REPLICA": name, "STEERSMAN_HTTP_PORT": str(port)}
            stage = stack.enter_context(Stage(folder, shared | own, CLOCK))
            made.append(Replica(name, port, stage))
        learner = stack.enter_context(
            Stage(folder, shared | {"STEERSMAN_REPLICA": "learn-1"}, CLOCK)
        )
        learner.start("learn", ["learn"])
        for replica in made:
            replica.start()
        until(lambda: all(r.is_ready() for r in made), what="ready replicas", every_s=0.5)
        yield made


@dataclass(slots=True)
class Answer:
    """What a caller was told."""

    replica: str
    request_id: str
    expert: str
    version: int
    risk_target: float
    seconds: float


@dataclass(slots=True)
class Callers:
    """Ask every replica in turn from several threads until the block ends; keep each answer.

    ``pause_s`` is how long a caller rests between two calls.
    """

    replicas: Sequence[Replica]
    texts: Sequence[str]
    pause_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Callers:
        names = [f"caller-{id(self)}-{number}" for number in range(CALLERS)]
        self._threads = [threading.Thread(target=self._run, args=(name,)) for name in names]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def newest(self, replica: str) -> Answer | None:
        """Return the last answer of a replica."""
        return next((a for a in reversed(self.answers) if a.replica == replica), None)

    def have_seen(self, version: int) -> bool:
        """Return whether each replica has decided by this state or a newer one."""
        last = [self.newest(replica.name) for replica in self.replicas]
        return all(a is not None and a.version >= version for a in last)

    def _run(self, name: str) -> None:
        connections = {
            r.name: http.client.HTTPConnection("127.0.0.1", r.port, timeout=CALL_S)
            for r in self.replicas
        }
        for count in itertools.count():
            if self._stop.is_set():
                break
            replica = self.replicas[count % len(self.replicas)]
            self._call(replica.name, connections[replica.name], f"{name}-{count}", count)
            if self.pause_s:
                CLOCK.wait(self._stop, self.pause_s)
        for connection in connections.values():
            connection.close()

    def _call(
        self, replica: str, connection: http.client.HTTPConnection, request_id: str, count: int
    ) -> None:
        text = self.texts[count % len(self.texts)]
        body: JsonObject = {"request_id": request_id, "prompt": text}
        started = CLOCK.monotonic()
        try:
            status, told = asked(connection, "POST", "/v1/routing/decision", body)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            connection.close()
            self.failures.append(f"{replica}: {problem!r}")
            return
        if status != 200:
            self.failures.append(f"{replica}: {status} {told}")
            return
        self.answers.append(
            Answer(
                replica=replica,
                request_id=request_id,
                expert=str(told["expert"]),
                version=int(str(told["state_version"])),
                risk_target=float(str(told["risk_target"])),
                seconds=CLOCK.monotonic() - started,
            )
        )


def asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: JsonObject | None
) -> tuple[int, JsonObject]:
    """Return the status and the document of one call."""
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"content-type": "application/json"})
    reply = connection.getresponse()
    told: JsonObject = json.loads(reply.read())
    return reply.status, told


def active(ledger: Ledger) -> RoutingState:
    """Return the newest state; there must be one."""
    with ledger.begin() as tx:
        record = tx.states.active()
    assert record is not None
    return load_state(record.payload, sha256=record.sha256)


def acknowledged_by(ledger: Ledger, version: int) -> set[str]:
    """Return the replicas that serve this state or a newer one: a replica may skip some."""
    with ledger.begin() as tx:
        newest = tx.states.active_version()
        return {r for v in range(version, newest + 1) for r in tx.states.acknowledged(v)}


def judge_all(ledger: Ledger, answers: Sequence[Answer], *, judge: str = "by-id-1") -> int:
    """Label every sampled request among the answers, all in one transaction; return how many."""
    with ledger.begin() as tx:
        decisions = tx.decisions.find_many([RequestId(a.request_id) for a in answers])
        labels = [
            label
            for decision in decisions.values()
            if decision.is_sampled
            for label in _labels(decision, judge)
        ]
        return tx.labels.add([], labels)


def _labels(decision: Decision, judge: str) -> list[Label]:
    """The reference is always right, the others nine times of ten, by the request's id."""
    good = random.Random(decision.request_id).random() < 0.9  # noqa: S311
    return [
        Label(
            request_id=decision.request_id,
            expert=expert,
            judge_version=judge,
            outcome=int(good or expert == decision.reference),
            score=1.0 if good or expert == decision.reference else 0.0,
            purpose=TRAFFIC,
            labelled_at=CLOCK.now(),
        )
        for expert in (*decision.due_experts, decision.reference)
    ]
