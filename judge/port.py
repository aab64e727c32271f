"""What a judge is asked and what it replies: the port that recorded and LLM judges implement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from judge.purse import Bill
from online.clients import Answer
from store.records import ExpertId, RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Two answers to one prompt, in the order shown."""

    request_id: RequestId
    prompt: str
    expert_a: ExpertId
    answer_a: Answer
    expert_b: ExpertId
    answer_b: Answer
    reference_answer: str | None = None
    """What is known to be right, if the prompt came with it."""
    sample: int = 0
    """Which time the same is asked on purpose: a kept verdict is no answer to another time."""
    bill: Bill | None = None
    """What pays for it; nothing that costs is asked without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A readable verdict."""

    preference: float
    """1 the first answer is better, 0.5 tie, 0 the second is better."""
    grade_a: float | None = None
    grade_b: float | None = None
    """Absolute grades in [0, 1], both or neither."""
    cost_usd: float = 0.0


class Judge(Protocol):
    """Compares two answers. It never learns which expert is the reference."""

    @property
    def version(self) -> str:
        """Return what identifies model, template and settings; part of every label's key."""
        ...

    @property
    def family(self) -> str | None:
        """Return who made the model that judges; None if none does, as with recorded scores."""
        ...

    def most_usd(self, question: Question) -> float:
        """Return what one try of ``compare`` can cost at most, in either order of the answers; 0 if
        it costs nothing.
        """
        ...

    def compare(self, question: Question) -> Reply:
        """Return a verdict.

        Raises
        ------
        JudgeUnavailable
            An outage: the task is given back and nothing is counted against it.
        VerdictUnreadable
            The reply is no verdict: retried, then a loss for risk.
        """
        ...
