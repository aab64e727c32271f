"""The demo's story in one thread, on the demo's own traffic, with the real encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from ingest.demo_traffic import (
    GEMINI,
    JOINS_AT,
    LLAMA,
    MISTRAL,
    REGRESSES_AT,
    WARM,
    injected,
    load_prompts,
)
from ingest.local import LocalLoop, Served, request_price
from judge.port import Judge
from online.encode import CachedEncoder, SentenceEncoder
from online.recorded import RecordedAnswer, RecordedTraffic
from store.policy import PolicySettings
from store.records import Alert, ExpertId, RequestId

MARGIN = 0.05


@dataclass(slots=True)
class StoryRun:
    """What one run served, by phase."""

    loop: LocalLoop
    warm: list[Served] = field(default_factory=list)
    two: list[Served] = field(default_factory=list)
    joining: list[Served] = field(default_factory=list)
    three: list[Served] = field(default_factory=list)
    """After the third expert was certified, before any injection."""
    late: list[Served] = field(default_factory=list)

    def alerts(self) -> list[Alert]:
        with self.loop.ledger.begin() as tx:
            return tx.operations.alerts(limit=100)

    def streamed(self) -> list[Served]:
        return [*self.two, *self.joining, *self.three, *self.late]


def cost_share(served: list[Served]) -> float:
    """Return the cost over always-reference."""
    return sum(s.cost_usd or 0.0 for s in served) / sum(s.reference_cost_usd or 0.0 for s in served)


def regret(served: list[Served]) -> float:
    """Return the share of unacceptable answers."""
    return float(np.mean([s.regret(MARGIN) for s in served]))


def safe_share(served: list[Served]) -> float:
    """Return the share served by the reference for want of a threshold."""
    return float(np.mean([s.decision.reason.startswith("safe") for s in served]))


@cache
def encoder() -> CachedEncoder:
    """Return the real encoder with the cache that demo and tests share."""
    return CachedEncoder(SentenceEncoder(), Path(".run") / "cache")


def traffic_with(inject: ExpertId | None) -> RecordedTraffic:
    """Return the demo's traffic with the demo's injection."""
    traffic = RecordedTraffic()
    for prompt in injected(load_prompts(), inject):
        request_id = RequestId(prompt.request_id)
        traffic.prompts[request_id] = prompt.text
        for expert, (score, cost) in prompt.answers.items():
            traffic.answers[request_id, expert] = RecordedAnswer(score, cost, None)
    return traffic


def tell(
    *,
    inject: ExpertId | None = None,
    judge: Callable[[RecordedTraffic], Judge] | None = None,
    judged_until: int | None = None,
    stop_at: int | None = None,
    **settings: float,
) -> StoryRun:
    """Run the story and return what was served.

    Parameters
    ----------
    judged_until
        Streamed requests after which the judge is away.
    stop_at
        Streamed requests after which the run ends.
    """
    traffic = traffic_with(inject)
    ids = list(traffic.prompts)
    warm, stream = ids[:WARM], ids[WARM:][:stop_at]
    policy = replace(PolicySettings(reference=GEMINI, label_rate=1.0), **settings)  # type: ignore[arg-type]
    loop = LocalLoop(traffic, policy, encoder(), judge=judge(traffic) if judge else None)
    run = StoryRun(loop)
    for expert in (GEMINI, LLAMA):
        loop.add_expert(expert, request_price(traffic, expert, warm))
    run.warm += loop.serve(warm)
    loop.set_policy(replace(policy, label_rate=0.3))
    loop.settle()
    total = len(ids) - WARM
    joins, regresses = int(JOINS_AT * total), int(REGRESSES_AT * total)

    def judged() -> bool:
        return judged_until is None or len(run.streamed()) < judged_until

    for served in loop.serve(stream[:joins], judge=judged):
        run.two.append(served)
    if len(stream) > joins:
        loop.add_expert(MISTRAL, request_price(traffic, MISTRAL, warm))
    for served in loop.serve(stream[joins:regresses], judge=judged):
        (run.three if _certified(served, MISTRAL) else run.joining).append(served)
    for served in loop.serve(stream[regresses:], judge=judged):
        run.late.append(served)
    return run


def _certified(served: Served, expert: ExpertId) -> bool:
    return served.decision.threshold > 0.9 and any(
        r.expert == expert for r in served.decision.retrieved
    )
