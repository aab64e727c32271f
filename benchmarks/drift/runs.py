"""Every scenario on every pool, seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.drift.labels import warm_up
from benchmarks.drift.learning import judged_requests, warmed
from benchmarks.drift.loop import Loop
from benchmarks.drift.pools import Pool
from benchmarks.drift.served import Figures, figures
from benchmarks.drift.streams import Scenario, drawn
from online.learn import OnlineLearner

_SEED = 20_261_202
Found = dict[str, Figures]
"""By method."""


def runs(pool: Pool, scenarios: Iterable[Scenario], seed: int) -> Iterator[tuple[Scenario, Found]]:
    """Yield the figures of each scenario; those that begin alike share the warm-up's scorer."""
    learnt: dict[tuple[object, ...], OnlineLearner] = {}
    for scenario in scenarios:
        stream = drawn(pool, scenario, seed)
        if scenario.warm_up not in learnt:
            rows = judged_requests(pool, stream, warm_up(scenario))
            learnt[scenario.warm_up] = warmed(pool, rows)
        loop = Loop(pool, scenario, stream, learnt[scenario.warm_up])
        yield scenario, figures(loop.run(np.random.default_rng((_SEED, seed))), stream)
