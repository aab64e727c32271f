"""``make bench-swap``: from a change to its being in force on two serving replicas under load."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.brokers import EMBEDDED, fresh_topics, running
from benchmarks.timing import heading, ms, table, verdict
from ingest.commands import Operator
from online.state import RoutingState
from recalibrate.rollback import roll_back
from store.errors import StateSuperseded
from store.postgres import migrate
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import ExpertId, ExpertStatus, Price
from tests.replicas import (
    CALLERS,
    CLOCK,
    RECORDED,
    Callers,
    Replica,
    acknowledged_by,
    active,
    judge_all,
    register,
    replicas,
)
from tests.traffic import short_texts
from tests.waiting import until

ROUNDS = 7
PAUSE_S = 0.1
"""Eight callers that rest this long: at most 80 requests a second."""
FLAT_OUT_S = 10.0
LOOK_S = 0.02
"""How long passes between two looks at the ledger: what a figure may be too large by."""
TARGETS = {
    "expert added": 2.0,
    "price changed": 2.0,
    "policy changed": 5.0,
    "60 labels committed": 5.0,
    "rollback": 5.0,
}
LABELS = 60
RESTART_S = 3.0
CHEAP = ExpertId("cheap")


def main() -> None:
    """Print the tables."""
    print(heading("make bench-swap"))
    with _served() as (ledger, pair):
        operator = Operator(ledger, CLOCK)
        with Callers(pair, short_texts(60), PAUSE_S) as callers:
            _warm(ledger, callers)
            print(_changes(ledger, operator, callers))
        print(_load(callers, f"{CALLERS} callers, both replicas, while all that changed"))
        with Callers(pair[:1], short_texts(60)) as flat_out:
            time.sleep(FLAT_OUT_S)  # noqa: TID251  measured, not waited for
        print(_load(flat_out, f"{CALLERS} callers without a rest, one replica"))
        print(_restart(pair[1]))


@contextmanager
def _served() -> Iterator[tuple[PostgresLedger, list[Replica]]]:
    with (
        tempfile.TemporaryDirectory(prefix="swap") as name,
        EmbeddedPostgres(Path(name) / "data") as server,
        running(EMBEDDED, Path(name) / "broker") as servers,
    ):
        migrate.upgrade(server.url())
        kafka = fresh_topics(servers, partitions=4)
        with closing(PostgresLedger(server.url(), clock=CLOCK)) as ledger:
            register(Operator(ledger, CLOCK))
            folder = Path(name) / "run"
            with replicas(folder, server.url(), kafka) as pair:
                yield ledger, pair


def _warm(ledger: PostgresLedger, callers: Callers) -> None:
    until(lambda: len(callers.answers) >= 10 * LABELS, what="warm start")
    judge_all(ledger, callers.answers)
    until(lambda: active(ledger).model is not None, what="learnt state")
    until(lambda: callers.have_seen(active(ledger).version), what="decisions by it")


def _changes(ledger: PostgresLedger, operator: Operator, callers: Callers) -> str:
    rounds = [_round(ledger, operator, callers, number) for number in range(ROUNDS)]
    rows = []
    for name, target in TARGETS.items():
        took = [one[name] for one in rounds]
        slowest = max(took)
        row = (name, f"{np.median(took):.2f} s", f"{slowest:.2f} s", f"{target:.0f} s")
        rows.append((*row, verdict(slowest, target)))
    columns = ("change → acknowledged by both replicas", "median", "slowest", "target", "")
    return f"\n{ROUNDS} rounds; two `serve` and one `learn` as processes:\n" + table(columns, rows)


def _round(
    ledger: PostgresLedger, operator: Operator, callers: Callers, number: int
) -> dict[str, float]:
    expert, value = f"new-{number}", 0.11 + 0.01 * number
    price = Price(request_usd=value)
    took = {
        "expert added": _seconds(
            ledger,
            callers,
            lambda: operator.add_expert(expert, Price(request_usd=0.5), RECORDED),
            lambda state: expert in state.members,
        ),
        "price changed": _seconds(
            ledger,
            callers,
            lambda: operator.set_price(CHEAP, price),
            lambda state: state.members[CHEAP].price == price,
        ),
        "policy changed": _seconds(
            ledger,
            callers,
            lambda: operator.set_policy({"alpha": str(value)}),
            lambda state: state.policy.alpha == value,
        ),
        "60 labels committed": _labels_seconds(ledger, callers, number),
        "rollback": _rollback_seconds(ledger, callers),
    }
    operator.set_status(expert, ExpertStatus.RETIRED)
    operator.set_policy({"hold": "false"})
    until(lambda: not active(ledger).policy.hold, what="state that learns again")
    return took


def _seconds(
    ledger: PostgresLedger,
    callers: Callers,
    change: Callable[[], object],
    holds: Callable[[RoutingState], bool],
) -> float:
    """Return the time from before a change until both replicas serve a state that has it."""
    started = time.perf_counter()
    change()
    until(lambda: holds(active(ledger)), what="state with the change", every_s=LOOK_S)
    return _in_force(ledger, callers, active(ledger).version, started)


def _labels_seconds(ledger: PostgresLedger, callers: Callers, number: int) -> float:
    """Return the time from the commit of labels until both serve a state that has learnt them."""
    known = len(callers.answers)
    until(lambda: len(callers.answers) >= known + LABELS, what="new requests")
    before = _labels_behind(ledger)
    judge_all(ledger, callers.answers[known : known + LABELS], judge=f"bench-{number}")
    started = time.perf_counter()
    enough = before + LABELS
    until(lambda: _labels_behind(ledger) >= enough, what="state with the labels", every_s=LOOK_S)
    return _in_force(ledger, callers, active(ledger).version, started)


def _rollback_seconds(ledger: PostgresLedger, callers: Callers) -> float:
    while True:
        started = time.perf_counter()
        back_to = active(ledger).version - 1
        try:
            version = roll_back(ledger, back_to, actor="bench", clock=CLOCK)
        except StateSuperseded:
            continue
        return _in_force(ledger, callers, version, started)


def _in_force(ledger: PostgresLedger, callers: Callers, version: int, started: float) -> float:
    names = {r.name for r in callers.replicas}

    def is_on_both() -> bool:
        return acknowledged_by(ledger, version) >= names

    until(is_on_both, what=f"state {version} on both", every_s=LOOK_S)
    took = time.perf_counter() - started
    until(lambda: callers.have_seen(version), what=f"decisions by state {version}")
    return took


def _labels_behind(ledger: PostgresLedger) -> int:
    """Return how many judged requests the newest state has learnt."""
    with ledger.begin() as tx:
        newest = tx.states.calibrations(limit=1)
    return newest[0].labels if newest else 0


def _load(callers: Callers, what: str) -> str:
    took = np.array([a.seconds for a in callers.answers])
    spent = took.sum() / CALLERS + callers.pause_s * len(took) / CALLERS
    row = (
        what,
        f"{len(took):,}",
        len(callers.failures),
        f"{len(took) / spent:.0f}/s",
        ms(float(np.median(took))),
        ms(float(np.quantile(took, 0.95))),
        ms(float(np.quantile(took, 0.99))),
    )
    columns = ("HTTP decisions, committed", "answered", "failed", "rate", "p50", "p95", "p99")
    return table(columns, [row])


def _restart(replica: Replica) -> str:
    """Kill a replica, start it again, and set the loading of torch and the model apart."""
    load = "from online.encode import SentenceEncoder; SentenceEncoder()"
    whole, models = [], []
    for _ in range(3):
        replica.kill()
        started = time.perf_counter()
        replica.start()
        until(replica.is_ready, what="readiness", every_s=0.05)
        whole.append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", load], check=True)  # noqa: S603  our own program
        models.append(time.perf_counter() - started)
    total, model = float(np.median(whole)), float(np.median(models))
    rest = max(total - model, 0.0)
    row = (f"{total:.1f} s", f"{model:.1f} s", f"{rest:.1f} s", verdict(rest, RESTART_S))
    columns = ("kill -9 → ready again", "loading the model alone", "the rest", "target 3 s")
    return table(columns, [row])


if __name__ == "__main__":
    main()
