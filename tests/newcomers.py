"""Experts that join a trained loop: the real handler, judge and learner, in event time.

``tests/guarantees/test_joining.py`` holds what must be true, ``benchmarks/live_joining.py`` prints
what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.local import BATCH, LocalLoop, Served
from judge.recorded import RecordedJudge
from online.chance import draw
from online.recorded import RecordedTraffic
from store.records import ExpertId, ExpertStatus, Price, RequestId
from tests.unit.loop_fakes import (
    QUALITY,
    SMALL,
    STRONG,
    TINY,
    TRAINED,
    ClusterEncoder,
    expert_of,
    loop,
    run,
    traffic,
)

NEW = ExpertId("new")
OLD = (STRONG, SMALL, TINY)
ALPHA = 0.2
USELESS = (0.02, 0.02, 0.02, 0.02)
BETTER = (0.99, 0.97, 0.95, 0.92)
"""P(good answer) by cluster; the reference's is 0.9 everywhere."""
LABELS = 300
"""Within which a better and cheaper expert must have won more than half of its natural share."""
WINDOW = 160
"""Requests over which a share is taken."""
MORE = 480
"""Requests after a newcomer has joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run after the newcomer joined."""

    served: tuple[Served, ...]
    statuses: tuple[ExpertStatus, ...]
    """Of the newcomer after each batch."""
    labels: tuple[int, ...]
    """Its labels after each batch, probes among them."""

    def share(self, first: int = 0, last: int | None = None) -> float:
        """Return the newcomer's share of these requests."""
        part = self.served[first:last]
        return sum(one.decision.expert == NEW for one in part) / len(part)

    def at_labels(self, count: int) -> int | None:
        """Return the requests after which it had so many labels."""
        return next((BATCH * (i + 1) for i, n in enumerate(self.labels) if n >= count), None)

    def at_status(self, status: ExpertStatus) -> int | None:
        """Return the requests after which it first had a status."""
        return next((BATCH * (i + 1) for i, s in enumerate(self.statuses) if s is status), None)


def recorded(seed: int, chances: Sequence[float] | None) -> RecordedTraffic:
    """Return traffic that all experts answer; without chances the newcomer copies ``SMALL``."""
    count = TRAINED + MORE
    own = {} if chances is None else {NEW: tuple(chances)}
    made = traffic(count, quality={**QUALITY, **own}, start=10_000 * seed, seed=seed)
    if chances is None:
        for request_id in made.prompts:
            made.answers[request_id, NEW] = made.answers[request_id, SMALL]
    return made


def joined(
    seed: int,
    chances: Sequence[float] | None,
    *,
    price: float = 0.02,
    is_old: bool = False,
    stays_out: bool = False,
    restart_after: int | None = None,
    judged: RecordedTraffic | None = None,
) -> Run:
    """Train a loop, let the newcomer join, and serve ``MORE`` requests.

    Parameters
    ----------
    is_old
        It was there from the first request: what it then gets is its natural share.
    stays_out
        It never joins: what the others do without it.
    restart_after
        Requests after which every process is replaced by one that knows only the ledger.
    judged
        What the judge sees where that is not what is served (a judge that is deceived).
    """
    made_of = recorded(seed, chances)
    judge = RecordedJudge(judged, margin=0.05) if judged is not None else None
    made = loop(made_of, judge=judge, experts=OLD, alpha=ALPHA)
    if is_old:
        made.add_expert(NEW, Price(request_usd=price))
    run(made, last=TRAINED)
    if not is_old and not stays_out:
        made.add_expert(NEW, Price(request_usd=price))
    served: list[Served] = []
    statuses, labels = [], []
    for start in range(TRAINED, TRAINED + MORE, BATCH):
        if restart_after is not None and start == TRAINED + restart_after:
            made.start(ClusterEncoder())
            made.settle()
        served += run(made, first=start, last=start + BATCH)
        if not stays_out:
            statuses.append(expert_of(made, NEW).status)
            labels.append(labels_of(made))
    return Run(served=tuple(served), statuses=tuple(statuses), labels=tuple(labels))


def labels_of(made: LocalLoop) -> int:
    """Return how many labels the newcomer has, probes among them."""
    with made.ledger.begin() as tx:
        return sum(label.expert == NEW for label in tx.labels.settled_since(0).labels)


def of_newcomer(found: Run) -> set[RequestId]:
    """Return the requests that the newcomer served."""
    return {s.decision.request_id for s in found.served if s.decision.expert == NEW}


def drawn(found: Run, quota: float) -> set[RequestId]:
    """Return the requests whose own draw falls into the quota, whoever served them."""
    ids = [one.decision.request_id for one in found.served]
    return {request_id for request_id in ids if draw("ramp", request_id) < quota}
