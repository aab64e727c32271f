"""``make bench-recalibrate``: a threshold from stored labels, and the same work by MAPIE."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mapie.risk_control import methods

from benchmarks.pools import REFERENCE, drawn_state, embeddings, prompts, sentence_encoder
from benchmarks.timing import heading, ms, table, verdict
from online.learn import JudgedRequest
from online.scorer import ScorerModel
from recalibrate.controller import Losses, Window
from recalibrate.crc import Feasible, crc_threshold
from recalibrate.cycle import Recalibrator
from recalibrate.losses import worst_in_set
from recalibrate.rolling import RollingCrc
from recalibrate.window import calibration_window, rescore
from store.clock import SystemClock
from store.facts import Decided
from store.ledger import Ledger
from store.policy import PolicySettings
from store.postgres import migrate
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import (
    ExpertId,
    Float32Array,
    Label,
    Price,
    Reason,
    SampledRequest,
)
from tests import factories

EXPERTS = 3
SIZES = (1_000, 10_000, 100_000)
GIVEN = (*SIZES, 1_000_000)
TARGET_LABELS, TARGET_S = 10_000, 1.0
ROUNDS = 5
ALPHA = 0.1003
"""Off any risk that n labels can have exactly, where the order of a sum would decide."""
MAPIE_GRID = 1_000
"""MAPIE takes a matrix of labels by thresholds; the exact grid of 10,000 labels is 800 MB."""
MAPIE_UP_TO = 100_000
BATCH = 500
CLOCK = SystemClock()


def main() -> None:
    """Print the tables."""
    print(heading("make bench-recalibrate"))
    print(from_embeddings())
    print(whole_cycle(TARGET_LABELS))
    print(threshold_alone())


def from_embeddings() -> str:
    """Time λ from judged requests whose embeddings are held as fp16, phase by phase."""
    state = drawn_state(EXPERTS)
    assert state.model is not None  # noqa: S101  drawn with one
    rows = []
    for size in SIZES:
        judged = _judged(size, _stored_embeddings(size))
        runs = [_recalibrated(judged, state.model) for _ in range(ROUNDS)]
        best = sorted(runs, key=lambda run: run.total)[ROUNDS // 2]
        target = verdict(best.total, TARGET_S) if size == TARGET_LABELS else ""
        phases = (best.rescore, best.window, best.threshold)
        rows.append((f"{size:,}", *map(ms, phases), ms(best.total), target))
    columns = ("labels", "re-score", "window", "threshold", "all", "target 1 s")
    return (
        f"\nλ from fp16 embeddings with the cluster scorer, {EXPERTS} experts, median of"
        f" {ROUNDS}:\n" + table(columns, rows)
    )


def whole_cycle(size: int) -> str:
    """Time ``learn`` on a real ledger: everything read and learnt anew, then one more cycle."""
    with (
        tempfile.TemporaryDirectory(prefix="pg") as folder,
        EmbeddedPostgres(Path(folder) / "data") as server,
    ):
        migrate.upgrade(server.url())
        with closing(PostgresLedger(server.url(), clock=CLOCK)) as ledger:
            _fill(ledger, size)
            learner = Recalibrator(
                ledger,
                CLOCK,
                encoder=sentence_encoder().identity,
                announce=lambda _: (),  # type: ignore[arg-type,return-value]
                send=lambda _: None,
            )
            first = _step_seconds(learner)
            again = []
            for number in range(ROUNDS):
                settings = PolicySettings(
                    reference=REFERENCE, label_rate=1.0, alpha=0.1 + 0.01 * number
                )
                with ledger.begin() as tx:
                    tx.policies.set(settings, actor="bench", now=CLOCK.now())
                again.append(_step_seconds(learner))
            with ledger.begin() as tx:
                tx.experts.set_price(ExpertId("expert-1"), Price(request_usd=0.3))
            priced = _step_seconds(learner)
    rows = [
        ("started anew: read, learn, recalibrate, publish", f"{first:.2f} s"),
        ("running: recalibrate and publish (median)", ms(float(np.median(again)))),
        ("a new price: published, learnt anew behind it", f"{priced:.2f} s"),
    ]
    return f"\nThe whole cycle over {size:,} judged requests in PostgreSQL:\n" + table(
        ("`learn`", "one cycle"), rows
    )


def threshold_alone() -> str:
    """Time the exact threshold against MAPIE's on the same losses."""
    rows = []
    for size in GIVEN:
        losses = _losses(size)
        weights = np.ones(size)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            found = crc_threshold(losses, weights, test_weight=1.0, alpha=ALPHA)
            ours.append(time.perf_counter() - started)
            if size <= MAPIE_UP_TO:
                started = time.perf_counter()
                other = _by_mapie(losses, size)
                theirs.append(time.perf_counter() - started)
                _check(found, other)
        own = float(np.median(ours))
        if theirs:
            mapie = float(np.median(theirs))
            rows.append((f"{size:,}", ms(own), ms(mapie), f"{mapie / own:.0f}"))
        else:
            rows.append((f"{size:,}", ms(own), "not run", ""))
    columns = ("labels", "exact grid (ours)", "MAPIE", "ratio")
    return (
        f"\nThe conformal threshold alone, from given scores; MAPIE on a grid of at most"
        f" {MAPIE_GRID:,} thresholds:\n" + table(columns, rows)
    )


