"""``python -m benchmarks.judge_queue``: verdicts a second through all but the language model."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.timing import heading, table, verdict
from ingest.announce import announce_alert, announce_labels
from ingest.judging import client_factory
from judge.kept import Kept
from judge.paced import Paced
from judge.pairs import Panel
from judge.port import Question, Reply
from judge.purse import Purse
from judge.spending import BudgetedJudge, budgeted_clients
from judge.trusted import Trusted
from judge.worker import JudgeWorker
from online.chance import draw
from store.clock import SystemClock
from store.ledger import Ledger
from store.postgres import migrate
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import RequestId
from tests import factories

REQUESTS = 600
ROUNDS = 3
WORKERS = (1, 4)
STORED_AT_ONCE = 200
USD_A_CALL = 0.001
TARGET = 200.0
CLOCK = SystemClock()


class InstantJudge:
    """Answers at once and like itself in both orders; its calls cost, so that they are booked."""

    version = "instant-1"
    family = None

    def most_usd(self, question: Question) -> float:
        return 2.0 * USD_A_CALL

    def compare(self, question: Question) -> Reply:
        is_better = draw("instant", question.request_id) < 0.5
        is_first = question.expert_a == factories.CHEAP
        return Reply(preference=float(is_better == is_first), cost_usd=USD_A_CALL)


def main() -> None:
    """Print the table."""
    print(heading("python -m benchmarks.judge_queue"))
    with (
        tempfile.TemporaryDirectory(prefix="jq") as name,
        EmbeddedPostgres(Path(name) / "data") as server,
    ):
        migrate.upgrade(server.url())
        with closing(PostgresLedger(server.url(), clock=CLOCK)) as ledger:
            _register(ledger)
            rows = [_row(ledger, workers) for workers in WORKERS]
    columns = ("workers (threads)", "requests judged/s", "verdicts/s", "target 200/s")
    print(
        "\nTasks leased, answers read, both orders asked, verdicts kept and paid for, labels stored"
        f" and announced; an instant judge, PostgreSQL with fsync on, {REQUESTS} requests a round,"
        f" median of {ROUNDS}:\n" + table(columns, rows)
    )


def _row(ledger: Ledger, workers: int) -> tuple[str, ...]:
    seconds, verdicts = [], 0
    for number in range(ROUNDS):
        prefix = f"{workers}-{number}"
        _fill(ledger, prefix)
        seconds.append(_drained(ledger, workers))
        verdicts = _verdicts(ledger, prefix)
    took = float(np.median(seconds))
    rate = verdicts / took
    return (
        str(workers),
        f"{REQUESTS / took:,.0f}",
        f"{rate:,.0f}",
        verdict(rate, TARGET, at_least=True),
    )


def _drained(ledger: Ledger, workers: int) -> float:
    """Return the seconds in which so many workers, as one process has them, empty the queue."""
    purse = Purse(ledger, CLOCK, announce=announce_alert, publish=lambda _: None)
    paced = Paced(InstantJudge(), CLOCK, calls_per_s=0.0, concurrency=8)
    panel = Panel((Kept(BudgetedJudge(paced, purse), ledger, CLOCK),))
    trusted = Trusted(lambda: panel, ledger, CLOCK)
    clients = budgeted_clients(client_factory(None), purse)

    def work(number: int) -> None:
        worker = JudgeWorker(
            ledger,
            trusted,
            clients,
            CLOCK,
            name=f"bench-{number}",
            announce=announce_labels,
            publish=lambda _: None,
        )
        while worker.step():
            pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    with ledger.begin() as tx:
        left = tx.tasks.counts()
    if left["pending"] or left["leased"] or left["dead"]:
        raise ValueError(f"tasks are left over: {left}")
    return took


def _register(ledger: Ledger) -> None:
    settings = factories.settings(
        judge="llm", judge_usd_per_day=1_000.0, judge_usd_per_tenant_day=1_000.0
    )
    with ledger.begin() as tx:
        tx.experts.add(factories.expert("cheap"))
        tx.experts.add(factories.expert("strong"))
        tx.policies.set(settings, actor="bench", now=CLOCK.now())


def _fill(ledger: Ledger, prefix: str) -> None:
    """Store decided requests, both answers to each, and the tasks to judge them."""
    names = [f"{prefix}-{i}" for i in range(REQUESTS)]
    for first in range(0, REQUESTS, STORED_AT_ONCE):
        chunk = names[first : first + STORED_AT_ONCE]
        now = CLOCK.now()
        with ledger.begin() as tx:
            tx.decisions.record(
                [factories.decided(n, text=f"Question {n}?", decided_at=now) for n in chunk]
            )
            tx.responses.record([factories.response(n, text=f"Short {n}.") for n in chunk])
            for n in chunk:
                text = f"A longer answer, {n}."
                tx.responses.record_shadow(
                    factories.response(n, expert=factories.STRONG, text=text)
                )
            tx.tasks.add([factories.task(n, created_at=now) for n in chunk])


def _verdicts(ledger: Ledger, prefix: str) -> int:
    with ledger.begin() as tx:
        return sum(len(tx.labels.verdicts_of(RequestId(f"{prefix}-{i}"))) for i in range(REQUESTS))


if __name__ == "__main__":
    main()
