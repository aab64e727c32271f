"""The scenarios, and a stream of each: which prompt comes when, what was answered, what is judged.

Prompts are drawn with replacement from the recorded ones, so that what does not change is i.i.d. A
prompt keeps its fold, and the fold's entry never learnt from it: a repeated one is no leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.drift.pools import BoolArray, Pool, Rows, acceptable
from store.policy import PolicySettings
from store.records import ExpertId, FloatArray, RequestId

WARM = 600
"""Labels behind the first λ, judged before the stream begins."""
CHANGE = 4_000
"""Requests before the change."""
REQUESTS = 10_000
SLOPE = 3_000
"""Requests that the slow change takes."""
DAY = 2_000
"""Requests of a day with its night."""
POLICY = PolicySettings(reference=ExpertId("any"), label_rate=0.10)
"""The shipped one, but for the label rate, which is the scenario's."""
_WARM_UP, _PROMPTS, _ANSWERS = 0, 1, 2
_SEED = 20_261_201


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens after the change; everything else is stationary."""

    name: str
    mix: str = "all"
    """``all`` prompts; from easy to hard ones ``abrupt``, ``slow``; or ``cyclic`` between them."""
    label_rate: float = 0.10
    delay: int = 200
    """Requests until a label arrives."""
    failing: float = 0.0
    """Share of the best cheap expert's answers that are worth nothing after the change."""
    price: float = 1.0
    """By which the dearest other expert's price is multiplied at the change."""
    joins: bool = False
    """Whether the best cheap expert is new at the change."""
    active: bool = False
    """Whether half of the labels go to prompts whose best score is near λ."""
    lenient: float = 0.0
    """Share of unacceptable answers that the judge takes for acceptable."""
    strict: float = 0.0
    """Share of acceptable answers that it takes for unacceptable."""
    learns: bool = False
    """Whether the scorer goes on learning; else it is the one of the warm-up."""

    @property
    def start(self) -> str:
        """Return the kinds that the warm-up is drawn from: ``all``, ``easy``, or the ``ends``."""
        return {"all": "all", "cyclic": "ends"}.get(self.mix, "easy")

    @property
    def warm_up(self) -> tuple[object, ...]:
        """Return all that the warm-up depends on: scenarios that are alike in it share it."""
        return self.start, self.joins, self.lenient, self.strict


STATIONARY = Scenario(name="stationary")
ABRUPT = Scenario(name="abrupt change of mix", mix="abrupt")
TARGETED = (ABRUPT, Scenario(name="abrupt change of mix, no delay", mix="abrupt", delay=0))
"""Those for which issue 6 states how much excess regret is allowed."""
RATES = tuple(
    Scenario(
        name=f"{name}, {rate:.0%} labels, delay {delay:,}", mix=mix, label_rate=rate, delay=delay
    )
    for name, mix in (("stationary", "all"), ("abrupt", "abrupt"))
    for rate, delay in ((0.02, 200), (0.05, 200), (0.10, 2_000))
)
OTHERS = (
    Scenario(name="slow change of mix", mix="slow"),
    Scenario(name="day and night", mix="cyclic"),
    Scenario(name="one expert regresses", failing=0.25),
    Scenario(name="price cut", price=0.25),
    Scenario(name="new expert", joins=True, learns=True),
    Scenario(name="active slice with 1/π", active=True),
    Scenario(name="judge noise, 10 % both ways", lenient=0.10, strict=0.10),
    Scenario(name="judge noise, 10 % too lenient", lenient=0.10),
    Scenario(name="stationary, scorer learning", learns=True),
    Scenario(name="abrupt, scorer learning", mix="abrupt", learns=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The warm-up's ``WARM`` judged requests, then those that are served; N together."""

    prompts: Rows
    """int64[N]: rows of the pool."""
    ids: tuple[RequestId, ...]
    seqs: Rows
    """int64[N]: ledger sequences; the warm-up's are as far apart as the label rate says."""
    acceptable: BoolArray
    """bool[N, M]: the truth."""
    judged: BoolArray
    """bool[N, M]: what the judge says, of whom it judges."""
    scores: FloatArray
    """float64[N, M]: the quality that the judge sees; NaN before an expert joined."""
    cost: FloatArray
    """float64[N, M]: of the recorded answers, over the reference's mean."""


def hard_share(mix: str) -> FloatArray:
    """Return float64[REQUESTS]: the chance that a request is one of the hard prompts."""
    at = np.arange(REQUESTS)
    if mix == "cyclic":
        return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * at / DAY))
    length = SLOPE if mix == "slow" else 1
    return np.asarray(np.clip((at - CHANGE + 1) / length, 0.0, 1.0))


def drawn(pool: Pool, scenario: Scenario, seed: int) -> Stream:
    """Return one stream; the same seed gives alike scenarios the same warm-up."""
    prompts = np.concatenate([warm_prompts(pool, scenario, seed), _served(pool, scenario, seed)])
    random = np.random.default_rng((_SEED, seed, _ANSWERS))
    quality, cost = pool.quality[prompts], pool.cost[prompts]
    after = np.arange(len(prompts)) >= WARM + CHANGE
    lost = after & (random.random(len(prompts)) < scenario.failing)
    quality[lost, 0] = 0.0
    cost[after, dearest(pool)] *= scenario.price
    truth = acceptable(quality, margin=POLICY.margin)
    judged, scores = _judged(quality, truth, scenario, random)
    if scenario.joins:
        scores[~after, 0] = np.nan
    ago = np.arange(WARM, 0, -1) / scenario.label_rate
    start = int(WARM / scenario.label_rate) + 1
    return Stream(
        prompts=prompts,
        ids=tuple(RequestId(f"{seed}-{i}") for i in range(len(prompts))),
        seqs=np.concatenate([start - ago.astype(np.int64), start + np.arange(REQUESTS)]),
        acceptable=truth,
        judged=judged,
        scores=scores,
        cost=cost,
    )


def warm_prompts(pool: Pool, scenario: Scenario, seed: int) -> Rows:
    """Return int64[WARM]: what came before the stream, of the kinds that it begins with."""
    random = np.random.default_rng((_SEED, seed, _WARM_UP))
    ends = np.concatenate([pool.easy, pool.hard])
    kinds = {"all": np.arange(len(pool.folds)), "easy": pool.easy, "ends": ends}
    return random.choice(kinds[scenario.start], size=WARM)


def dearest(pool: Pool) -> int:
    """Return the column of the dearest expert beside the reference."""
    return int(np.argmax(pool.relative_costs[:-1]))


def _served(pool: Pool, scenario: Scenario, seed: int) -> Rows:
    random = np.random.default_rng((_SEED, seed, _PROMPTS))
    if scenario.mix == "all":
        return random.integers(len(pool.folds), size=REQUESTS)
    is_hard = random.random(REQUESTS) < hard_share(scenario.mix)
    easy, hard = (random.choice(rows, size=REQUESTS) for rows in (pool.easy, pool.hard))
    return np.where(is_hard, hard, easy)


def _judged(
    quality: FloatArray, truth: BoolArray, scenario: Scenario, random: np.random.Generator
) -> tuple[BoolArray, FloatArray]:
    """Return what the judge says: y, and the quality that goes with it. It knows the reference."""
    chance = np.where(truth, scenario.strict, scenario.lenient)
    chance[:, -1] = 0.0
    turned = random.random(truth.shape) < chance
    scores = np.where(turned, np.where(truth, 0.0, quality[:, [-1]]), quality)
    return truth ^ turned, scores
