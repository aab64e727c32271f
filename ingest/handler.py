"""What Kafka and HTTP share: decide, store in one transaction, publish after the commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ingest.live import Live
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from ingest.topics import DECISIONS
from ingest.wire import encode_decision
from judge.sampling import (
    drawn_duel,
    due_experts,
    inclusion_probability,
    is_anyone_judged,
    is_drawn,
)
from judge.spending import out_of_money
from online.categories import from_examples
from online.encode import Encoder
from online.folds import fold_of, group_of
from online.route import Choice, fallback, route
from online.state import RoutingState
from store.clock import Clock
from store.duels import Duel
from store.errors import EventRejected, StoreUnavailable
from store.facts import Decided, FailedCall, Recorded, ResponseOutcome
from store.health import CallError
from store.ledger import Ledger, Transaction
from store.money import day_of
from store.records import (
    TRAFFIC,
    Decision,
    ExpertId,
    Feedback,
    Float32Array,
    JudgeTask,
    OutboxMessage,
    PromptReceived,
    Reason,
    RequestId,
    ResponseReceived,
)

log = logging.getLogger(__name__)

_TASKS = "judge_tasks"
"""The budget of judged requests a day."""


class ResponseHandler:
    """The half of ``ingest.ports.Handler`` that needs no encoder and no routing state."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        """Refuse: this role does not decide."""
        raise StoreUnavailable(f"this role does not decide; {len(batch)} prompts wait for `serve`")

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        """Store answers; the judge task of a sampled request appears with its response.

        A failed call is no answer: it counts for its expert's health, and leaves room for the
        answer of another. A sampled request whose call failed is judged all the same, on shadow
        answers: whether it has labels must not depend on how the call went.
        """
        with self._ledger.begin() as tx:
            known = {e.name for e in tx.experts.all()}
            answers = [self._checked(r, known) for r in batch]
            accepted = [a for a in answers if isinstance(a, ResponseReceived)]
            outcomes = iter(self._recorded(tx, accepted))
            results: list[ResponseOutcome | EventRejected] = [
                next(outcomes) if isinstance(a, ResponseReceived) else a for a in answers
            ]
            tx.tasks.add(self._tasks(tx, batch, results))
        return results

    def _recorded(
        self, tx: Transaction, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome]:
        """Store answers and failed calls, each where it belongs."""
        answers = iter(tx.responses.record([r for r in batch if r.error is None]))
        # The decision may come later, or never: the expert's health does not wait for it.
        failed = iter(tx.calls.record([_failed(r, r.error) for r in batch if r.error is not None]))
        return [next(answers) if r.error is None else _outcome(next(failed)) for r in batch]

    def on_feedback(self, feedback: Feedback) -> bool:
        """Store feedback; it never moves λ."""
        with self._ledger.begin() as tx:
            return tx.operations.record_feedback(feedback)

    def _checked(
        self, response: ResponseReceived, known: set[ExpertId]
    ) -> ResponseReceived | EventRejected:
        if response.expert not in known:
            return EventRejected(
                "unknown_expert", "no expert of that name is registered", field="expert"
            )
        return response

    def _tasks(
        self,
        tx: Transaction,
        batch: Sequence[ResponseReceived],
        results: Sequence[ResponseOutcome | EventRejected],
    ) -> list[JudgeTask]:
        pairs = zip(batch, results, strict=True)
        new = [response.request_id for response, result in pairs if result is ResponseOutcome.NEW]
        # Read only now: a decision that commits while the batch is stored takes its answer too.
        decisions = tx.decisions.find_many(set(new))
        found = [decisions[name] for name in new if name in decisions]
        return [self._task(decision) for decision in found if decision.is_sampled]

    def _task(self, decision: Decision) -> JudgeTask:
        return JudgeTask(
            request_id=decision.request_id,
            experts=decision.due_experts,
            purpose=TRAFFIC,
            created_at=self._clock.now(),
            tenant=decision.tenant,
        )


def _failed(response: ResponseReceived, error: CallError) -> FailedCall:
    return FailedCall(
        request_id=response.request_id,
        expert=response.expert,
        source="gateway",
        error=error,
        failed_at=response.received_at,
    )


def _outcome(is_new: bool) -> ResponseOutcome:
    return ResponseOutcome.NEW if is_new else ResponseOutcome.DUPLICATE


class RequestHandler(ResponseHandler):
    """``ingest.ports.Handler``, whole."""

    def __init__(
        self,
        ledger: Ledger,
        live: Live,
        encoder: Encoder,
        outbox: OutboxPublisher,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        super().__init__(ledger, clock)
        self._live = live
        self._encoder = encoder
        self._categories = from_examples(encoder)
        self._outbox = outbox
        self._metrics = metrics

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        """Decide each prompt once; a redelivered one gets its stored decision.

        One routing state serves the whole batch, the newest once its prompts are encoded, and one
        transaction stores it. The judge's daily budget is taken in that transaction: what is
        granted decides π.
        """
        return self._store(*self.decide(batch))

    def decide(
        self, batch: Sequence[PromptReceived], *, degraded: bool = False
    ) -> tuple[list[Decided | EventRejected], RoutingState]:
        """Decide each prompt by one state and store nothing.

        Parameters
        ----------
        degraded
            The ledger is away: a pure function of request id and state version, never sampled.
        """
        self._state()
        started = self._clock.monotonic()
        embeddings = self._encoder.encode([prompt.text for prompt in batch])
        state = self._state()
        encode_us = int(1e6 * (self._clock.monotonic() - started) / max(1, len(batch)))
        decided: list[Decided | EventRejected] = []
        categories = self._categories.names(embeddings)
        for prompt, embedding, category in zip(batch, embeddings, categories, strict=True):
            try:
                one = self._decide(prompt, embedding, category, state, encode_us, degraded=degraded)
            except EventRejected as rejected:
                decided.append(rejected)
            else:
                decided.append(one)
        return decided, state

    def _state(self) -> RoutingState:
        state = self._live.current()
        if state is None:
            raise StoreUnavailable("no routing state is loaded yet; try again")
        return state

    def _decide(
        self,
        prompt: PromptReceived,
        embedding: Float32Array,
        category: str,
        state: RoutingState,
        encode_us: int,
        *,
        degraded: bool,
    ) -> Decided:
        started = self._clock.monotonic()
        group = group_of(prompt.text, prompt.session_id, tenant=prompt.tenant)
        fold = fold_of(group)
        choice = self._routed(prompt, embedding, category, state, fold, degraded=degraded)
        due = due_experts(prompt.request_id, state, choice.retrieved, choice.excluded)
        pi = inclusion_probability(state.policy, prompt.tenant)
        if degraded or choice.reason in {Reason.PINNED, Reason.OFF}:
            pi = 0.0  # the day's budget cannot be asked; pins are outside the promise; off is off
        # Where only this request's needs leave nobody, it is sampled all the same.
        is_sampled = is_anyone_judged(state) and is_drawn(prompt.request_id, pi)
        decision = Decision(
            request_id=prompt.request_id,
            tenant=prompt.tenant,
            decided_at=self._clock.now(),
            expert=choice.expert,
            reason=choice.reason,
            policy=state.policy.policy,
            propensity=choice.propensity,
            inclusion_probability=pi,
            is_sampled=is_sampled,
            due_experts=due,
            reference=state.policy.reference,
            retrieved=choice.retrieved,
            gap=choice.gap,
            gap_confidence=choice.gap_confidence,
            comparator_probability=choice.comparator_probability,
            category=category,
            threshold=state.threshold,
            risk_target=state.policy.alpha,
            effective_labels=state.effective_labels,
            state_version=state.version,
            group=group,
            fold=fold,
            would_serve=choice.would_serve,
            would_reason=choice.would_reason,
            degraded=degraded,
            timings_us={
                "encode": encode_us,
                "route": int(1e6 * (self._clock.monotonic() - started)),
            },
            needs=choice.needs,
            excluded=choice.excluded,
            duel=_duel(prompt.request_id, state, choice) if is_sampled else None,
        )
        return Decided(
            prompt=prompt, decision=decision, embedding=embedding, encoder_hash=state.encoder
        )

    def _routed(
        self,
        prompt: PromptReceived,
        embedding: Float32Array,
        category: str,
        state: RoutingState,
        fold: int,
        *,
        degraded: bool,
    ) -> Choice:
        """Route; learned state can never fail a request, so any surprise serves the reference."""
        try:
            return route(prompt, embedding, state, fold=fold, category=category, degraded=degraded)
        except EventRejected:
            raise
        except Exception:
            log.exception("route.failed", extra={"state_version": state.version})
            return fallback(prompt, state)

    def _store(
        self, decided: Sequence[Decided | EventRejected], state: RoutingState
    ) -> list[Recorded | EventRejected]:
        good = [d for d in decided if isinstance(d, Decided)]
        with self._ledger.begin() as tx:
            good = self._within_budget(tx, good, state)
            recorded = tx.decisions.record(good)
            fresh = [r.decision for r in recorded if r.is_new and r.decision is not None]
            outgoing = tx.outbox.add([announced(decision) for decision in fresh])
            self._judge_failed(tx, [decision for decision in fresh if decision.is_sampled])
            for clash in recorded:
                if clash.is_conflict:
                    tx.operations.record_conflict(
                        clash.request_id, "the id is taken by another prompt", now=self._clock.now()
                    )
        self._outbox.publish_now(outgoing)
        for decision in fresh:
            self._metrics.decided(decision)
        answers = iter(recorded)
        return [next(answers) if isinstance(d, Decided) else d for d in decided]

    def _judge_failed(self, tx: Transaction, sampled: Sequence[Decision]) -> None:
        """Have those judged whose call failed before the decision was stored: unlike an answer,
        which waits for its decision, a failed call does not come again.
        """
        if sampled:
            failed = tx.calls.failed({decision.request_id for decision in sampled})
            tx.tasks.add([self._task(one) for one in sampled if one.request_id in failed])

    def _within_budget(
        self, tx: Transaction, good: Sequence[Decided], state: RoutingState
    ) -> list[Decided]:
        """Take the sampled requests' share of the day's judge budgets; what is not granted is
        recorded with π = 0: sampling has stopped, and the report says "not covered".
        """
        day, limit = day_of(self._clock.now()), state.policy.judge_budget_per_day
        good = _within_money(tx, good, state, day=day)
        sampled = {d.prompt.request_id for d in good if d.decision.is_sampled}
        # A redelivered request has taken its share already.
        decided = tx.decisions.find_many(sampled) if sampled else {}
        wanted = sum(d.decision.is_sampled and d.prompt.request_id not in decided for d in good)
        granted = 0
        if wanted:
            granted = tx.operations.reserve(_TASKS, day=day, amount=wanted, limit=limit)
            if granted == wanted:
                return list(good)
        elif not _is_any_covered(good) or tx.money.used([_TASKS], day=day)[_TASKS] < limit:
            return list(good)
        kept = 0
        within: list[Decided] = []
        for item in good:
            is_first = item.prompt.request_id not in decided
            kept += item.decision.is_sampled and is_first
            spent = not granted or kept > granted
            within.append(_not_sampled(item) if spent else item)
        return within


def _is_any_covered(good: Sequence[Decided]) -> bool:
    return any(d.decision.inclusion_probability for d in good)


def _within_money(
    tx: Transaction, good: Sequence[Decided], state: RoutingState, *, day: str
) -> list[Decided]:
    """Sample nothing that nobody can pay the judging of today."""
    tenants = {d.decision.tenant for d in good if d.decision.inclusion_probability}
    poor = out_of_money(tx, state.policy, tenants, day=day) if tenants else set()
    return [_not_sampled(d) if d.decision.tenant in poor else d for d in good]


def _duel(request_id: RequestId, state: RoutingState, choice: Choice) -> Duel | None:
    return drawn_duel(request_id, state, choice.retrieved, choice.gap_confidence, choice.excluded)


def _not_sampled(item: Decided) -> Decided:
    decision = replace(item.decision, inclusion_probability=0.0, is_sampled=False, duel=None)
    return replace(item, decision=decision)


def announced(decision: Decision) -> OutboxMessage:
    """Return the message that a decision leaves with."""
    return OutboxMessage(topic=DECISIONS, key=decision.request_id, value=encode_decision(decision))
