"""``python -m benchmarks.judge_replay --data DIR``: what a real judge's verdicts do to λ.

The whole loop as processes (embedded Kafka broker, PostgreSQL, judge over HTTP, learner) on the
prompts, answers and verdicts of ``alpacaeval_*`` (Parquet; not part of this repository), once with
the recorded verdicts and once with a coin's. ``h2oeval_*`` does not fit: other models, and 45
prompts make no 100 labels.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet

from benchmarks.given import recorded_in
from benchmarks.replayed import MODEL, Key, replaying, verdicts_of
from benchmarks.timing import mean_with_interval, table, verdict
from ingest.commands import Operator
from ingest.feed import Feed
from ingest.stage import Stage, StageFailed
from ingest.topics import KafkaSettings
from recalibrate.stream_facts import is_worse
from store.clock import SystemClock
from store.postgres.ledger import PostgresLedger
from store.records import Decision, ExpertId, Price, RequestId

FILES = ("alpacaeval_pairs", "alpacaeval_responses")
CACHE = Path(".run") / "cache"
JUDGE = "gpt4"
REFERENCE = ExpertId("text_davinci_003")
EXPERTS = (ExpertId("tulu-2-dpo-70b"), ExpertId("zephyr-7b-alpha"), ExpertId("alpaca-7b"))
ALPHA = 0.2
MARGIN = 0.05
ROUNDS = 12
"""Chosen from the spread of four earlier pairs, which are not among these: regret differed by one
standard deviation of a pair, and four such cannot tell it from 0."""
SHOWN = 300
"""Requests at the end of a stream that the figures are of; what is before them warms up."""
PRICE = Price(request_usd=0.001)
"""Of every expert: the reference has no recorded cost, so that only quality can tell them apart."""
LIMIT_S = 120.0
SEED = 31
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Recording:
    """AlpacaEval as the loop needs it."""

    prompts: dict[RequestId, str]
    texts: dict[tuple[RequestId, ExpertId], str]
    preferences: dict[tuple[RequestId, ExpertId], float]
    """For an expert's answer over the reference's; the reference's own are 0.5."""
    verdicts: dict[Key, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one judge made of one stream, as means over its last requests."""

    threshold: float
    """λ in force, 1 where it was SAFE: both admit nobody."""
    served: float
    """Share of requests that another expert than the reference answered."""
    regret: float
    """Share of answers that the recorded verdict finds worse than the reference's."""
    regret_of_others: float
    """The same among the answers of other experts only; 0 if there are none."""
    preferred: float
    """Mean recorded preference for the answer served over the reference's."""
    effective: float
    """Effective labels at the end."""


def main() -> None:
    """Print the tables, or why there are none."""
    data = recorded_in("judge_replay", __doc__, (f"{name}.parquet" for name in FILES))
    if data is None:
        return
    recording = read(data)
    real, coin = [], []
    for number in range(ROUNDS):
        order = np.random.default_rng(SEED + number).permutation(list(recording.prompts))
        stream = [RequestId(str(r)) for r in order]
        with ThreadPoolExecutor() as both:  # whatever the machine does meanwhile meets both
            flipped = both.submit(run, recording, stream, is_coin=True)
            real.append(run(recording, stream, is_coin=False))
            coin.append(flipped.result())
    print(_text(recording, real, coin))


def read(data: Path) -> Recording:
    """Return the prompts on which every model here has an answer, and each expert a verdict."""
    names = (REFERENCE, *EXPERTS)
    wanted = [("model", "in", names)]
    texts = {
        (RequestId(row["prompt_id"]), ExpertId(row["model"])): row["response"]
        for row in pyarrow.parquet.read_table(
            data / "alpacaeval_responses.parquet",
            columns=["prompt_id", "model", "response"],
            filters=wanted,
        ).to_pylist()
    }
    judged = pyarrow.parquet.read_table(
        data / "alpacaeval_pairs.parquet",
        columns=["prompt_id", "prompt", "model_a", "preference"],
        filters=[("judge", "=", JUDGE), ("model_a", "in", EXPERTS), ("model_b", "=", REFERENCE)],
    ).to_pylist()
    said = {(RequestId(row["prompt_id"]), ExpertId(row["model_a"])): row for row in judged}
    prompts = {
        r: row["prompt"]
        for (r, _), row in said.items()
        if all((r, e) in said for e in EXPERTS) and all((r, e) in texts for e in names)
    }
    # A judge prefers one, the other or neither: a probability is none of its replies.
    preferences = {
        (r, e): round(2 * said[r, e]["preference"]) / 2 for r in prompts for e in EXPERTS
    }
    rows = [
        (prompts[r], texts[r, e], texts[r, REFERENCE], preferences[r, e])
        for r in prompts
        for e in EXPERTS
    ]
    return Recording(
        prompts=prompts,
        texts={(r, e): text for (r, e), text in texts.items() if r in prompts},
        preferences=preferences | {(r, REFERENCE): 0.5 for r in prompts},
        verdicts=verdicts_of(rows),
    )


def run(recording: Recording, stream: Sequence[RequestId], *, is_coin: bool) -> Run:
    """Stream the prompts through a router of its own and return what its last requests show."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jr")))
        judge = stack.enter_context(replaying(recording.verdicts, is_coin=is_coin))
        recorded = folder / "recorded.jsonl"
        _write(recording, recorded)
        environment = {
            "STEERSMAN_RUN_DIR": str(folder),
            "STEERSMAN_CACHE_DIR": str(CACHE.resolve()),
            "STEERSMAN_RECORDED": str(recorded),
            "STEERSMAN_HTTP_PORT": "0",
            "STEERSMAN_JUDGE_BASE_URL": judge.url,
            "STEERSMAN_JUDGE_MODEL": MODEL,
        }
        stage = stack.enter_context(Stage(folder, environment, CLOCK))
        stage.start("up", ["up"])
        found = stage.wait_for_connection("up")
        stage.start("gateway", ["consume"])
        # Not by open_backbone, which migrates: Alembic cannot in two threads at once.
        ledger = stack.enter_context(closing(PostgresLedger(found["database_url"], clock=CLOCK)))
        _open_for_business(Operator(ledger, CLOCK))
        kafka = KafkaSettings(bootstrap_servers=found["bootstrap_servers"])
        feed = stack.enter_context(closing(Feed(kafka, CLOCK)))
        give_up = CLOCK.monotonic() + LIMIT_S

        def look() -> None:
            stage.check()
            if judge.unknown:
                raise StageFailed("the judge was asked what nobody recorded")
            if CLOCK.monotonic() > give_up:
                raise StageFailed(f"the stream took over {LIMIT_S:.0f} s")

        feed.stream([(r, recording.prompts[r]) for r in stream], each=look)
        return _run(recording, [feed.decisions[r] for r in stream])


def _open_for_business(operator: Operator) -> None:
    operator.set_policy(
        {
            "reference": REFERENCE,
            "alpha": str(ALPHA),
            "margin": str(MARGIN),
            "label_rate": "1",
            "cluster_prompts": "50",
            "judge": "llm",
        }
    )
    for expert in (REFERENCE, *EXPERTS):
        operator.add_expert(expert, PRICE, {"kind": "recorded"})


def _write(recording: Recording, path: Path) -> None:
    """Write the answers for who serves them; their scores are for the recorded judge, not used."""
    with path.open("w", encoding="utf-8") as file:
        for (r, expert), text in recording.texts.items():
            row = {
                "prompt_id": r,
                "prompt": recording.prompts[r],
                "model": expert,
                "score": 0.0,
                "response": text,
            }
            file.write(json.dumps(row) + "\n")


def _run(recording: Recording, decisions: Sequence[Decision]) -> Run:
    last = decisions[-SHOWN:]
    preferred = np.array([recording.preferences[d.request_id, d.expert] for d in last])
    worse = np.array([is_worse(p, 0.5, margin=MARGIN) for p in preferred])
    others = np.array([d.expert != REFERENCE for d in last])
    return Run(
        threshold=float(np.mean([min(d.threshold, 1.0) for d in last])),
        served=float(others.mean()),
        regret=float(worse.mean()),
        regret_of_others=float(worse[others].mean()) if others.any() else 0.0,
        preferred=float(preferred.mean()),
        effective=last[-1].effective_labels,
    )


def _text(recording: Recording, real: Sequence[Run], coin: Sequence[Run]) -> str:
    rows = []
    for name, attribute in (
        ("λ in force (SAFE counts as 1)", "threshold"),
        ("served by another than the reference", "served"),
        ("regret: served answer worse than the reference's", "regret"),
        ("regret among the answers of others", "regret_of_others"),
        ("mean preference for the served answer", "preferred"),
    ):
        a, b = (np.array([getattr(one, attribute) for one in runs]) for runs in (real, coin))
        mean, low, high = mean_with_interval(a - b)
        excludes = "yes" if low > 0.0 or high < 0.0 else "**no**"
        rows.append(
            (
                name,
                *(f"{x.mean():.3f} ({x.min():.3f} to {x.max():.3f})" for x in (a, b)),
                f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
                excludes,
            )
        )
    enough = min(one.effective for one in (*real, *coin))
    columns = ("last requests", "recorded verdicts", "coin", "difference (95 %)", "excludes 0")
    accepted = ", ".join(
        f"{e} {np.mean([recording.preferences[r, e] >= 0.5 for r in recording.prompts]):.3f}"
        for e in EXPERTS
    )
    return (
        f"\n{ROUNDS} pairs of runs, each {len(recording.prompts)} AlpacaEval prompts in an order of"
        f" its own, every request judged, alpha = {ALPHA:g}; figures of the last {SHOWN} requests"
        " of a run: mean (least to most). The interval is Student's over the pairs, so its unit is"
        f" a whole run. Reference {REFERENCE}; share of answers that {JUDGE} finds acceptable:"
        f" {accepted}. Canaries are answered from a sheet, by the coin too, since nobody recorded"
        f" verdicts on them. Fewest effective labels at the end of a run: {enough:.0f} (target 100:"
        f" {verdict(enough, 100.0, at_least=True)}).\n" + table(columns, rows)
    )


if __name__ == "__main__":
    main()
