"""Pairs for people to judge, blind: which, in which order, and what they said.

The audit is the second phase of sampling: requests were drawn for the judge with π, and of the
judged pairs a person sees some. Every pair has a fixed place, a hash of its request and expert
divided by the share of its stratum, and people take the pairs by place. So wherever they stop, on
however many days, what they saw is a sample with probabilities in these very shares; a second
person meets the same pairs; and new pairs fall in between, not behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from online.chance import draw
from store.clock import Clock
from store.errors import NotFound
from store.judging import AuditCandidate, AuditedPair
from store.ledger import Ledger, Transaction
from store.records import ExpertId, RequestId

ACCEPTED_SHARE, REJECTED_SHARE = 0.25, 1.0
"""Of the pairs that the judge accepted, a quarter is drawn, of the others all.

e1 = P(judge accepts | truly bad) needs truly bad pairs of both kinds. Most of what a judge accepts
is good, most of what it rejects is bad. For a judge that accepts 85 %, a twentieth of it wrongly,
and rejects rightly in 6 of 10 cases, this takes half as many answers as a uniform audit to reach
100 bad pairs, and leaves the log-odds of e1 within a seventh of the least variance that the same
number of answers can give.
"""
NEWEST = 20_000
"""Judged pairs among which the audit draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a person sees: no name of an expert, and nothing of what the judge said."""

    candidate: AuditCandidate
    prompt: str
    first: str
    second: str
    is_expert_first: bool


class Auditing:
    """One person's audit of the judge whose labels count now.

    Parameters
    ----------
    auditor
        Who answers; a name, the same each time.
    """

    def __init__(self, ledger: Ledger, clock: Clock, *, auditor: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._auditor = auditor

    def due(self) -> list[AuditCandidate]:
        """Return the pairs that this person has not answered, in the order to take them.

        Raises
        ------
        NotFound
            Nothing was judged yet.
        """
        with self._ledger.begin() as tx:
            candidates = judged_pairs(tx)
            audited = tx.judging.audited()
        seen = {(p.request_id, p.expert) for p in audited if p.auditor == self._auditor}
        return drawn(candidates, without=seen)

    def show(self, candidate: AuditCandidate) -> Shown | None:
        """Return a pair's texts in an order drawn for this person; None if one is gone by now."""
        name = candidate.request_id
        with self._ledger.begin() as tx:
            prompt = tx.decisions.prompt_text(name)
            theirs = text_of(tx, name, candidate.expert)
            references = text_of(tx, name, candidate.reference)
        if prompt is None or theirs is None or references is None:
            return None
        is_first = draw(f"audit-order\x1f{self._auditor}\x1f{candidate.expert}", name) < 0.5
        first, second = (theirs, references) if is_first else (references, theirs)
        return Shown(
            candidate=candidate,
            prompt=prompt,
            first=first,
            second=second,
            is_expert_first=is_first,
        )

    def answer(self, shown: Shown, preference: float) -> bool:
        """Store what the person said, at once; False if it was said before.

        Parameters
        ----------
        preference
            1 the first answer is better, 0.5 as good, 0 the second is better.
        """
        pair = shown.candidate
        said = AuditedPair(
            request_id=pair.request_id,
            expert=pair.expert,
            auditor=self._auditor,
            reference=pair.reference,
            preference=preference if shown.is_expert_first else 1.0 - preference,
            judge_version=pair.judge_version,
            judge_outcome=pair.outcome,
            inclusion_probability=pair.inclusion_probability * share_of(pair),
            category=pair.category,
            audited_at=self._clock.now(),
        )
        with self._ledger.begin() as tx:
            return tx.judging.audit_pair(said)


def judged_pairs(tx: Transaction) -> list[AuditCandidate]:
    """Return the newest judged pairs of the judge whose labels count now.

    Raises
    ------
    NotFound
        Nothing was judged yet.
    """
    version = tx.judging.newest_version()
    if version is None:
        raise NotFound("nothing_judged", "no judge has judged anything yet: let traffic come first")
    return tx.judging.auditable(version, limit=NEWEST)


def drawn(
    candidates: Iterable[AuditCandidate], *, without: Collection[tuple[RequestId, ExpertId]] = ()
) -> list[AuditCandidate]:
    """Return the candidates that the audit draws, by place, without those answered already."""
    placed = [(place(one), one.request_id, one.expert, one) for one in candidates]
    return [one for at, *name, one in sorted(placed) if at < 1.0 and tuple(name) not in without]


def place(candidate: AuditCandidate) -> float:
    """Return a pair's place in the audit; below 1 it is drawn, with the share of its stratum."""
    number = draw(f"audit\x1f{candidate.expert}", candidate.request_id)
    return number / share_of(candidate)


def share_of(candidate: AuditCandidate) -> float:
    """Return the probability with which the audit draws a pair, given that it was judged."""
    return ACCEPTED_SHARE if candidate.outcome else REJECTED_SHARE


def text_of(tx: Transaction, request_id: RequestId, expert: ExpertId) -> str | None:
    """Return an expert's answer, served or shadow; None if there is none or its text is gone."""
    served = tx.responses.find(request_id)
    if served is not None and served.expert == expert:
        return served.text
    shadow = tx.responses.find_shadow(request_id, expert)
    return shadow.text if shadow is not None else None
