"""Verdicts that are kept: paid for once, and only for the very same question."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ingest.retention import Retention
from judge.kept import Kept, key_of
from judge.llm import TRIAL
from judge.port import Question, Reply
from online.clients import Answer
from store.clock import ManualClock
from store.errors import VerdictUnreadable
from store.memory import MemoryLedger
from store.records import ExpertId, RequestId
from store.retention import VERDICTS_DAYS, RetentionSettings
from tests.factories import NOON, settings

WORDS = Answer(text="other words", cost_usd=0.0)


class Paid:
    """Charges for every call; a test decides what it says."""

    family = "paid"

    def __init__(self, version: str = "paid-1") -> None:
        self.version = version
        self.calls = 0
        self.reply = Reply(preference=1.0, grade_a=0.75, grade_b=0.25, cost_usd=0.5)
        self.problem: Exception | None = None

    def most_usd(self, question: Question) -> float:
        return 0.75

    def compare(self, question: Question) -> Reply:
        self.calls += 1
        if self.problem is not None:
            raise self.problem
        return self.reply


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def ledger(clock: ManualClock) -> MemoryLedger:
    return MemoryLedger(clock=clock)


def test_the_same_question_costs_once_whoever_asks_and_whatever_the_experts_are_called(
    ledger: MemoryLedger, clock: ManualClock
) -> None:
    paid = Paid()
    assert Kept(paid, ledger, clock).compare(TRIAL) == paid.reply
    paid.reply = Reply(preference=0.0)
    again = replace(TRIAL, request_id=RequestId("r9"), expert_a=ExpertId("x"))
    found = Kept(paid, ledger, clock).compare(again)
    assert found == Reply(preference=1.0, grade_a=0.75, grade_b=0.25, cost_usd=0.0)
    assert paid.calls == 1


CHANGED = (
    {"prompt": "?"},
    {"answer_a": WORDS},
    {"answer_b": WORDS},
    {"answer_a": TRIAL.answer_b, "answer_b": TRIAL.answer_a},
    {"answer_a": Answer(text=None, cost_usd=0.0)},
    {"answer_a": Answer(text="", cost_usd=0.0)},
    {"reference_answer": "5"},
    {"reference_answer": ""},
    {"sample": 1},
    {"prompt": TRIAL.prompt + "5", "answer_a": Answer(text="", cost_usd=0.0)},
)


def test_another_question_another_time_and_another_judge_are_asked_anew(
    ledger: MemoryLedger, clock: ManualClock
) -> None:
    paid = Paid()
    judge = Kept(paid, ledger, clock)
    questions = [TRIAL, *(replace(TRIAL, **changed) for changed in CHANGED)]
    for question in questions:
        judge.compare(question)
    assert paid.calls == len(questions)
    Kept(Paid("paid-2"), ledger, clock).compare(TRIAL)
    keys = {key_of(version, q) for version in ("paid-1", "paid-2") for q in questions}
    assert len(keys) == 2 * len(questions)


def test_what_was_unreadable_is_not_kept(ledger: MemoryLedger, clock: ManualClock) -> None:
    paid = Paid()
    paid.problem = VerdictUnreadable("?")
    judge = Kept(paid, ledger, clock)
    with pytest.raises(VerdictUnreadable):
        judge.compare(TRIAL)
    paid.problem = None
    assert judge.compare(TRIAL).cost_usd == 0.5


def test_it_stays_the_judge_that_it_is(ledger: MemoryLedger, clock: ManualClock) -> None:
    judge = Kept(Paid(), ledger, clock)
    assert (judge.version, judge.family, judge.most_usd(TRIAL)) == ("paid-1", "paid", 0.75)


def test_retention_forgets_what_was_kept_too_long(ledger: MemoryLedger, clock: ManualClock) -> None:
    with ledger.begin() as tx:
        tx.policies.set(settings(), actor="test", now=NOON)
    paid = Paid()
    judge = Kept(paid, ledger, clock)
    judge.compare(TRIAL)
    clock.advance(timedelta(days=VERDICTS_DAYS).total_seconds())
    judge.compare(replace(TRIAL, prompt="?"))
    work = Retention(ledger, clock, RetentionSettings())
    assert " 0 kept verdicts" in list(work.carry_out(work.plan()))[-1]
    clock.advance(1.0)
    assert " 1 kept verdicts" in list(work.carry_out(work.plan()))[-1]
    judge.compare(replace(TRIAL, prompt="?"))
    assert paid.calls == 2
    judge.compare(TRIAL)
    assert paid.calls == 3
