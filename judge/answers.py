"""Gathering the answers that a judge task compares: served, shadow, or asked for now."""

from __future__ import annotations

from dataclasses import dataclass

from online.clients import Answer, ClientFactory
from store.clock import Clock
from store.errors import ExpertUnavailable
from store.ledger import Ledger
from store.records import Expert, ExpertId, JudgeTask, RequestId, ResponseReceived


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything the judge is shown."""

    prompt: str
    reference: ExpertId
    answers: dict[ExpertId, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    prompt: str
    reference: ExpertId
    answers: dict[ExpertId, Answer]
    missing: dict[ExpertId, Expert | None]


class Answers:
    """Finds a task's answers; asks an expert only if there is no answer of it yet."""

    def __init__(self, ledger: Ledger, clients: ClientFactory, clock: Clock) -> None:
        self._ledger = ledger
        self._clients = clients
        self._clock = clock

    def gather(self, task: JudgeTask) -> Gathered | None:
        """Return the answers of the task's experts and of the reference.

        None when the prompt is unknown or was erased. Shadow answers are stored even if a later
        expert stays silent: they have been paid for.

        Raises
        ------
        ExpertUnavailable
            An expert did not answer, or is not registered.
        """
        known = self._known(task)
        if known is None:
            return None
        asked: dict[ExpertId, Answer] = {}
        try:
            for name, expert in known.missing.items():
                if expert is None:
                    raise ExpertUnavailable(f"no expert is called {name!r}")
                asked[name] = self._clients(expert).ask(task.request_id, known.prompt)
        finally:
            self._store(task.request_id, asked)
        return Gathered(
            prompt=known.prompt, reference=known.reference, answers={**known.answers, **asked}
        )

    def _known(self, task: JudgeTask) -> _Known | None:
        with self._ledger.begin() as tx:
            decision = tx.decisions.find(task.request_id)
            prompt = tx.decisions.prompt_text(task.request_id)
            if decision is None or prompt is None:
                return None
            served = tx.responses.find(task.request_id)
            answers: dict[ExpertId, Answer] = {}
            missing: dict[ExpertId, Expert | None] = {}
            for name in (*task.experts, decision.reference):
                found = (
                    served
                    if served is not None and served.expert == name
                    else tx.responses.find_shadow(task.request_id, name)
                )
                if found is None:
                    missing[name] = tx.experts.find(name)
                else:
                    answers[name] = Answer(text=found.text, cost_usd=found.cost_usd or 0.0)
        return _Known(prompt=prompt, reference=decision.reference, answers=answers, missing=missing)

    def _store(self, request_id: RequestId, asked: dict[ExpertId, Answer]) -> None:
        if not asked:
            return
        with self._ledger.begin() as tx:
            for name, answer in asked.items():
                tx.responses.record_shadow(
                    ResponseReceived(
                        request_id=request_id,
                        expert=name,
                        received_at=self._clock.now(),
                        text=answer.text,
                        cost_usd=answer.cost_usd,
                        input_tokens=answer.input_tokens,
                        output_tokens=answer.output_tokens,
                        latency_ms=answer.latency_ms,
                    )
                )
