"""Deciding and storing: one transaction a batch, and no request fails for what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from ingest import handler as handler_module
from ingest.handler import RequestHandler, ResponseHandler
from ingest.live import Live
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.wire import decode_decision
from judge import sampling
from online.categories import UNKNOWN
from online.category_examples import EXAMPLES
from store.clock import ManualClock
from store.errors import EventRejected, StoreUnavailable
from store.facts import Recorded, ResponseOutcome
from store.health import CallError
from store.ledger import Transaction
from store.memory import MemoryLedger
from store.memory_facts import MemoryDecisions, MemoryResponses
from store.money import day_of, judge_budget_of, micro_usd, refusal_of
from store.needs import Capabilities, Needs
from store.policy import OFF
from store.records import (
    OUTSIDE_PROMISE,
    Decision,
    ExpertId,
    ExpertStatus,
    PromptReceived,
    Reason,
    RequestId,
    ResponseReceived,
    TaskStatus,
)
from tests import factories
from tests.unit import state_fakes
from tests.unit.loop_fakes import ClusterEncoder


class CountingLedger:
    """Counts transactions."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.transactions = 0

    def begin(self) -> AbstractContextManager[Transaction]:
        self.transactions += 1
        return self._ledger.begin()

    def lead(self, role: str) -> AbstractContextManager[bool]:
        return self._ledger.lead(role)

    def close(self) -> None:
        self._ledger.close()


class Desk:
    """A handler with a state in force."""

    def __init__(self, **policy: Any) -> None:
        self.clock = ManualClock(factories.NOON)
        self.ledger = CountingLedger(MemoryLedger(clock=self.clock))
        self.broker = MemoryBroker()
        self.encoder = ClusterEncoder()
        self.live = Live(encoder=self.encoder.identity, dimension=self.encoder.dimension)
        outbox = OutboxPublisher(self.ledger, MemorySink(self.broker), self.clock)
        self.handler = RequestHandler(
            self.ledger, self.live, self.encoder, outbox, self.clock, Metrics()
        )
        # A ramping expert is always judged, so that every drawn request has something due.
        state = state_fakes.state(
            statuses={ExpertId("e"): ExpertStatus.SHADOW}, **({"label_rate": 1.0} | policy)
        )
        self.live.swap(replace(state, encoder=self.encoder.identity))
        with self.ledger.begin() as tx:
            for name in state_fakes.NAMES:
                tx.experts.add(factories.expert(name))
        self.ledger.transactions = 0

    def decide(self, *prompts: PromptReceived) -> list[Decision]:
        found = self.handler.on_prompts(prompts)
        return [r.decision for r in found if isinstance(r, Recorded) and r.decision is not None]

    def published(self) -> list[Decision]:
        return [decode_decision(e.value) for e in self.broker.events("router.decisions")]


def asked(request_id: str, cluster: int = 0, **changes: Any) -> PromptReceived:
    text = f"prompt {cluster} {request_id[1:]}"
    return factories.prompt(request_id, **({"text": text} | changes))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_without_a_state_nothing_is_decided_or_stored() -> None:
    desk = Desk()
    desk.live = desk.handler._live = Live(encoder="e", dimension=8)
    with pytest.raises(StoreUnavailable, match="no routing state"):
        desk.handler.on_prompts([asked("r1")])
    assert desk.ledger.transactions == 0
    assert not desk.encoder.asked


def test_the_category_is_told_by_the_nearest_examples(desk: Desk) -> None:
    texts = {kind: texts[0] for kind, texts in EXAMPLES.items()}
    decided = desk.decide(*(asked(kind, text=text) for kind, text in texts.items()))
    assert [d.category for d in decided] == list(texts)
    (far,) = desk.decide(asked("far", text="prompt 7 1"))
    assert far.category == UNKNOWN


def test_a_batch_is_one_transaction_and_one_state(desk: Desk) -> None:
    decided = desk.decide(*(asked(f"r{i}", i % 4) for i in range(8)))
    # One stores the batch; one marks its messages as sent.
    assert desk.ledger.transactions == 2
    assert [d.request_id for d in decided] == [f"r{i}" for i in range(8)]
    assert {d.state_version for d in decided} == {7}