@dataclass(frozen=True, slots=True)
class _Run:
    rescore: float
    window: float
    threshold: float

    @property
    def total(self) -> float:
        return self.rescore + self.window + self.threshold


def _recalibrated(judged: list[JudgedRequest], model: ScorerModel) -> _Run:
    policy = PolicySettings(reference=REFERENCE, label_rate=1.0, cost_weight=0.3)
    controller = RollingCrc(
        alpha=policy.alpha,
        label_discount=policy.label_discount,
        age_half_life_requests=policy.age_half_life_requests,
    )
    marks = [time.perf_counter()]
    labels = rescore(judged, model, ())
    marks.append(time.perf_counter())
    certified = [name for name in model.columns if name != REFERENCE]
    window: Window = calibration_window(
        labels, certified, last_seq=len(judged), from_seq=0, policy=policy
    )
    marks.append(time.perf_counter())
    controller.threshold(window)
    marks.append(time.perf_counter())
    return _Run(*np.diff(marks).tolist())


def _stored_embeddings(size: int) -> np.ndarray:
    """Return fp16[n, d]: real prompts, again and again with a little noise."""
    real = embeddings(1_000)
    rng = np.random.default_rng(1)
    out = np.empty((size, real.shape[1]), dtype=np.float16)
    for first in range(0, size, len(real)):
        part = real[: min(len(real), size - first)]
        noisy = part + rng.normal(0.0, 0.01, part.shape)
        out[first : first + len(part)] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return out


def _judged(size: int, vectors: npt.NDArray[np.floating]) -> list[JudgedRequest]:
    rng = np.random.default_rng(2)
    names = [ExpertId(f"expert-{i}") for i in range(EXPERTS)]
    good = rng.random((size, EXPERTS)) < 0.85
    return [
        JudgedRequest(
            request=_sampled(i, vectors[i], names[1:]),
            outcomes={name: int(good[i, m]) for m, name in enumerate(names) if m},
            scores={name: float(good[i, m]) for m, name in enumerate(names)},
        )
        for i in range(size)
    ]


def _sampled(i: int, vector: npt.NDArray[np.floating], due: list[ExpertId]) -> SampledRequest:
    return factories.sampled(
        i + 1,
        inclusion_probability=1.0,
        due_experts=tuple(due),
        reference=REFERENCE,
        served_expert=REFERENCE,
        decided_at=CLOCK.now(),
        embedding=vector,
    )


def _losses(size: int) -> Losses:
    rng = np.random.default_rng(3)
    return worst_in_set(rng.random((size, EXPERTS)), rng.random((size, EXPERTS)) < 0.85)


def _by_mapie(losses: Losses, size: int) -> float:
    finite = np.sort(np.append(losses.points[np.isfinite(losses.points)], 0.0))
    kept = np.linspace(0, len(finite) - 1, min(MAPIE_GRID, len(finite))).astype(int)
    grid = finite[kept]
    risks = np.empty((size, len(grid)))
    for column, threshold in enumerate(grid):
        risks[:, column] = losses.at(threshold)
    _, bound = methods.get_r_hat_plus(risks, grid, "crc", None, None, None)
    return float(methods.find_best_predict_param(grid, bound, np.array([ALPHA]))[0])


def _check(found: object, mapie: float) -> None:
    """Refuse to compare times of different answers: ours is exact, so never above MAPIE's."""
    if not isinstance(found, Feasible) or not -1e-12 <= mapie - found.threshold < 2e-3:
        raise ValueError(f"MAPIE found {mapie}, crc_threshold {found}")


def _fill(ledger: Ledger, size: int) -> None:
    """Put a pool, a policy and judged requests into the ledger."""
    real = embeddings(1_000)
    judged = _judged(size, _stored_embeddings(size))
    with ledger.begin() as tx:
        for i in range(EXPERTS):
            price, now = Price(request_usd=1.0 / (1 + 3 * i)), CLOCK.now()
            tx.experts.add(
                factories.expert(f"expert-{i}", price=price, added_at=now, status_changed_at=now)
            )
        tx.policies.set(
            PolicySettings(reference=REFERENCE, label_rate=1.0), actor="bench", now=CLOCK.now()
        )
    for first in range(0, size, BATCH):
        rows = judged[first : first + BATCH]
        with ledger.begin() as tx:
            tx.decisions.record([_decided(row, real) for row in rows])
            tx.labels.add([], [label for row in rows for label in _labels(row)])


def _decided(row: JudgedRequest, real: Float32Array) -> Decided:
    request = row.request
    number = request.seq % len(real)
    made = factories.decided(
        request.request_id,
        text=prompts()[number].text,
        decided_at=request.decided_at,
        expert=REFERENCE,
        reason=Reason.SAFE_COLD,
        propensity=1.0,
        inclusion_probability=1.0,
        due_experts=request.due_experts,
        reference=REFERENCE,
        retrieved=(),
        fold=request.fold,
        group=f"bench:{request.seq}",
    )
    return replace(made, embedding=real[number], encoder_hash=sentence_encoder().identity)


def _labels(row: JudgedRequest) -> list[Label]:
    return [
        factories.label(
            row.request.request_id,
            expert=name,
            outcome=row.outcomes.get(name, 1),
            score=score,
            labelled_at=CLOCK.now(),
        )
        for name, score in row.scores.items()
    ]


def _step_seconds(learner: Recalibrator) -> float:
    started = time.perf_counter()
    if learner.step() is None:
        raise ValueError("the cycle published nothing")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
