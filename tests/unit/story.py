"""A small stream of served requests to summarise; say only what the test is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from judge.error import Bound
from recalibrate.stream_facts import (
    Graded,
    LabelTotals,
    ServedRequest,
    StatusChange,
    StoryEvent,
    StreamFacts,
    served_request,
)
from store.records import ExpertId, ExpertStatus, Reason, Retrieved
from tests import factories
from tests.factories import CHEAP, STRONG, later

MID = ExpertId("mid")
LEVEL = {CHEAP: 0.001, MID: 0.004, STRONG: 0.01}


def graded(**scores: float) -> dict[ExpertId, Graded]:
    """Answers by expert name, each at its usual cost."""
    return {
        ExpertId(name): Graded(score=score, cost_usd=LEVEL[ExpertId(name)])
        for name, score in scores.items()
    }


def logged(expert: ExpertId, score: float, utility: float, **changes: Any) -> Retrieved:
    values = {"cosine": 0.5, "is_candidate": False} | changes
    return Retrieved(expert=expert, score=score, utility=utility, **values)


def request(
    position: int,
    expert: ExpertId = CHEAP,
    *,
    answers: dict[ExpertId, Graded] | None = None,
    retrieved: Sequence[Retrieved] | None = None,
    phase: str = "stream",
    unjudged_tenants: Collection[str] = (),
    **changes: Any,
) -> ServedRequest:
    made = factories.decision(
        f"r{position}",
        expert=expert,
        decided_at=later(position),
        retrieved=tuple(
            retrieved
            if retrieved is not None
            else (logged(CHEAP, 0.8, 0.75), logged(STRONG, 0.9, 0.5))
        ),
        **changes,
    )
    return served_request(
        made,
        answers or graded(cheap=0.9, strong=0.9),
        position=position,
        phase=phase,
        unjudged_tenants=unjudged_tenants,
    )


def free(served: ServedRequest) -> ServedRequest:
    """The same request without any cost."""
    return replace(
        served,
        cost_usd=None,
        reference_cost_usd=None,
        answers={name: replace(g, cost_usd=None) for name, g in served.answers.items()},
    )


def facts(requests: Sequence[ServedRequest], **changes: Any) -> StreamFacts:
    values: dict[str, Any] = {
        "title": "a test stream",
        "reference": STRONG,
        "alpha": 0.10,
        "margin": 0.05,
        "tau": 0.7,
    } | changes
    return StreamFacts(requests=tuple(requests), **values)


def whole_story(name: str = "mid") -> StreamFacts:
    """A warm start, a stream, an expert that joins, an injected fault and its alarm."""
    late = ExpertId(name)
    cost = {CHEAP: 0.001, late: 0.004, STRONG: 0.01}
    requests = []
    for i in range(400):
        joined, hurt = i >= 150, i >= 300
        expert = STRONG if i < 100 or i % 3 == 0 else late if joined and i % 3 == 1 else CHEAP
        bad = i % (7 if hurt and expert == CHEAP else 40) == 0
        scores = {CHEAP: 0.3 if bad else 0.9, late: 0.9, STRONG: 0.95}
        phase = "warm start" if i < 100 else "stream" if not joined else "expert added"
        requests.append(
            request(
                i,
                expert,
                answers={e: Graded(score=s, cost_usd=cost[e]) for e, s in scores.items()},
                retrieved=(
                    logged(CHEAP, 0.6 + 0.3 * (i % 10) / 10, 0.7),
                    logged(late, 0.8, 0.72),
                    logged(STRONG, 0.9, 0.6),
                ),
                phase="regression" if hurt else phase,
                reason=Reason.SAFE_COLD if i < 100 else Reason.ROUTED,
                threshold=2.0 if i < 100 else 0.6 + i / 4000,
                effective_labels=float(i),
                state_version=1 + i // 20,
                gap_confidence=0.5 + (i % 50) / 100,
            )
        )
    return facts(
        requests,
        setup_phases=frozenset({"warm start"}),
        judge=Bound(judge_version="judge-1", bad=37, needed=100, e1=0.2, e1_at_most=None),
        calibrations=tuple(
            factories.calibration(calibrated_at=later(20 * i), new_labels=20 + i) for i in range(20)
        ),
        alerts=(factories.alert(raised_at=later(340)),),
        statuses=(
            StatusChange(expert=STRONG, status=ExpertStatus.CERTIFIED, position=0),
            StatusChange(expert=CHEAP, status=ExpertStatus.CERTIFIED, position=100),
            StatusChange(expert=late, status=ExpertStatus.REGISTERED, position=150, at=later(150)),
            StatusChange(
                expert=late,
                status=ExpertStatus.CERTIFIED,
                position=200,
                at=later(200),
                traffic_labels=104,
            ),
        ),
        labels=LabelTotals(
            labels=480, judge_calls=960, probes=192, shadow_cost_usd=0.4, judge_cost_usd=0.1
        ),
        events=(
            StoryEvent(position=300, text="cheap answers badly", subject=CHEAP, is_injected=True),
        ),
    )
