"""The routing state: everything a decision depends on besides the request. Immutable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from online.categories import NAMES
from online.comparator import FEATURES
from online.costs import NOMINAL_INPUT_TOKENS, NOMINAL_OUTPUT_TOKENS, expected_cost
from online.isotonic import KNOTS
from online.scorer import ScorerModel
from store.errors import StateRefused
from store.needs import UNDECLARED, Capabilities
from store.policy import PolicySettings
from store.records import FOLDS, SAFE, Expert, ExpertId, ExpertStatus, FloatArray, Price, Reason
from store.transitions import JUDGED

_ACTIVE = JUDGED | {ExpertStatus.DESCRIBED, ExpertStatus.REGISTERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMember:
    """An expert as the state knows it."""

    name: ExpertId
    status: ExpertStatus
    price: Price
    mean_output_tokens: float = NOMINAL_OUTPUT_TOKENS
    capabilities: Capabilities = UNDECLARED

    def cost(self, input_tokens: int) -> float:
        """Return the expected USD of one call."""
        return expected_cost(
            self.price, input_tokens=input_tokens, mean_output_tokens=self.mean_output_tokens
        )


@dataclass(frozen=True, kw_only=True)
class RoutingState:
    """One consistent bundle: scorer, pool, prices, policy, threshold.

    A request sees the whole of one state or the whole of another, never a mixture.
    """

    version: int
    parent: int
    policy: PolicySettings
    policy_version: int
    encoder: str
    """Identity of the encoder the scorer was fitted on."""
    pool: tuple[PoolMember, ...]
    model: ScorerModel | None
    threshold: float
    """λ: an expert may be served if its score is strictly above it; ``SAFE`` admits none."""
    safe_reason: Reason | None
    """Why the threshold is ``SAFE``; None when it is not."""
    effective_labels: float
    revision: int = 0
    """``Upkeep.revision`` of the ledger whose labels made it; 0 also where nobody noted it."""

    def __post_init__(self) -> None:
        if self.policy.reference not in {m.name for m in self.pool}:
            raise StateRefused(f"the reference {self.policy.reference!r} is not in the pool")
        if not 0.0 <= self.threshold <= SAFE:
            raise StateRefused(f"threshold {self.threshold} is outside [0, {SAFE}]")
        if not 0.0 <= self.effective_labels < math.inf:
            raise StateRefused(f"effective labels are {self.effective_labels}")
        if (self.threshold >= SAFE) != (self.safe_reason is not None):
            raise StateRefused("SAFE needs a reason, and only SAFE has one")
        if self.model is not None:
            _check_model(self.model, [m.name for m in self.pool], self.policy.reference)

    @cached_property
    def members(self) -> dict[ExpertId, PoolMember]:
        """Return the pool by name."""
        return {m.name: m for m in self.pool}

    @cached_property
    def limited(self) -> tuple[PoolMember, ...]:
        """Return the members that may not have room for a request."""
        return tuple(m for m in self.pool if m.capabilities.is_limited)

    @property
    def reference(self) -> PoolMember:
        """Return the yardstick and safe fallback."""
        return self.members[self.policy.reference]

    @cached_property
    def columns(self) -> tuple[PoolMember, ...]:
        """Return the pool's members in the order of the model's columns."""
        return tuple(self.members[name] for name in (self.model.columns if self.model else ()))

    @cached_property
    def certified(self) -> npt.NDArray[np.bool_]:
        """Return bool[M]: which columns are certified."""
        return np.array([m.status is ExpertStatus.CERTIFIED for m in self.columns], dtype=np.bool_)

    @cached_property
    def ramping(self) -> tuple[ExpertId, ...]:
        """Return the experts that get a quota of the traffic."""
        return tuple(m.name for m in self.pool if m.status is ExpertStatus.RAMPING)

    def relative_costs(self, input_tokens: int) -> FloatArray:
        """Return float64[M]: expected cost over the reference's, by the model's columns."""
        request, per_input, output = self._price_parts
        costs = request + (input_tokens * per_input + output) / 1e6
        return np.asarray(costs / self.reference.cost(input_tokens))

    @cached_property
    def _price_parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what ``expected_cost`` adds up, by column: a request, a million input tokens, and
        a million times the mean answer.
        """
        prices = [m.price for m in self.columns]
        return (
            np.array([p.request_usd for p in prices]),
            np.array([p.input_usd_per_mtok for p in prices]),
            np.array([m.mean_output_tokens * m.price.output_usd_per_mtok for m in self.columns]),
        )

    @cached_property
    def nominal_costs(self) -> FloatArray:
        """Return the relative costs of the model's columns at the nominal prompt length."""
        return self.relative_costs(NOMINAL_INPUT_TOKENS)

    @cached_property
    def binding(self) -> str:
        """Return a hash of everything that shapes the served choice except λ itself.

        λ is only valid with this binding (design.md section 4, rule 6); two learners that saw the
        same labels have the same one.
        """
        shaping = {
            "encoder": self.encoder,
            "policy": {k: v for k, v in self.policy.to_json().items() if k not in _NOT_SHAPING},
            "pool": [asdict(m) for m in self.pool],
            "model": self.model.sha256() if self.model else None,
        }
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


