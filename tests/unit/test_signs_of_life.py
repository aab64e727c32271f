"""Loops that call models show before every call that they do not hang, and hang in none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from openai._constants import MAX_RETRY_AFTER_DELAY

from ingest.metrics import Metrics
from ingest.roles import Roles, Station
from ingest.settings import ProcessSettings
from judge import sandbox, verifiers
from judge.batch import LEASE_S, LONGEST_CALL_S
from judge.paced import LONGEST_WAIT_S
from judge.pairs import Panel
from judge.patrol import Patrol
from judge.port import Question, Reply
from judge.probing import Prober
from judge.worker import JudgeWorker
from online.chat import CONNECT_S, RETRIES, TIMEOUT_S
from online.clients import Answer
from store.clock import ManualClock
from store.health import Health
from store.memory import MemoryLedger
from store.records import ExpertId, ExpertStatus, RequestId
from tests.factories import CHEAP, NOON, STRONG, decided, expert, message, response, settings, task

MID = ExpertId("mid")
TRY_S = CONNECT_S + 2 * TIMEOUT_S
SLOWEST_CALL_S = (
    LONGEST_WAIT_S * 2
    + (RETRIES + 1) * TRY_S
    + RETRIES * MAX_RETRY_AFTER_DELAY
    + TRY_S  # the harmless trial after a refusal
)


def test_the_longest_call_is_as_long_as_its_parts() -> None:
    assert 300.0 < SLOWEST_CALL_S < LONGEST_CALL_S < LEASE_S
    assert (verifiers.READINGS + 1) * sandbox.WHOLE_S < LONGEST_CALL_S


def test_no_loop_that_calls_models_hangs_during_a_call() -> None:
    quiet: dict[str, float] = {}

    def add(name: str, run: Callable[[threading.Event], None], *, quiet_s: float = 0.0) -> None:
        quiet[name] = quiet_s

    clock = ManualClock(NOON)
    backbone = SimpleNamespace(
        settings=ProcessSettings(), ledger=MemoryLedger(clock=clock), clock=clock, traffic=None
    )
    crew, metrics = SimpleNamespace(add=add), Metrics()
    station = SimpleNamespace(backbone=backbone, crew=crew, metrics=metrics)
    roles = Roles(cast(Station, station))
    vars(roles)["outbox"] = SimpleNamespace(publish_now=print)
    roles.judge()
    assert {"judge-1", "patrol", "prober"} <= set(quiet)
    assert min(quiet.values()) > SLOWEST_CALL_S


class Asked(threading.Event):
    """A stop that knows whether a call was begun without it being asked in between."""

    asked = False

    def is_set(self) -> bool:
        self.asked = True
        return False

    def called(self) -> None:
        assert self.asked
        self.asked = False


class Model:
    """Judge and expert alike."""

    version = "model-1"
    family = "google"

    def __init__(self, stop: Asked) -> None:
        self._stop = stop
        self.calls = 0

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        self._called()
        return Reply(preference=1.0)

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        self._called()
        return Answer(text="x", cost_usd=0.0)

    def _called(self) -> None:
        self.calls += 1
        self._stop.called()


def test_a_worker_asks_before_every_call() -> None:
    stop, clock = Asked(), ManualClock(NOON)
    ledger, model = MemoryLedger(clock=clock), Model(stop)
    with ledger.begin() as tx:
        for name in (CHEAP, MID, STRONG):
            tx.experts.add(expert(name))
        tx.decisions.record([decided("r0", due_experts=(CHEAP, MID))])
        tx.responses.record([response("r0")])
        tx.tasks.add([task("r0", experts=(CHEAP, MID))])
    JudgeWorker(
        ledger,
        lambda: Panel((model,)),
        lambda member: model,
        clock,
        name="w",
        announce=lambda labels: [],
        publish=lambda messages: None,
    ).step(stop)
    assert model.calls == 2 + 2 * 3, "two answers, then each pair three times"


def test_a_patrol_asks_before_every_call() -> None:
    stop, clock = Asked(), ManualClock(NOON)
    model = Model(stop)
    patrol = Patrol(
        MemoryLedger(clock=clock),
        lambda: Panel((model,)),
        clock,
        announce=lambda alert: message("alert"),
        send=lambda messages: None,
    )
    assert len(patrol.ask(model, stop)) * 2 == model.calls > 0


def test_a_prober_asks_before_every_call_and_stops() -> None:
    stop, clock = Asked(), ManualClock(NOON)
    ledger, model = MemoryLedger(clock=clock), Model(stop)
    with ledger.begin() as tx:
        tx.policies.set(settings(), actor="test", now=NOON)
        for name in (CHEAP, MID):
            tx.experts.add(expert(name, status=ExpertStatus.PAUSED, health=Health(since=NOON)))
    prober = Prober(ledger, lambda member: model, clock)
    assert prober.step(stop) == model.calls == 2
    stopped = threading.Event()
    stopped.set()
    clock.advance(86_400.0)
    prober.step(stopped)
    assert model.calls == 2
