"""Judges of several workers, left alone and killed at random: each verdict counts once."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from contextlib import closing
from functools import partial

import pytest

import judge.batch
from ingest.announce import announce_alert
from ingest.judging import client_factory
from judge.kept import Kept
from judge.paced import Paced
from judge.pairs import Panel
from judge.port import Question, Reply
from judge.purse import Purse
from judge.spending import BudgetedJudge
from judge.trusted import Trusted
from judge.worker import JudgeWorker
from store.clock import SystemClock
from store.ledger import Ledger
from store.money import JUDGE, day_of
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import Label, RequestId, Verdict
from tests.factories import CHEAP, STRONG, decided, expert, message, response, settings, task
from tests.faults.crashing import RoleProcess
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

REQUESTS = 240
TENANTS = ("acme", "bell", "default")
WORKERS = 4
PROCESSES = 2
KILLS = 8
LONGEST_LIFE_S = 0.2
"""From its first lease on."""
LEASE_S = 1.0
RETRY_AFTER_S = 0.1
"""Only time is shortened."""
CALL_S = 0.004
CALL_USD = 0.001
PATIENCE_S = 60.0
SEED = 20_261_125
CLOCK = SystemClock()

_CONTEXT = multiprocessing.get_context("forkserver")


class QuickJudge:
    """Answers in a moment, long enough to be killed in."""

    version = "quick-1"
    family: str | None = None

    def most_usd(self, question: Question) -> float:
        return CALL_USD

    def compare(self, question: Question) -> Reply:
        time.sleep(CALL_S)
        return Reply(preference=0.5, cost_usd=CALL_USD)


def work(ledger: PostgresLedger, stop: threading.Event, name: str) -> list[threading.Thread]:
    """Start the workers of one process as the role does: all but the worker itself is shared."""
    purse = Purse(ledger, CLOCK, announce=announce_alert, publish=lambda _: None)
    paced = Paced(QuickJudge(), CLOCK, calls_per_s=0.0, concurrency=WORKERS - 1)
    panel = Panel((Kept(BudgetedJudge(paced, purse), ledger, CLOCK),))
    trusted = Trusted(lambda: panel, ledger, CLOCK)
    clients = client_factory(None)

    def run(number: int) -> None:
        worker = JudgeWorker(
            ledger,
            trusted,
            clients,
            CLOCK,
            name=f"{name}-{number}",
            announce=lambda labels: [message(f"{x.request_id} {x.expert}") for x in labels],
            publish=lambda _: None,
        )
        with closing(ledger.notifications()) as hints:
            worker.run(stop, hints)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    return threads


def live(url: str, name: str) -> None:
    """Be a judge's process, until killed."""
    judge.batch.LEASE_S, judge.batch.RETRY_AFTER_S = LEASE_S, RETRY_AFTER_S
    with closing(PostgresLedger(url, clock=CLOCK)) as ledger:
        for thread in work(ledger, threading.Event(), name):
            thread.join()


def fill(ledger: Ledger) -> None:
    now = CLOCK.now()
    names = [f"r{n}" for n in range(REQUESTS)]
    with ledger.begin() as tx:
        for member in (CHEAP, STRONG):
            tx.experts.add(expert(member))
        budgets = {"judge_usd_per_day": 100.0, "judge_usd_per_tenant_day": 100.0}
        tx.policies.set(settings(**budgets), actor="test", now=now)
        tx.decisions.record([decided(n, text=f"Question {n}?", decided_at=now) for n in names])
        tx.responses.record([response(n, text=f"Short {n}.") for n in names])
        for name in names:
            tx.responses.record_shadow(response(name, expert=STRONG, text=f"Longer, {name}."))
        tx.tasks.add(
            [
                task(name, created_at=now, tenant=TENANTS[n % len(TENANTS)])
                for n, name in enumerate(names)
            ]
        )


def open_tasks(ledger: Ledger) -> int:
    with ledger.begin() as tx:
        counts = tx.tasks.counts()
    return counts["pending"] + counts["leased"]


def leased_by(names: str, url: str) -> bool:
    with raw_connection(url) as reader:
        asked = "SELECT FROM judge_tasks WHERE leased_by LIKE %s LIMIT 1"
        return reader.execute(asked, [names]).fetchone() is not None


def check(ledger: Ledger) -> tuple[list[Label], list[Verdict]]:
    """Fail unless every task has ended with each of its labels and verdicts, once."""
    with ledger.begin() as tx:
        counts = tx.tasks.counts()
        labels = list(tx.labels.settled_since(0).labels)
        verdicts = [
            one for n in range(REQUESTS) for one in tx.labels.verdicts_of(RequestId(f"r{n}"))
        ]
        announced = Counter(one.key for one in tx.outbox.unmarked(limit=9 * REQUESTS))
    assert counts["done"] + counts["dead"] == REQUESTS
    due = {(f"r{n}", name) for n in range(REQUESTS) for name in (CHEAP, STRONG)}
    assert Counter((x.request_id, x.expert) for x in labels) == dict.fromkeys(due, 1)
    assert announced == {f"{request_id} {name}": 1 for request_id, name in due}
    judged = {x.request_id for x in labels if x.expert == CHEAP and x.score is not None}
    assert counts["dead"] == REQUESTS - len(judged)
    orders = {(request_id, call): 1 for request_id in judged for call in (0, 1)}
    assert Counter((v.request_id, v.call) for v in verdicts) == orders
    return labels, verdicts


def spent_usd(ledger: Ledger) -> float:
    with ledger.begin() as tx:
        return tx.money.used([JUDGE], day=day_of(CLOCK.now()))[JUDGE] / 1e6


def test_workers_of_one_process_share_a_judge_and_never_a_task(
    postgres_ledger: PostgresLedger,
) -> None:
    fill(postgres_ledger)
    stop = threading.Event()
    threads = work(postgres_ledger, stop, "only")
    until(lambda: not open_tasks(postgres_ledger), what="end", limit_s=PATIENCE_S)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    labels, verdicts = check(postgres_ledger)
    assert {x.outcome for x in labels} == {1}
    assert len(verdicts) == 2 * REQUESTS
    # Nothing was paid for twice.
    assert spent_usd(postgres_ledger) == pytest.approx(2 * REQUESTS * CALL_USD)


def test_no_verdict_is_lost_or_doubled_when_judges_are_killed_at_random(
    postgres_ledger: PostgresLedger, database_url: str
) -> None:
    fill(postgres_ledger)
    rng = random.Random(SEED)  # noqa: S311

    def start(number: int) -> RoleProcess:
        name = f"judge-{number}"
        return RoleProcess(_CONTEXT.Process(target=live, args=(database_url, name), daemon=True))

    running = [start(number) for number in range(PROCESSES)]
    try:
        for number in range(KILLS):
            until(
                partial(leased_by, f"judge-{number}-%", database_url),
                what="lease",
                limit_s=PATIENCE_S,
                every_s=0.05,
            )
            time.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
            victim = running.pop(0)
            victim.kill()
            assert victim.wait(PATIENCE_S) == -9
            running.append(start(PROCESSES + number))
        assert open_tasks(postgres_ledger), "the last one had something to lose"
        until(lambda: not open_tasks(postgres_ledger), what="end", limit_s=PATIENCE_S)
    finally:
        for process in running:
            process.kill()
            process.wait(PATIENCE_S)
    _, verdicts = check(postgres_ledger)
    # A call that a death cut short is booked, and its answer may be kept: never less than was paid.
    assert spent_usd(postgres_ledger) >= sum(one.cost_usd or 0.0 for one in verdicts) - 1e-9