_NOT_SHAPING = {
    *("judge_budget_per_day", "judge_usd_per_day", "judge_usd_per_tenant_day"),
    *("shadow_usd_per_day", "unjudged_tenants", "judge", "delta", "hold", "mode"),
}
"""``mode`` says whether the choice is served, not what it is: a λ that was found while observing
must be the one in force once it is applied.
"""


def pool_of(
    experts: Sequence[Expert], *, output_tokens: dict[ExpertId, float]
) -> tuple[PoolMember, ...]:
    """Return the pool of a new state: every expert that is not retired or paused."""
    return tuple(
        PoolMember(
            name=e.name,
            status=e.status,
            price=e.price,
            mean_output_tokens=output_tokens.get(e.name, NOMINAL_OUTPUT_TOKENS),
            capabilities=e.capabilities,
        )
        for e in experts
        if e.status in _ACTIVE
    )


def _check_model(model: ScorerModel, pool: Sequence[ExpertId], reference: ExpertId) -> None:
    if reference not in model.columns:
        raise StateRefused(f"the scorer does not know the reference {reference!r}")
    if len(set(model.columns)) < len(model.columns):
        raise StateRefused("the scorer names an expert twice")
    if missing := set(model.columns) - set(pool):
        raise StateRefused(f"the scorer knows experts that the pool lacks: {sorted(missing)}")
    costs = model.relative_costs
    if costs.shape != (len(model.columns),) or costs.dtype != np.float64:
        raise StateRefused(f"relative_costs has shape {costs.shape} and type {costs.dtype}")
    if not np.all(np.isfinite(costs) & (costs > 0.0)):
        raise StateRefused("every expert needs one positive, finite relative cost")
    _check_arrays(model)


def _check_arrays(model: ScorerModel) -> None:
    if model.centroids.ndim != 3:
        raise StateRefused(f"centroids have {model.centroids.ndim} axes, not 3")
    _, k, d = model.centroids.shape
    m = len(model.columns)
    shapes = {
        "centroids": (k, d),
        "table": (k, m),
        "evidence": (m,),
        "descriptors": (m, k),
        "calibration": (m, len(KNOTS)),
        "gap": (2,),
        "comparator": (len(FEATURES),),
        "regressors": (len(NAMES), k, m),
    }
    for name, shape in shapes.items():
        array = getattr(model, name)
        if array is None:
            continue
        if array.shape != (FOLDS, *shape):
            raise StateRefused(f"{name} has shape {array.shape}, not {(FOLDS, *shape)}")
        if array.dtype != (np.float32 if name == "centroids" else np.float64):
            raise StateRefused(f"{name} has type {array.dtype}")
        if not np.all(np.isfinite(array)):
            raise StateRefused(f"{name} holds NaN or infinite numbers")
