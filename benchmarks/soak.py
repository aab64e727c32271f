"""``make soak``: every role as a process under 50 requests a second; MINUTES=30 unless set.

Writes ``.run/soak/soak.csv``, ``soak.svg`` and ``soak.md``; exit status 1 if a rule is broken.
"""

from __future__ import annotations

import csv
import shutil
import sys
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg

from benchmarks import soak_watch as watch
from benchmarks.brokers import EMBEDDED, fresh_topics, running
from benchmarks.figures import write
from benchmarks.pools import CACHE, embeddings, prompts
from benchmarks.soak_load import CLOCK, RATE, Load, request_id
from benchmarks.soak_picture import draw
from benchmarks.soak_rules import BACKLOG, FLAT, memory_growth, queue_growth
from benchmarks.timing import heading, ms, table
from ingest.commands import Operator
from ingest.demo_traffic import GEMINI, LLAMA, MISTRAL, DemoPrompt, write_recorded
from ingest.stage import Stage
from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import Price
from tests.contract.apache_kafka import free_ports
from tests.replicas import Replica, process_ids
from tests.waiting import until

FOLDER = Path(".run") / "soak"
MINUTES = 30.0
TEXTS = 1_500
WARM_START = 600
LABEL_RATE = "0.05"
SAMPLE_S = 5.0
DRAIN_S = 60.0
ROLES = {"ingest": "ingest", "judge": "judge", "learn": "learn", "gateway": "consume"}
NEVER = threading.Event()


