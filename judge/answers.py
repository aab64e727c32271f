"""Gathering the answers that a judge task compares: served, shadow, or asked for now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from judge.families import family_of_expert
from online.clients import RECORDED, Answer, ClientFactory
from store.clock import Clock
from store.duels import DUEL, Duel
from store.errors import ExpertUnavailable
from store.facts import FailedCall
from store.ledger import Ledger
from store.records import (
    Expert,
    ExpertId,
    ExpertStatus,
    JudgeTask,
    RequestId,
    ResponseReceived,
)

NOT_TO_BE_SEEN = "the prompt is unknown or was erased, or its tenant is not judged"
"""Why a task of which nothing is known ends."""
_GONE = frozenset({ExpertStatus.PAUSED, ExpertStatus.RETIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything the judge is shown."""

    prompt: str
    tenant: str
    reference: ExpertId
    answers: dict[ExpertId, Answer]
    """Of the task's experts and, but for a duel, of the reference; without those that left the
    pool."""
    silent: dict[ExpertId, str]
    """Experts that never answered, with the last problem; a loss for risk."""
    families: dict[ExpertId, str]
    """Of the experts that the ledger knows."""
    check: str | None
    """The check that came with the prompt, as JSON."""
    margin: float
    """Of the policy in force: how far below the reference's grade is still acceptable."""
    duel: Duel | None
    """The pair that was drawn with the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the ledger holds of a task, before anybody is asked."""

    prompt: str
    tenant: str
    reference: ExpertId
    answers: dict[ExpertId, Answer]
    missing: list[Expert]
    """Who is still to be asked. Experts that were retired or paused since are not: nobody asks
    them any more."""
    families: dict[ExpertId, str]
    check: str | None
    margin: float
    duel: Duel | None

    @property
    def has_contestants(self) -> bool:
        """Return whether another expert than the reference answered, or can still be asked."""
        return bool({*self.answers, *(one.name for one in self.missing)} - {self.reference})


class Answers:
    """Finds a task's answers; asks an expert only if there is no answer of it yet.

    Parameters
    ----------
    before_call
        Called before every expert is asked; raises ``LeaseLost`` to prevent it.
    """

    def __init__(
        self,
        ledger: Ledger,
        clients: ClientFactory,
        clock: Clock,
        *,
        before_call: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clients = clients
        self._clock = clock
        self._before_call = before_call

    def gather(self, task: JudgeTask, known: Known, *, last_try: bool) -> Gathered:
        """Return the answers of the task's experts and of the reference, which a duel of two others
        does without; ask for what is missing.

        Experts that left are left out. Shadow answers are stored even if a later expert stays
        silent: they have been paid for.

        Parameters
        ----------
        last_try
            Do without the experts that stay silent, so that they cost the others nothing.

        Raises
        ------
        ExpertUnavailable
            An expert did not answer (on the last try: the reference did not), or the reference has
            left the pool.
        JudgeUnavailable
            The budget for shadow answers is spent.
        LeaseLost
            Another worker has the task.
        """
        reachable = {*known.answers, *(expert.name for expert in known.missing)}
        if task.purpose != DUEL and known.reference not in reachable:
            raise ExpertUnavailable(f"the reference {known.reference} has left the pool")
        asked: dict[ExpertId, Answer] = {}
        failed: list[FailedCall] = []
        silent: dict[ExpertId, str] = {}
        try:
            for expert in known.missing:
                self._before_call()
                try:
                    asked[expert.name] = self._clients(expert).ask(task.request_id, known.prompt)
                except ExpertUnavailable as problem:
                    failed += self._failures(task, expert.name, problem)
                    if not last_try or expert.name == known.reference:
                        raise
                    silent[expert.name] = str(problem)
        finally:
            self._store(task.request_id, asked, failed)
        return Gathered(
            prompt=known.prompt,
            tenant=known.tenant,
            reference=known.reference,
            answers={**known.answers, **asked},
            silent=silent,
            families=known.families,
            check=known.check,
            margin=known.margin,
            duel=known.duel,
        )

    def again(self, task: JudgeTask, name: ExpertId, prompt: str) -> Answer | None:
        """Return a second answer of an expert, which is not stored; None of one whose answers are
        recorded: it has only the one.

        Raises
        ------
        ExpertUnavailable, JudgeUnavailable, LeaseLost
            As of ``gather``.
        """
        with self._ledger.begin() as tx:
            expert = tx.experts.find(name)
        if expert is None or expert.client.get("kind") == RECORDED:
            return None
        self._before_call()
        try:
            return self._clients(expert).ask(task.request_id, prompt)
        except ExpertUnavailable as problem:
            self._store(task.request_id, {}, self._failures(task, name, problem))
            raise

    def known(self, task: JudgeTask) -> Known | None:
        """Return what is known of a task; None when nobody may see the prompt: it is unknown or was
        erased, or its tenant opted out of judging.
        """
        with self._ledger.begin() as tx:
            decision = tx.decisions.find(task.request_id)
            prompt = tx.decisions.prompt_text(task.request_id)
            policy = tx.policies.current()
            if decision is None or prompt is None:
                return None
            if policy is not None and decision.tenant in policy[1].opted_out:
                return None
            served = tx.responses.find(task.request_id)
            answers: dict[ExpertId, Answer] = {}
            missing: list[Expert] = []
            families: dict[ExpertId, str] = {}
            # A duel is of two others, or of the reference with itself: then it is among them.
            with_them = () if task.purpose == DUEL else (decision.reference,)
            for name in dict.fromkeys((*task.experts, *with_them)):
                expert = tx.experts.find(name)
                if task.purpose == DUEL and expert is not None and expert.status in _GONE:
                    continue  # nobody ranks who is out of the pool
                if expert is not None:
                    families[name] = family_of_expert(expert)
                found = (
                    served
                    if served is not None and served.expert == name
                    else tx.responses.find_shadow(task.request_id, name)
                )
                if found is not None:
                    answers[name] = Answer(text=found.text, cost_usd=found.cost_usd or 0.0)
                elif expert is not None and expert.status not in _GONE:
                    missing.append(expert)
            check = tx.decisions.prompt_check(task.request_id)
        return Known(
            prompt=prompt,
            tenant=decision.tenant,
            reference=decision.reference,
            answers=answers,
            missing=missing,
            families=families,
            check=check,
            margin=0.0 if policy is None else policy[1].margin,
            duel=decision.duel,
        )

    def _failures(
        self, task: JudgeTask, expert: ExpertId, problem: ExpertUnavailable
    ) -> list[FailedCall]:
        """Return what the failure says of the expert's health; nothing if nothing was called."""
        if problem.error is None:
            return []
        call = FailedCall(
            request_id=task.request_id,
            expert=expert,
            source=f"judge-{task.task_id}-{task.attempts}",
            error=problem.error,
            failed_at=self._clock.now(),
        )
        return [call]

    def _store(
        self,
        request_id: RequestId,
        asked: dict[ExpertId, Answer],
        failed: Sequence[FailedCall],
    ) -> None:
        if not asked and not failed:
            return
        with self._ledger.begin() as tx:
            tx.calls.record(failed)
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
