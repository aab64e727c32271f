"""Judges that compare recorded scores: for replays, the demo and tests."""

from __future__ import annotations

from judge.port import Question, Reply
from online.recorded import RecordedTraffic
from store.errors import VerdictUnreadable
from store.records import ExpertId, RequestId

_ROUNDING = 1e-9


class RecordedJudge:
    """Prefers the higher recorded score; scores within the margin tie; replies with grades.

    Parameters
    ----------
    margin
        The policy's margin: a consistent win or tie against the reference is then exactly
        ``score >= reference score - margin``.
    """

    family = None

    def __init__(self, traffic: RecordedTraffic, *, margin: float) -> None:
        self._traffic = traffic
        self._margin = margin

    @property
    def version(self) -> str:
        return f"recorded-1-margin-{self._margin:g}"

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        a = self._grade(question.request_id, question.expert_a)
        b = self._grade(question.request_id, question.expert_b)
        tied = abs(a - b) <= self._margin + _ROUNDING
        return Reply(preference=0.5 if tied else float(a > b), grade_a=a, grade_b=b)

    def _grade(self, request_id: RequestId, expert: ExpertId) -> float:
        answer = self._traffic.answers.get((request_id, expert))
        if answer is None:
            raise VerdictUnreadable(f"no recorded score of {expert} on {request_id}")
        return answer.score


class PositionBiasedJudge:
    """Always prefers the answer shown first: what a position-blind rule would mistake for ties."""

    version = "position-biased-1"
    family = None

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        return Reply(preference=1.0)


class InvertedJudge:
    """A lying judge: prefers the worse answer and grades upside down."""

    family = None

    def __init__(self, honest: RecordedJudge) -> None:
        self._honest = honest

    @property
    def version(self) -> str:
        return f"inverted-{self._honest.version}"

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        reply = self._honest.compare(question)
        worse = 1.0 - reply.preference
        if reply.grade_a is None or reply.grade_b is None:
            return Reply(preference=worse)
        return Reply(preference=worse, grade_a=1.0 - reply.grade_a, grade_b=1.0 - reply.grade_b)