def test_a_route_that_raises_serves_the_reference(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FloatingPointError("prompt text in the message")

    monkeypatch.setattr(handler_module, "route", broken)
    (decided,) = desk.decide(asked("r1"))
    assert (decided.expert, decided.reason) == (state_fakes.STRONG, Reason.ERROR)
    assert decided.propensity == 1.0
    assert [r.getMessage() for r in caplog.records] == ["route.failed"]


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_a_failed_route_enters_no_risk_where_nobody_is_routed(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FloatingPointError

    monkeypatch.setattr(handler_module, "route", broken)
    (decided,) = Desk(mode=mode).decide(asked("r1"))
    assert decided.expert == state_fakes.STRONG
    assert decided.reason in OUTSIDE_PROMISE
    would = (state_fakes.STRONG, Reason.ERROR) if mode == "observe" else (None, None)
    assert (decided.would_serve, decided.would_reason) == would
    assert decided.is_sampled == (mode == "observe")


def test_a_spent_judge_budget_records_pi_0() -> None:
    none = Desk(judge_budget_per_day=0).decide(asked("r1"), asked("r2"))
    assert [(d.inclusion_probability, d.is_sampled) for d in none] == [(0.0, False)] * 2
    two = Desk(judge_budget_per_day=2)
    first = two.decide(*(asked(f"r{i}") for i in range(4)))
    assert [d.is_sampled for d in first] == [True, True, False, False]
    assert [d.inclusion_probability for d in first] == [1.0, 1.0, 0.0, 0.0]
    two.clock.advance(24 * 3600.0)
    assert two.decide(asked("r9"))[0].is_sampled


def test_requests_that_nobody_can_pay_the_judging_of_are_recorded_with_pi_0() -> None:
    desk = Desk()
    limit = micro_usd(factories.settings().judge_usd_per_tenant_day)
    with desk.ledger.begin() as tx:
        day = day_of(desk.clock.now())
        poor = refusal_of(judge_budget_of("acme"))
        tx.operations.reserve(poor, day=day, amount=limit + 1, limit=limit + 1)
    acme, other = desk.decide(asked("r1", tenant="acme"), asked("r2"))
    assert (acme.inclusion_probability, acme.is_sampled) == (0.0, False)
    assert (other.inclusion_probability, other.is_sampled) == (1.0, True)
    desk.clock.advance(12 * 3600.0)
    assert desk.decide(asked("r3", tenant="acme"))[0].is_sampled


def test_where_sampling_has_stopped_pi_is_0_for_those_too_who_would_not_have_been_sampled() -> None:
    """Else the report would name a twentieth of the requests that it does not cover, at 5 %."""
    names = [f"r{number}" for number in range(60)]
    counted = Desk(label_rate=0.2, judge_budget_per_day=1)
    found = [counted.decide(asked(name))[0] for name in names]
    (first,) = (place for place, one in enumerate(found) if one.is_sampled)
    refused = next(p for p, one in enumerate(found) if p > first and not one.inclusion_probability)
    assert {one.inclusion_probability for one in found[refused:]} == {0.0}
    paid = Desk(label_rate=0.2)
    limit = micro_usd(factories.settings().judge_usd_per_tenant_day)
    with paid.ledger.begin() as tx:
        poor = refusal_of(judge_budget_of("acme"))
        day = day_of(paid.clock.now())
        tx.operations.reserve(poor, day=day, amount=limit + 1, limit=limit + 1)
    shares = [paid.decide(asked(name, tenant="acme"))[0].inclusion_probability for name in names]
    assert shares == [0.0] * len(names)


def test_a_tenant_that_opted_out_is_routed_and_never_sampled() -> None:
    desk = Desk(unjudged_tenants="acme,bolt")
    acme, other = desk.decide(asked("r1", tenant="acme"), asked("r2"))
    assert (acme.inclusion_probability, acme.is_sampled) == (0.0, False)
    assert acme.propensity > 0.0
    assert other.is_sampled


def test_only_sampled_requests_have_duels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "OF_ANY_PAIR", 1.0 - sampling.OF_THE_REFERENCE)
    desk = Desk(unjudged_tenants="acme", judge_budget_per_day=1)
    acme, mine, late = desk.decide(asked("r1", tenant="acme"), asked("r2"), asked("r3"))
    assert (acme.duel, late.duel) == (None, None)
    assert (late.is_sampled, late.inclusion_probability) == (False, 0.0)
    assert mine.duel is not None
    assert desk.published()[1].duel == mine.duel
    with desk.ledger.begin() as tx:
        assert tx.decisions.find(RequestId("r2")) == mine
    (off,) = Desk(mode=OFF).decide(asked("r2"))
    (pinned,) = Desk().decide(asked("r2", pinned_expert=ExpertId("a")))
    assert (off.duel, pinned.duel) == (None, None)


def test_a_rejected_prompt_costs_no_other(desk: Desk) -> None:
    found = desk.handler.on_prompts(
        [asked("r1"), asked("r2", pinned_expert=ExpertId("ghost")), asked("r3")]
    )
    assert isinstance(found[1], EventRejected)
    assert [r.request_id for r in found if isinstance(r, Recorded)] == ["r1", "r3"]


def test_another_prompt_under_one_id_is_a_conflict(desk: Desk) -> None:
    (first,) = desk.decide(asked("r1"))
    (clash,) = desk.handler.on_prompts([factories.prompt("r1", text="prompt 2 99")])
    assert isinstance(clash, Recorded)
    assert clash.is_conflict
    with desk.ledger.begin() as tx:
        assert tx.decisions.find(RequestId("r1")) == first


def test_what_a_request_needs_is_stored_shown_and_sampled_alike(desk: Desk) -> None:
    """Nobody but the reference can serve: sampled all the same, with nobody due."""
    able = Capabilities(tools=True)
    state = desk.live.current()
    assert state is not None
    pool = tuple(
        replace(m, capabilities=able) if m.name == state_fakes.STRONG else m for m in state.pool
    )
    desk.live.swap(replace(state, version=8, pool=pool))
    (decided,) = desk.decide(asked("r1", needs=Needs(tools=True)))
    others = set(state_fakes.NAMES) - {state_fakes.STRONG}
    assert (decided.expert, decided.due_experts) == (state_fakes.STRONG, ())
    assert decided.excluded == dict.fromkeys(others, "tools")
    assert decided.is_sampled
    with desk.ledger.begin() as tx:
        (held,) = tx.decisions.sampled([decided.request_id], encoder=desk.encoder.identity)
    assert held.needs == decided.needs
    sent = decode_decision(desk.broker.events("router.decisions")[0].value)
    assert (sent.excluded, sent.needs) == (decided.excluded, decided.needs)
    refused = desk.handler.on_prompts([asked("r2", needs=Needs(json_mode=True))])[0]
    assert isinstance(refused, EventRejected)
    assert refused.code == "reference_cannot_serve"


def test_sampling_depends_on_the_pool_and_not_on_needs(desk: Desk) -> None:
    """An expert that is not judged yet and lacks an ability must not decide who is sampled."""
    state = desk.live.current()
    assert state is not None
    able = Capabilities(tools=True)

    def sampled(status: ExpertStatus) -> list[bool]:
        pool = tuple(
            replace(m, capabilities=able)
            if m.name == state_fakes.STRONG
            else replace(m, status=status)
            for m in state.pool
        )
        desk.live.swap(replace(state, version=state.version + 1, pool=pool))
        asking = [
            asked(f"{status}{i}", needs=Needs(tools=bool(i % 2)), text=f"prompt 0 {i}")
            for i in range(4)
        ]
        return [d.is_sampled for d in desk.decide(*asking)]

    assert sampled(ExpertStatus.REGISTERED) == [False] * 4
    assert sampled(ExpertStatus.DESCRIBED) == [False] * 4
    assert sampled(ExpertStatus.SHADOW) == [True] * 4


def test_a_pin_is_outside_the_promise(desk: Desk) -> None:
    (decided,) = desk.decide(asked("r1", pinned_expert=ExpertId("a")))
    assert (decided.expert, decided.reason) == ("a", Reason.PINNED)
    assert (decided.inclusion_probability, decided.is_sampled) == (0.0, False)


def test_a_redelivery_after_midnight_is_the_same_decision(desk: Desk) -> None:
    desk.clock.advance(12 * 3600.0 - 1.0)
    (before,) = desk.decide(asked("r1"))
    desk.clock.advance(2.0)
    (again,) = desk.handler.on_prompts([asked("r1", received_at=desk.clock.now())])
    assert isinstance(again, Recorded)
    assert not again.is_new
    assert again.decision == before
    assert before.decided_at.date() != desk.clock.now().date()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_only_a_sampled_request_is_judged(rate: float) -> None:
    desk = Desk(label_rate=rate)
    (decided,) = desk.decide(asked("r1"))
    answer = factories.response("r1", expert=decided.expert)
    assert desk.handler.on_responses([answer]) == [ResponseOutcome.NEW]
    assert desk.handler.on_responses([answer]) == [ResponseOutcome.DUPLICATE]
    with desk.ledger.begin() as tx:
        tasks = tx.tasks.counts()
    assert tasks.get(TaskStatus.PENDING, 0) == int(decided.is_sampled) == int(rate)


def test_a_decision_that_commits_while_its_answer_is_stored_is_judged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it was looked up before; the answer was then new and nobody's task."""

    def after_the_decision(
        responses: MemoryResponses, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome]:
        MemoryDecisions(responses._journal).record([factories.decided("r1")])
        return [responses._record(response) for response in batch]

    monkeypatch.setattr(MemoryResponses, "record", after_the_decision)
    answer = factories.response("r1", expert=state_fakes.STRONG)
    assert desk.handler.on_responses([answer]) == [ResponseOutcome.NEW]
    with desk.ledger.begin() as tx:
        assert tx.tasks.counts()["pending"] == 1


def test_a_response_of_an_unknown_expert_costs_no_other(desk: Desk) -> None:
    (decided,) = desk.decide(asked("r1"))
    found = desk.handler.on_responses(
        [
            factories.response("r1", expert=ExpertId("ghost")),
            factories.response("r1", expert=decided.expert),
            factories.response("nobody", expert=decided.expert),
        ]
    )
    assert isinstance(found[0], EventRejected)
    assert found[0].code == "unknown_expert"
    assert found[1:] == [ResponseOutcome.NEW, ResponseOutcome.UNKNOWN_REQUEST]


def test_a_failed_call_is_no_answer_and_leaves_room_for_one(desk: Desk) -> None:
    """It counts once for the expert's health, and the request is judged on shadow answers."""
    (decided,) = desk.decide(asked("r1"))
    timeout = factories.response("r1", expert=decided.expert, error=CallError.TIMEOUT, text=None)
    early = factories.response("later", expert=decided.expert, error=CallError.TIMEOUT)
    found = desk.handler.on_responses([timeout, timeout, early])
    assert found == [ResponseOutcome.NEW, ResponseOutcome.DUPLICATE, ResponseOutcome.NEW]
    with desk.ledger.begin() as tx:
        assert tx.responses.find(decided.request_id) is None
        assert tx.tasks.counts()["pending"] == 1
        failed = tx.calls.failures(decided.expert, after=factories.NOON, limit=9)
    assert {(f.request_id, f.error) for f in failed} == {("r1", "timeout"), ("later", "timeout")}
    answer = factories.response("r1", expert=state_fakes.STRONG)
    assert desk.handler.on_responses([answer]) == [ResponseOutcome.NEW]
    with desk.ledger.begin() as tx:
        assert tx.responses.find(decided.request_id) == answer
        assert tx.tasks.counts()["pending"] == 1


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_call_that_failed_before_its_decision_was_stored_is_judged_all_the_same(
    rate: float,
) -> None:
    desk = Desk(label_rate=rate)
    early = factories.response("r1", expert=state_fakes.STRONG, error=CallError.REFUSED, text=None)
    assert desk.handler.on_responses([early]) == [ResponseOutcome.NEW]
    decided, _ = desk.decide(asked("r1"), asked("r2"))
    with desk.ledger.begin() as tx:
        tasks = tx.tasks.lease(worker="w", now=desk.clock.now(), lease_s=9.0, limit=9)
    expected = [("r1", decided.due_experts)] if rate else []
    assert [(task.request_id, task.experts) for task in tasks] == expected
    assert decided.is_sampled == bool(rate)
    assert desk.handler.on_responses([early]) == [ResponseOutcome.DUPLICATE]
    desk.decide(asked("r1"))
    with desk.ledger.begin() as tx:
        assert sum(tx.tasks.counts().values()) == len(expected)


def test_the_response_side_does_not_decide(desk: Desk) -> None:
    with pytest.raises(StoreUnavailable, match="wait for `serve`"):
        ResponseHandler(desk.ledger, desk.clock).on_prompts([asked("r1")])