def main() -> int:
    """Soak and judge; return the exit status."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    title = heading(f"make soak MINUTES={minutes:g}")
    embeddings(TEXTS)  # into the cache that the serving process reads
    run = _soak(minutes)
    text, passed = _report(run)
    page = f"{title}\n{text}"
    (FOLDER / "soak.md").write_text(page + "\n", encoding="utf-8")
    _write_samples(run.samples)
    draw(run.samples, run.took, FOLDER / "soak.svg")
    print(page)
    write("soak", page)
    return 0 if passed else 1


@dataclass(slots=True)
class Run:
    """What a soak saw."""

    samples: list[watch.Sample]
    took: list[tuple[float, float]]
    failures: list[str]
    left: watch.Sample
    """What was still on its way after the load had ended and a minute had passed."""


def _soak(minutes: float) -> Run:
    count = int(60 * minutes * RATE)
    recorded = FOLDER / "recorded.jsonl"
    costs = _record(recorded, count)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(FOLDER / "postgres"))
        servers = stack.enter_context(running(EMBEDDED, FOLDER / "broker"))
        kafka = fresh_topics(servers, partitions=6)
        migrate.upgrade(server.url())
        ledger = stack.enter_context(closing(PostgresLedger(server.url(), clock=CLOCK)))
        operator = Operator(ledger, CLOCK)
        operator.set_policy({"reference": GEMINI, "label_rate": "1", "cluster_prompts": "200"})
        for expert in (GEMINI, LLAMA, MISTRAL):
            operator.add_expert(expert, Price(request_usd=costs[expert]), {"kind": "recorded"})
        (port,) = free_ports(1)
        environment = {
            "STEERSMAN_DATABASE_URL": server.url(),
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": servers,
            "STEERSMAN_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
            "STEERSMAN_KAFKA_GROUP_ID": kafka.group_id,
            "STEERSMAN_RUN_DIR": str(FOLDER),
            "STEERSMAN_CACHE_DIR": str(CACHE),
            "STEERSMAN_RECORDED": str(recorded),
            "STEERSMAN_HTTP_PORT": str(port),
        }
        stage = stack.enter_context(Stage(FOLDER, environment, CLOCK))
        for name, command in ROLES.items():
            stage.start(name, [command])
        serve = Replica("serve", port, stage)
        serve.start()
        until(serve.is_ready, what="readiness", every_s=0.5)
        load = Load(port, kafka, [p.text for p in prompts()[:TEXTS]], count)
        connection = stack.enter_context(raw_connection(server.url()))
        eye = _Eye(load, stage, port, connection, server.pid or 0)
        load.start()
        try:
            samples = eye.sampled(60 * minutes, operator)
        finally:
            load.end()
        return Run(samples, load.took, load.failures, eye.drained())


class _Eye:
    """Takes a sample every few seconds."""

    def __init__(
        self, load: Load, stage: Stage, port: int, connection: psycopg.Connection, server: int
    ) -> None:
        self._load = load
        self._stage = stage
        self._port = port
        self._connection = connection
        self._server = server

    def sampled(self, seconds: float, operator: Operator) -> list[watch.Sample]:
        """Return the samples of the run; the label rate falls once the warm start is judged."""
        samples: list[watch.Sample] = []
        is_warm = False
        while (now := time.perf_counter() - self._load.started) < seconds:
            self._stage.check()
            samples.append({"seconds": now} | self._look())
            if not is_warm and self._load.sent >= WARM_START:
                operator.set_policy({"label_rate": LABEL_RATE})
                is_warm = True
            CLOCK.wait(NEVER, SAMPLE_S)
        return samples

    def drained(self) -> watch.Sample:
        """Return the queues once they are empty, or as they are after a minute."""
        give_up = time.perf_counter() + DRAIN_S
        while True:
            found = self._look()
            left = {name: found.get(name, 0.0) for name in watch.QUEUES}
            if not any(left.values()) or time.perf_counter() > give_up:
                return left
            CLOCK.wait(NEVER, 1.0)

    def _look(self) -> watch.Sample:
        pids = process_ids(self._stage)
        return (
            watch.memory(pids)
            | watch.family(self._server)
            | watch.ledger(self._connection, sent=self._load.sent)
            | watch.serving(self._port)
        )


def _record(path: Path, count: int) -> dict[str, float]:
    """Write an answer of each expert for each request of the run; return their mean costs."""
    known = prompts()[:TEXTS]
    # The text is not what recorded experts answer by, and would be 90,000 times in memory.
    rows = [DemoPrompt(request_id(i), "recorded", known[i % TEXTS].answers) for i in range(count)]
    write_recorded(rows, path)
    return {
        expert: float(np.mean([p.answers[expert][1] for p in known])) for expert in known[0].answers
    }


def _report(run: Run) -> tuple[str, bool]:
    seconds = np.array([s["seconds"] for s in run.samples])
    memory_text, is_flat = _memory(run, seconds)
    queue_text, is_short = _queues(run, seconds)
    end = run.samples[-1]
    lost = {name: value for name, value in run.left.items() if value}
    passed = is_flat and is_short and not run.failures and not lost
    facts = (
        f"\nSent {end['sent']:,.0f}, failed {len(run.failures)}, decided {end['decided']:,.0f},"
        f" labels {end['labels']:,.0f}, states published {end['states']:,.0f}; left over a minute"
        f" after the end: {lost or 'nothing'}.\n\n**{'Passed' if passed else 'Failed'}.**"
        f" {run.failures[:3] or ''}"
    )
    return "\n".join([_latencies(run), memory_text, queue_text, _tables(run), facts]), passed


def _latencies(run: Run) -> str:
    due, took = (np.array(column) for column in zip(*run.took, strict=True))
    minute = (due // 60).astype(int)
    shown = [m for m in np.unique(minute) if m in {0, 1, 2} or m % 5 == 4 or m == minute[-1]]
    rows = [(f"{m + 1}", *_quantiles(took[minute == m])) for m in shown]
    rows.append(("all after the first", *_quantiles(took[minute > 0])))
    return "\nHTTP decisions, from when they were due, committed:\n" + table(
        ("minute", "answered", "p50", "p95", "p99", "slowest"), rows
    )


def _quantiles(took: np.ndarray) -> tuple[str, ...]:
    if not len(took):
        return ("0", "", "", "", "")
    at = [float(np.quantile(took, q)) for q in (0.5, 0.95, 0.99, 1.0)]
    return (f"{len(took):,}", *map(ms, at))


def _memory(run: Run, seconds: np.ndarray) -> tuple[str, bool]:
    rows, flat = [], True
    for name in sorted(n for n in run.samples[-1] if n.startswith(("rss_", "pss_"))):
        early, late, growth = memory_growth(seconds, _column(run, name))
        role = name.partition("_")[2]
        is_ours = name.startswith("rss_")
        flat = flat and (growth <= FLAT or not is_ours)
        said = ("flat" if growth <= FLAT else "**grows**") if is_ours else "no rule"
        rows.append(
            (role, f"{early / 2**20:.0f} MiB", f"{late / 2**20:.0f} MiB", f"{growth:+.1%}", said)
        )
    columns = ("resident memory", "second sixth", "last third", "growth", f"at most {FLAT:.0%}")
    return table(columns, rows), flat


def _queues(run: Run, seconds: np.ndarray) -> tuple[str, bool]:
    rows, short = [], True
    for name in watch.QUEUES:
        length = _column(run, name)
        growth = queue_growth(seconds, length)
        short = short and growth <= BACKLOG
        said = "steady" if growth <= BACKLOG else "**grows**"
        rows.append(
            (name, f"{np.median(length):.0f}", f"{length.max():.0f}", f"{growth:+.1f}", said)
        )
    columns = ("queue", "median", "longest", "surely grew by", f"at most {BACKLOG:.0f}")
    return table(columns, rows), short


def _tables(run: Run) -> str:
    end = run.samples[-1]
    sizes = {n.removeprefix("bytes_"): end[n] for n in end if n.startswith("bytes_")}
    largest = sorted(sizes, key=lambda n: -sizes[n])[:8]
    rows = [
        (name, f"{sizes[name] / 2**20:.1f} MiB", f"{sizes[name] / end['decided']:.0f} bytes")
        for name in largest
    ]
    return table(("table with its indexes", "at the end", "a request"), rows)


def _column(run: Run, name: str) -> np.ndarray:
    return np.array([s.get(name, 0.0) for s in run.samples])


def _write_samples(samples: list[watch.Sample]) -> None:
    names = list(dict.fromkeys(name for s in samples for name in s))
    with (FOLDER / "soak.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, names)
        rows.writeheader()
        rows.writerows(samples)


if __name__ == "__main__":
    sys.exit(main())
