"""A judge whose verdicts are kept, so that the same question is paid for once."""

from __future__ import annotations

import hashlib

from judge.port import Judge, Question, Reply
from store.clock import Clock
from store.judging import KeptVerdict
from store.ledger import Ledger


class Kept:
    """Answers from the kept verdicts at no cost; asks the judge for the others.

    An outage in the middle of a task, a lost lease or a prompt that comes again costs no second
    call. What was unreadable is not kept.
    """

    def __init__(self, judge: Judge, ledger: Ledger, clock: Clock) -> None:
        self._judge = judge
        self._ledger = ledger
        self._clock = clock

    @property
    def version(self) -> str:
        return self._judge.version

    @property
    def family(self) -> str | None:
        return self._judge.family

    def most_usd(self, question: Question) -> float:
        return self._judge.most_usd(question)

    def compare(self, question: Question) -> Reply:
        version = self._judge.version
        key = key_of(version, question)
        with self._ledger.begin() as tx:
            kept = tx.judging.kept([key]).get(key)
        if kept is not None:
            return Reply(preference=kept.preference, grade_a=kept.grade_a, grade_b=kept.grade_b)
        reply = self._judge.compare(question)
        verdict = KeptVerdict(
            key=key,
            judge_version=version,
            preference=reply.preference,
            grade_a=reply.grade_a,
            grade_b=reply.grade_b,
            kept_at=self._clock.now(),
        )
        with self._ledger.begin() as tx:
            tx.judging.keep([verdict])
        return reply


def key_of(version: str, question: Question) -> bytes:
    """Return SHA-256 over all that shapes a verdict, which is no experts' names.

    The version holds model and template. Lengths go before the texts, so that no two questions run
    together to the same bytes.
    """
    shown = (
        version,
        question.prompt,
        question.answer_a.text,
        question.answer_b.text,
        question.reference_answer,
        str(question.sample),
    )
    key = hashlib.sha256()
    for text in shown:
        data = b"" if text is None else text.encode(errors="surrogatepass")
        key.update(f"{-1 if text is None else len(data)}:".encode() + data)
    return key.digest()
