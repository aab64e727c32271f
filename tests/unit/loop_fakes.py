"""Synthetic recorded traffic in clusters, an encoder that knows them, and a loop over both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ingest.local import LocalLoop, Served
from judge.port import Judge
from online.category_examples import EXAMPLES
from online.recorded import RecordedAnswer, RecordedTraffic
from online.scorer import ScorerModel
from online.state import RoutingState
from store.policy import PolicySettings
from store.records import Alert, Expert, ExpertId, Float32Array, Price, RequestId

DIMENSION = 8
CLUSTERS = 4
STRONG = ExpertId("strong")
SMALL = ExpertId("small")
TINY = ExpertId("tiny")
QUALITY: Mapping[ExpertId, tuple[float, ...]] = {
    STRONG: (0.9, 0.9, 0.9, 0.9),
    SMALL: (0.98, 0.95, 0.6, 0.2),
    TINY: (0.97, 0.3, 0.2, 0.1),
}
"""P(good answer) of each expert by cluster of prompts."""
TRAINED = 224
"""Requests after which a loop whose requests are all judged has certified its experts."""
PRICES = {STRONG: 1.0, SMALL: 0.2, TINY: 0.05}


class ClusterEncoder:
    """Unit vectors around one of a few axes; a text names its cluster and its noise."""

    identity = "fake-encoder-0123456789abcdef"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Float32Array:
        self.asked += [text for text in texts if text not in _EXAMPLES]
        return np.stack([_vector(text) for text in texts])


_EXAMPLES: dict[str, Float32Array] = {
    text: np.eye(DIMENSION, dtype=np.float32)[kind]
    for kind, texts in enumerate(EXAMPLES.values())
    for text in texts
}
"""Those by which a router tells categories, one axis for each."""


def _vector(text: str) -> Float32Array:
    if text in _EXAMPLES:
        return _EXAMPLES[text]
    _, cluster, number = text.split(" ")[:3]
    vector = np.random.default_rng(int(number)).normal(0.0, 0.15, DIMENSION)
    vector[int(cluster)] += 1.0
    unit: Float32Array = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def traffic(
    count: int,
    *,
    quality: Mapping[ExpertId, tuple[float, ...]] = QUALITY,
    start: int = 0,
    seed: int = 0,
) -> RecordedTraffic:
    """Every expert answers every prompt: 1 with its probability in the cluster, else 0."""
    rng = np.random.default_rng((seed, start))
    made = RecordedTraffic()
    for number in range(start, start + count):
        request_id = RequestId(f"r{number}")
        cluster = int(rng.integers(CLUSTERS))
        made.prompts[request_id] = f"prompt {cluster} {number}"
        for name, chances in quality.items():
            score = float(rng.random() < chances[cluster])
            cost = PRICES.get(name, 0.1)
            made.answers[request_id, name] = RecordedAnswer(score, cost, None)
    return made


def joined(*parts: RecordedTraffic) -> RecordedTraffic:
    """Return traffic one after the other."""
    whole = RecordedTraffic()
    for part in parts:
        whole.prompts |= part.prompts
        whole.answers |= part.answers
    return whole


def policy(**changes: Any) -> PolicySettings:
    values: dict[str, Any] = {
        "reference": STRONG,
        "alpha": 0.2,
        "label_rate": 1.0,
        "cluster_prompts": 50,
    } | changes
    return PolicySettings(**values)


def loop(
    recorded: RecordedTraffic,
    *,
    judge: Judge | None = None,
    experts: Sequence[ExpertId] | None = None,
    **changes: Any,
) -> LocalLoop:
    """A loop whose experts are registered, the reference first."""
    made = LocalLoop(recorded, policy(**changes), ClusterEncoder(), judge=judge)
    for name in experts if experts is not None else recorded.experts():
        made.add_expert(name, Price(request_usd=PRICES.get(name, 0.1)))
    return made


def run(made: LocalLoop, *, first: int = 0, last: int | None = None) -> list[Served]:
    return list(made.serve(list(made.traffic.prompts)[first:last]))


def regret(served: Sequence[Served]) -> float:
    """Share of requests served unacceptably."""
    return sum(s.regret(0.05) for s in served) / len(served)


def cheap_share(served: Sequence[Served]) -> float:
    """Share of requests that the reference did not serve."""
    return sum(s.decision.expert != s.decision.reference for s in served) / len(served)


def expert_of(made: LocalLoop, name: ExpertId) -> Expert:
    with made.ledger.begin() as tx:
        found = tx.experts.find(name)
    assert found is not None
    return found


def alerts_of(made: LocalLoop) -> list[Alert]:
    with made.ledger.begin() as tx:
        return tx.operations.alerts(limit=100)


def trained(count: int = TRAINED, *, more: int = 0, **changes: Any) -> LocalLoop:
    """A loop that has served ``count`` requests, all judged, and knows ``more`` of them."""
    made = loop(traffic(count + more), **changes)
    run(made, last=count)
    return made


def state_of(made: LocalLoop) -> RoutingState:
    """Return the state in force."""
    found = made.live.current()
    assert found is not None
    return found


def scorer_of(made: LocalLoop) -> ScorerModel:
    found = state_of(made).model
    assert found is not None
    return found
