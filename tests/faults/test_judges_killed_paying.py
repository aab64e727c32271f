"""Judges killed between reserving and settling: what they took is spent, and never over all."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

import judge.batch
import judge.purse
from ingest.announce import announce_alert
from ingest.judging import client_factory
from judge.kept import Kept
from judge.pairs import Panel
from judge.port import Question, Reply
from judge.purse import Purse
from judge.spending import BudgetedJudge
from judge.worker import JudgeWorker
from store.clock import SystemClock
from store.ledger import Ledger
from store.money import JUDGE, day_of, judge_budget_of
from store.postgres.ledger import PostgresLedger
from store.records import DEFAULT_TENANT, OPEN, JudgeTask, RequestId, TaskStatus
from tests.factories import CHEAP, STRONG, decided, expert, response, settings, task
from tests.faults.crashing import RoleProcess
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

CALL, TASK = 1_000, 8_000
"""Micro-dollars: of a call, and the most that a request with one expert can cost."""
CALL_S = 0.003
WORKERS, PROCESSES = 3, 2
KILLS, ROUND = 6, 30 * CALL
"""What each kill's round may spend more: a bound used up on a slow machine would end the calls."""
LONGEST_LIFE_S = 0.25
"""From its first call on."""
REQUESTS = 120
LIMIT = KILLS * ROUND
LEASE_S, RETRY_AFTER_S, LOOK_AGAIN_S = 1.0, 0.1, 0.3
"""Only time is shortened."""
REST = 15
"""Looks in a row, a tenth of a second apart."""
PATIENCE_S = 40.0
SEED = 20_261_126
CLOCK = SystemClock()

_CONTEXT = multiprocessing.get_context("forkserver")


class Till:
    """A judge that writes down each call before it answers, as who bills it does."""

    version, family = "till-1", None

    def __init__(self, book: Path, *, hangs_at: int) -> None:
        self._book = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = hangs_at

    def most_usd(self, question: Question) -> float:
        return CALL / 1e6

    def compare(self, question: Question) -> Reply:
        os.write(self._book, f"{question.request_id}\n".encode())
        self._left -= 1
        time.sleep(CALL_S if self._left else PATIENCE_S)
        return Reply(preference=float(question.expert_a == CHEAP), cost_usd=CALL / 1e6)


def live(url: str, book: Path, workers: int, hangs_at: int) -> None:
    """Be a judge's process, until killed."""
    judge.batch.LEASE_S, judge.batch.RETRY_AFTER_S = LEASE_S, RETRY_AFTER_S
    judge.purse.LOOK_AGAIN_S = LOOK_AGAIN_S
    with closing(PostgresLedger(url, clock=CLOCK)) as ledger:
        purse = Purse(ledger, CLOCK, announce=announce_alert, publish=lambda _: None)
        till = BudgetedJudge(Till(book, hangs_at=hangs_at), purse)
        panel = Panel((Kept(till, ledger, CLOCK),))

        def run(number: int) -> None:
            worker = JudgeWorker(
                ledger,
                lambda: panel,
                client_factory(None),
                CLOCK,
                name=f"{os.getpid()}-{number}",
                announce=lambda _: [],
                publish=lambda _: None,
            )
            with closing(ledger.notifications()) as hints:
                worker.run(threading.Event(), hints)

        threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def start(url: str, book: Path, *, workers: int = 1, hangs_at: int = 0) -> RoleProcess:
    given = (url, book, workers, hangs_at)
    return RoleProcess(_CONTEXT.Process(target=live, args=given, daemon=True))


def fill(ledger: Ledger, requests: int) -> None:
    now = CLOCK.now()
    names = [f"r{n}" for n in range(requests)]
    with ledger.begin() as tx:
        for member in (CHEAP, STRONG):
            tx.experts.add(expert(member))
        tx.decisions.record([decided(n, text=f"{n}?", decided_at=now) for n in names])
        tx.responses.record([response(n, text=f"Short {n}.") for n in names])
        for name in names:
            tx.responses.record_shadow(response(name, expert=STRONG, text=f"Longer, {name}."))
        tx.tasks.add([task(name, created_at=now) for name in names])


def allow(ledger: Ledger, micro_usd: int) -> None:
    policy = settings(judge="llm", judge_usd_per_day=micro_usd / 1e6)
    with ledger.begin() as tx:
        tx.policies.set(policy, actor="test", now=CLOCK.now())


def spent(ledger: Ledger) -> tuple[int, int]:
    """Return what is used today and how much of that is under way, the same for all budgets."""
    kinds, day = [JUDGE, judge_budget_of(DEFAULT_TENANT)], day_of(CLOCK.now())
    with ledger.begin() as tx:
        (used,) = set(tx.money.used(kinds, day=day).values())
        (under_way,) = set(tx.money.under_way(kinds, day=day).values())
    return used, under_way


def billed(book: Path) -> Counter[str]:
    return Counter(book.read_text().split()) if book.exists() else Counter()


def tasks(ledger: Ledger, status: TaskStatus) -> list[JudgeTask]:
    with ledger.begin() as tx:
        return tx.tasks.listed(status=status, limit=10_000)


