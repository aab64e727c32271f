"""What the calls on one pair of answers come to: both orders, a third call, one to three judges.

A judge is asked in both orders, and a third time if they disagree. Of a panel two judges are asked,
and the third only where it can still bring about what two of them agree on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from judge.aggregate import PairResult, is_settled, pair_result
from judge.port import Judge, Question, Reply
from judge.purse import Bill
from online.chance import draw
from online.clients import Answer
from online.costs import TRIES
from store.clock import Clock
from store.errors import JudgeUnavailable, VerdictUnreadable
from store.judging import panel_version
from store.money import micro_usd
from store.records import ExpertId, RequestId, Verdict

log = logging.getLogger(__name__)

UNREADABLE_TRIES = 2
CALLS = 3
"""Of one judge on one pair, at most."""
UNRELATED_RETRY_S = 300.0
"""A task that no judge may do waits this long, and leaves its place to those that one may."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Who judges: one judge, or up to three that are asked in this order."""

    judges: tuple[Judge, ...]

    @property
    def version(self) -> str:
        """Return the one judge's version, or one that tells every member of the panel."""
        versions = [judge.version for judge in self.judges]
        return versions[0] if len(versions) == 1 else panel_version(versions)

    def unrelated_to(self, families: Sequence[str | None]) -> tuple[Judge, ...]:
        """Return the judges of none of these families.

        Raises
        ------
        JudgeUnavailable
            None is left.
        """
        found = tuple(j for j in self.judges if j.family is None or j.family not in families)
        if not found:
            own = ", ".join(sorted({str(judge.family) for judge in self.judges}))
            raise JudgeUnavailable(
                f"every judge is of the family of an expert that it would judge ({own}): add a"
                " judge of another family (STEERSMAN_SECOND_JUDGE_BASE_URL and _MODEL); if the"
                " family is told wrong by the model's name, set STEERSMAN_JUDGE_FAMILY or"
                " client.family of the expert",
                retry_after_s=UNRELATED_RETRY_S,
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An expert's answer beside the reference's; in a duel, beside another's."""

    request_id: RequestId
    prompt: str
    expert: ExpertId
    reference: ExpertId
    answers: Mapping[ExpertId, Answer]
    reference_answer: str | None = None
    bill: Bill | None = None
    """What pays for the verdicts."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The verdicts on one pair, all of which were paid for."""

    verdicts: tuple[Verdict, ...]
    is_readable: bool
    """False if the judges' replies stayed unreadable and what was readable decides nothing."""


class Pairs:
    """Has pairs of answers compared.

    Parameters
    ----------
    before_call
        Called before every call of a judge; raises ``LeaseLost`` to prevent it.
    """

    def __init__(self, clock: Clock, *, before_call: Callable[[], None]) -> None:
        self._clock = clock
        self._before_call = before_call

    def compare(self, pair: Pair, judges: Sequence[Judge]) -> Compared:
        """Ask as many judges as are needed.

        Raises ``JudgeUnavailable`` at the first outage: two judges of three are another panel.
        """
        verdicts: list[Verdict] = []
        results: list[PairResult | None] = []
        for judge in judges:
            if len(results) == 2 and not _third_can_decide(results):
                break
            said, is_readable = self._by_one(pair, judge)
            verdicts += said
            results.append(pair_result(said, pair.expert) if is_readable else None)
        is_decided = any(
            result is not None and result.is_consistent and results.count(result) > 1
            for result in results
        )
        return Compared(tuple(verdicts), is_readable=is_decided or None not in results)

    def _by_one(self, pair: Pair, judge: Judge) -> tuple[list[Verdict], bool]:
        """Return one judge's verdicts; False if a call stayed unreadable and ended them."""
        orders = [(pair.expert, pair.reference), (pair.reference, pair.expert)]
        verdicts: list[Verdict] = []
        for call in range(CALLS):
            if call == 2 and is_settled(verdicts, pair.expert):
                break
            drawn = int(2 * draw(f"third-call-{pair.expert}", pair.request_id))
            a, b = orders[drawn if call == 2 else call]
            question = _question(pair, a, b, sample=int(call == 2))
            reply = self._ask(question, judge)
            if reply is None:
                return verdicts, False
            verdicts.append(self._verdict(question, reply, judge, call))
        return verdicts, True

    def _ask(self, question: Question, judge: Judge) -> Reply | None:
        """Return a readable reply, at the cost of all that it took; None if none came."""
        spent = 0.0
        for _ in range(UNREADABLE_TRIES):
            self._before_call()
            try:
                reply = judge.compare(question)
                return replace(reply, cost_usd=spent + reply.cost_usd)
            except VerdictUnreadable as problem:
                spent += problem.cost_usd
                log.warning(
                    "judge.verdict_unreadable",
                    extra={
                        "request_id": question.request_id,
                        "problem": str(problem),
                        "cost_usd": problem.cost_usd,
                    },
                )
        return None

    def _verdict(self, question: Question, reply: Reply, judge: Judge, call: int) -> Verdict:
        return Verdict(
            request_id=question.request_id,
            expert_a=question.expert_a,
            expert_b=question.expert_b,
            judge_version=judge.version,
            call=call,
            preference=reply.preference,
            grade_a=reply.grade_a,
            grade_b=reply.grade_b,
            judged_at=self._clock.now(),
            cost_usd=reply.cost_usd,
        )


def _question(pair: Pair, a: ExpertId, b: ExpertId, *, sample: int) -> Question:
    return Question(
        request_id=pair.request_id,
        prompt=pair.prompt,
        expert_a=a,
        answer_a=pair.answers[a],
        expert_b=b,
        answer_b=pair.answers[b],
        reference_answer=pair.reference_answer,
        sample=sample,
        bill=pair.bill,
    )


def most_micro_usd(pairs: Sequence[tuple[Pair, Sequence[Judge]]]) -> int:
    """Return what all the calls on these pairs can cost: each judge disagrees with itself, is asked
    twice each time, and one call loses all its tries but the last.
    """
    tries = [
        micro_usd(judge.most_usd(_question(pair, pair.expert, pair.reference, sample=0)))
        for pair, judges in pairs
        for judge in judges
    ]
    return CALLS * UNREADABLE_TRIES * sum(tries) + (TRIES - 1) * max(tries, default=0)


def _third_can_decide(two: Sequence[PairResult | None]) -> bool:
    """Return whether a third result can make two consistent ones equal that are not so yet."""
    consistent = [result for result in two if result is not None and result.is_consistent]
    return bool(consistent) and not (len(consistent) == 2 and consistent[0] == consistent[1])
