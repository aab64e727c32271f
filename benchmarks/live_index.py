"""``python -m benchmarks.live_index``: looking experts up, and joining while decisions run.

The look-up alone against a bare inner product with a partial sort, in the same run; then the p99 of
decisions while another thread inserts experts on a copy of the index and swaps the state, against
that while it rests. What is measured depends on shapes, not on values: descriptors are drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.pools import drawn_state, embeddings, prompts
from benchmarks.timing import (
    heading,
    interleaved,
    median_with_interval,
    ms,
    table,
    timed,
    verdict,
)
from ingest.live import Live
from online.clusters import unit_rows
from online.folds import fold_of, group_of
from online.retrieve import TOP_K, DescriptorIndex
from online.route import route
from online.scorer import ScorerModel
from online.snapshot import checksum, dump
from online.state import PoolMember, RoutingState
from store.clock import SystemClock
from store.records import (
    FOLDS,
    ExpertId,
    ExpertStatus,
    FloatArray,
    Price,
    PromptReceived,
    RequestId,
    RoutingStateRecord,
)

POOLS = (8, 64, 512, 1_000, 10_000)
DIMENSION = 192
QUERIES = 2_000
COST_WEIGHT = 0.3
BLOCKS = 30
"""Pairs of blocks, one with inserts and one without."""
DECISIONS = 300
"""In a block: its p99 is the third-slowest."""
INSERTS_PER_S = 10.0
DELAY = 1.15
"""How much larger the p99 with inserts may be; a delay of decisions would be a multiple."""
NEWCOMER = ExpertId("newcomer")
CLOCK = SystemClock()


def main() -> None:
    """Print the tables."""
    print(heading("python -m benchmarks.live_index"))
    print(lookups())
    print(joining())


def lookups() -> str:
    """Time one look-up by pool size, faiss and its bare counterpart in turn."""
    rows = []
    for experts in POOLS:
        rng = np.random.default_rng(experts)
        descriptors = unit_rows(rng.normal(size=(experts, DIMENSION)))
        costs = rng.uniform(0.02, 1.0, experts)
        index = DescriptorIndex.build(descriptors, costs, routable=np.ones(experts, dtype=np.bool_))
        queries = unit_rows(rng.normal(size=(QUERIES, DIMENSION)))
        bare = _bare(descriptors, costs)

        def looked_up(i: int, index=index, queries=queries) -> list[int]:  # type: ignore[no-untyped-def]  # bound per pool
            found: list[list[int]] = index.search(queries[i : i + 1], cost_weight=COST_WEIGHT)
            return found[0]

        def by_hand(i: int, bare=bare, queries=queries) -> list[int]:  # type: ignore[no-untyped-def]
            found: list[int] = bare(queries[i])
            return found

        same = sum(looked_up(i) == by_hand(i) for i in range(100))
        ours, theirs = interleaved(looked_up, by_hand, range(QUERIES))
        ratio, low, high = median_with_interval(ours.seconds / theirs.seconds)
        rows.append(
            (
                f"{experts:,}",
                f"{1e6 * ours.p50:.1f} µs",
                f"{1e6 * ours.p99:.1f} µs",
                f"{1e6 * theirs.p50:.1f} µs",
                f"{ratio:.2f} ({low:.2f} to {high:.2f})",
                f"{same} of 100",
            )
        )
    columns = ("experts", "faiss p50", "p99", "numpy p50", "median ratio (95 %)", "same answer")
    return (
        f"\nOne look-up of the {TOP_K} best of a pool by q·d − cost_weight·c, {DIMENSION}"
        f" dimensions, one thread, {QUERIES:,} interleaved pairs:\n" + table(columns, rows)
    )


def _bare(descriptors: FloatArray, costs: FloatArray) -> Callable[[FloatArray], list[int]]:
    rows = np.ascontiguousarray(np.column_stack([descriptors, -costs]), dtype=np.float32)

    def search(query: FloatArray) -> list[int]:
        asked = np.append(query, COST_WEIGHT).astype(np.float32)
        values = rows @ asked
        if len(values) <= TOP_K:
            return [int(i) for i in np.argsort(-values)]
        best = np.argpartition(-values, TOP_K)[:TOP_K]
        return [int(i) for i in best[np.argsort(-values[best])]]

    return search


@dataclass(frozen=True, slots=True)
class Block:
    """Decisions in a row."""

    p50: float
    p99: float


def joining() -> str:
    """Time decisions while experts join, against the same while none does."""
    rows = []
    for experts in (8, 64, 1_000):
        state = drawn_state(experts)
        for name, way in (("insert on a copy", inserted), ("state loaded and warmed", loaded)):
            with_inserts, without, joins = _blocks(state, way)
            tail = [a.p99 / b.p99 for a, b in zip(with_inserts, without, strict=True)]
            middle = [a.p50 / b.p50 for a, b in zip(with_inserts, without, strict=True)]
            ratio, low, high = median_with_interval(np.array(tail))
            rows.append(
                (
                    f"{experts:,}, {name}",
                    f"{joins:,}",
                    ms(float(np.median([b.p99 for b in without]))),
                    ms(float(np.median([b.p99 for b in with_inserts]))),
                    f"{ratio:.2f} ({low:.2f} to {high:.2f})",
                    f"{np.median(middle):.2f}",
                    verdict(ratio, DELAY),
                )
            )
    columns = (
        "experts, how one more joins",
        "joins",
        "p99 without",
        "p99 with",
        "median ratio of p99 (95 %)",
        "of p50",
        f"target {DELAY:g}",
    )
    return (
        f"\nDecisions (`route` on the live state) while another thread lets {INSERTS_PER_S:g}"
        f" experts a second join and leave; {BLOCKS} interleaved pairs of {DECISIONS}"
        " decisions:\n" + table(columns, rows)
    )


def inserted(state: RoutingState, _: Live) -> RoutingState:
    """Return the state with one more expert, its indexes copies with one more row."""
    wider = _wider(state)
    model, wide = _model(state), _model(wider)
    cost = float(wider.nominal_costs[-1])
    for fold in range(FOLDS):
        old = model.index(fold, state.nominal_costs)
        row = wide.descriptors[fold, -1]
        wide.indexes[fold] = old.inserted(len(model.columns), row, cost)
    return wider


def loaded(state: RoutingState, live: Live) -> RoutingState:
    """Return the state with one more expert as a replica takes it over: from its stored bytes."""
    payload = dump(_wider(state))
    return live.prepare(
        RoutingStateRecord(
            version=state.version,
            parent=state.parent,
            payload=payload,
            sha256=checksum(payload),
            threshold=state.threshold,
            risk_target=state.policy.alpha,
            effective_labels=state.effective_labels,
            cause="expert",
            note="",
            published_at=CLOCK.now(),
        )
    )


def _wider(state: RoutingState) -> RoutingState:
    model = _model(state)
    rng = np.random.default_rng(0)

    def more(array: FloatArray, axis: int) -> FloatArray:
        return np.concatenate([array, array.take([-1], axis=axis)], axis=axis)

    profile = unit_rows(rng.normal(size=(FOLDS, 1, model.descriptors.shape[2])))
    wide = ScorerModel(
        columns=(*model.columns, NEWCOMER),
        relative_costs=more(model.relative_costs, 0),
        centroids=model.centroids,
        table=more(model.table, 2),
        evidence=more(model.evidence, 1),
        descriptors=np.concatenate([model.descriptors, profile], axis=1),
        calibration=more(model.calibration, 1),
        gap=model.gap,
        comparator=model.comparator,
        regressors=None if model.regressors is None else more(model.regressors, 3),
    )
    member = PoolMember(name=NEWCOMER, status=ExpertStatus.RAMPING, price=Price(request_usd=0.1))
    return replace(state, pool=(*state.pool, member), model=wide)


def _model(state: RoutingState) -> ScorerModel:
    if state.model is None:
        raise ValueError("a drawn state has a model")
    return state.model


Way = Callable[[RoutingState, Live], RoutingState]


def _blocks(state: RoutingState, way: Way) -> tuple[list[Block], list[Block], int]:
    live = Live(encoder=state.encoder, dimension=embeddings(1).shape[1])
    live.swap(state)
    vectors = embeddings(DECISIONS)
    asked = [_received(i) for i in range(DECISIONS)]
    folds = [fold_of(group_of(p.text, None, tenant=p.tenant)) for p in asked]

    def decide(i: int) -> None:
        route(asked[i], vectors[i], live.current() or state, fold=folds[i], category="unknown")

    def block() -> Block:
        took = timed(decide, range(DECISIONS))
        return Block(took.p50, took.p99)

    block()
    with_inserts: list[Block] = []
    without: list[Block] = []
    with _joins(state, live, way) as (joins, go):
        for pair in range(BLOCKS):
            for is_joining in (True, False) if pair % 2 else (False, True):
                (go.set if is_joining else go.clear)()
                (with_inserts if is_joining else without).append(block())
    return with_inserts, without, joins[0]


@contextmanager
def _joins(
    state: RoutingState, live: Live, way: Way
) -> Iterator[tuple[list[int], threading.Event]]:
    """Let an expert join and leave, again and again, while the event is set."""
    count, go, stop = [0], threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            if not go.wait(0.05):
                continue
            live.swap(way(state, live))
            count[0] += 1
            stop.wait(0.5 / INSERTS_PER_S)
            live.swap(state)
            stop.wait(0.5 / INSERTS_PER_S)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield count, go
    finally:
        stop.set()
        worker.join()


def _received(number: int) -> PromptReceived:
    text = prompts()[number].text
    return PromptReceived(request_id=RequestId(f"q{number}"), text=text, received_at=CLOCK.now())


if __name__ == "__main__":
    main()