def open_tasks(ledger: Ledger) -> int:
    return sum(len(tasks(ledger, status)) for status in OPEN)


def has_called(book: Path, before: int) -> bool:
    return billed(book).total() > before


def has_settled(ledger: Ledger, under_way: int) -> bool:
    return spent(ledger)[1] == under_way


def at_rest(ledger: Ledger) -> tuple[int, int]:
    """Return what is used and under way once nobody can pay for another task any more."""
    seen: list[tuple[int, int]] = []

    def rests() -> bool:
        seen.append(spent(ledger))
        return len(seen) > REST and len(set(seen[-REST:])) == 1 and seen[-1][0] > LIMIT - TASK

    until(rests, what="rest", limit_s=PATIENCE_S)
    return seen[-1]


def check_done(ledger: Ledger) -> set[str]:
    """Fail unless what is done has its two verdicts and its labels, once; return what is done."""
    done = {str(one.request_id) for one in tasks(ledger, TaskStatus.DONE)}
    with ledger.begin() as tx:
        labels = [x for x in tx.labels.settled_since(0).labels if x.score is not None]
        calls = {n: [v.call for v in tx.labels.verdicts_of(RequestId(n))] for n in done}
    assert Counter((x.request_id, x.expert) for x in labels if x.request_id in done) == {
        (name, who): 1 for name in done for who in (CHEAP, STRONG)
    }
    assert all(sorted(each) == [0, 1] for each in calls.values())
    return done


def test_what_a_killed_judge_reserved_is_spent_and_another_does_its_task(
    postgres_ledger: PostgresLedger, database_url: str, tmp_path: Path
) -> None:
    book = tmp_path / "book"
    fill(postgres_ledger, 3)
    # The dead one's task, its second call, another task, and the last one's reservation: no more.
    allow(postgres_ledger, TASK + CALL + 2 * CALL + TASK)
    killed = start(database_url, book, hangs_at=2)
    until(lambda: billed(book).total() == 2, what="second call", limit_s=PATIENCE_S)
    assert spent(postgres_ledger) == (TASK, TASK), "for both calls, before the first"
    killed.kill()
    killed.wait(PATIENCE_S)
    other = start(database_url, book)
    until(lambda: len(check_done(postgres_ledger)) == 3, what="end", limit_s=PATIENCE_S)
    other.kill()
    other.wait(PATIENCE_S)
    assert check_done(postgres_ledger) == {"r0", "r1", "r2"}
    assert sorted(billed(book).values()) == [2, 2, 3], "the answered call of the dead one is kept"
    assert spent(postgres_ledger) == (TASK + 5 * CALL, TASK)


def kill_in_a_call(ledger: Ledger, url: str, book: Path) -> None:
    """The first kill: it meets a reservation for certain; those at random may meet none."""
    allow(ledger, ROUND)
    hanging = start(url, book, hangs_at=1)
    until(lambda: billed(book).total() == 1, what="call", limit_s=PATIENCE_S)
    hanging.kill()
    hanging.wait(PATIENCE_S)
    assert spent(ledger) == (TASK, TASK)


def test_processes_killed_at_random_never_overspend(
    postgres_ledger: PostgresLedger, database_url: str, tmp_path: Path
) -> None:
    rng = random.Random(SEED)  # noqa: S311
    book = tmp_path / "book"
    fill(postgres_ledger, REQUESTS)
    running: list[RoleProcess] = []
    kill_in_a_call(postgres_ledger, database_url, book)
    for kill in range(1, KILLS):
        while len(running) < PROCESSES:
            running.append(start(database_url, book, workers=WORKERS))
        before = billed(book).total()
        allow(postgres_ledger, (kill + 1) * ROUND)
        until(partial(has_called, book, before), what="call", limit_s=PATIENCE_S, every_s=0.01)
        time.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
        victim = running.pop(rng.randrange(len(running)))
        victim.kill()
        victim.wait(PATIENCE_S)
        used, _ = spent(postgres_ledger)
        assert used <= (kill + 1) * ROUND, kill
    running.append(start(database_url, book, workers=WORKERS))
    used, under_way = at_rest(postgres_ledger)
    calls = billed(book).total()
    assert calls * CALL <= used <= LIMIT
    assert used > LIMIT - TASK, "and it was used up"
    assert 0 < under_way <= (KILLS * WORKERS) * TASK
    done = check_done(postgres_ledger)
    assert 0 < len(done) < REQUESTS
    allow(postgres_ledger, 10 * LIMIT)
    until(lambda: not open_tasks(postgres_ledger), what="end", limit_s=PATIENCE_S)
    # A worker settles after its task is done.
    settled = partial(has_settled, postgres_ledger, under_way)
    until(settled, what="settlement of all but the dead", limit_s=PATIENCE_S)
    for one in running:
        one.kill()
        one.wait(PATIENCE_S)
    dead = {str(one.request_id) for one in tasks(postgres_ledger, TaskStatus.DEAD)}
    assert len(check_done(postgres_ledger) | dead) == REQUESTS
    used, still = spent(postgres_ledger)
    assert still == under_way, "all but the dead have settled"
    lost = billed(book).total() * CALL - (used - still)
    assert 0 <= lost <= still, "what was called and not settled is among what they had reserved"
