"""The whole decision as one pure function of a request and a routing state (design.md section 5).

Leave out who cannot serve, retrieve (CSCR), score, admit C_λ (CR²), choose by utility, compare when
the gap is small (CARGO), explore inside what is admitted. Deterministic: the draws are hashes of
the request id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from online.admission import eligible, preference
from online.chance import draw, jitter
from online.costs import count_tokens
from online.gap import compared
from online.obstacles import check_pin, check_reference, exclusions, needs_of
from online.retrieve import TOP_K
from online.scorer import ScorerModel, Scores, excluded_fold, score
from online.state import RoutingState
from store.errors import EventRejected
from store.needs import NO_NEEDS, Needs
from store.policy import OBSERVE, OFF
from store.records import (
    SAFE,
    ExpertId,
    Float32Array,
    FloatArray,
    PromptReceived,
    Reason,
    RequestId,
    Retrieved,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What ``route`` decided and why."""

    expert: ExpertId
    reason: Reason
    propensity: float
    retrieved: tuple[Retrieved, ...] = ()
    gap: float | None = None
    gap_confidence: float | None = None
    comparator_probability: float | None = None
    would_serve: ExpertId | None = None
    """What mode ``apply`` would have served, exploration included; None in other modes."""
    would_reason: Reason | None = None
    needs: Needs = NO_NEEDS
    excluded: Mapping[ExpertId, str] = field(default_factory=dict)
    """Experts that cannot serve the request, each with its ``Obstacle``."""


def route(
    prompt: PromptReceived,
    embedding: Float32Array,
    state: RoutingState,
    *,
    fold: int,
    category: str,
    degraded: bool = False,
) -> Choice:
    """Return the expert for a prompt.

    Parameters
    ----------
    embedding
        float32[d], unit length, by the encoder the state is bound to.
    fold
        The request's fold: it is scored by the entry that never saw its near-duplicates.
    category
        By ``Categories.names``; it picks the regressors that the gap is taken from.
    degraded
        The ledger is away: no exploration, so that the answer is a pure function of the request
        id and the state version.

    Raises
    ------
    EventRejected
        The request pins an expert that cannot serve it, or the reference cannot.
    """
    needs = needs_of(prompt)
    if prompt.pinned_expert is not None:
        return _pinned(prompt.pinned_expert, needs, state)
    excluded = exclusions(needs, state)
    check_reference(needs, state, excluded)
    if state.policy.mode == OFF:
        chosen = Choice(expert=state.policy.reference, reason=Reason.OFF, propensity=1.0)
    else:
        entry = excluded_fold(fold)
        chosen = _among(
            prompt, embedding, state, excluded, entry=entry, category=category, explore=not degraded
        )
    if state.policy.mode == OBSERVE:
        chosen = _observed(chosen, state)
    return replace(chosen, needs=needs, excluded=excluded)


def fallback(prompt: PromptReceived, state: RoutingState) -> Choice:
    """Return the reference, for when ``route`` failed on a request that it did not reject.

    Where routing serves nobody, such a request says as little about its risk as any other.
    """
    needs = needs_of(prompt)
    chosen = Choice(
        expert=state.policy.reference,
        reason=Reason.OFF if state.policy.mode == OFF else Reason.ERROR,
        propensity=1.0,
        needs=needs,
        excluded=exclusions(needs, state),
    )
    return _observed(chosen, state) if state.policy.mode == OBSERVE else chosen


def _observed(chosen: Choice, state: RoutingState) -> Choice:
    """Return the reference, and what would have been served as no more than that."""
    return replace(
        chosen,
        expert=state.policy.reference,
        reason=Reason.OBSERVED,
        propensity=1.0,
        would_serve=chosen.expert,
        would_reason=chosen.reason,
    )


def admitted(
    quality: FloatArray, model: ScorerModel, state: RoutingState, *, threshold: float
) -> list[int]:
    """Return C_λ as columns, highest score first: eligible and scored strictly above λ.

    Eligibility uses the nominal costs, as the labels behind λ do.
    """
    names, reference = model.columns, state.policy.reference
    preferred = preference(
        quality[None],
        model.relative_costs,
        policy=state.policy.policy,
        cost_weight=state.policy.cost_weight,
    )
    members = eligible(quality[None], preferred, state.certified, reference=names.index(reference))
    rows = np.flatnonzero(members[0] & (quality > threshold)).tolist()
    return sorted(rows, key=lambda i: -quality[i])


def jittered(
    quality: FloatArray, request_ids: Sequence[RequestId], names: Sequence[ExpertId]
) -> FloatArray:
    """Return float64[n, M] scores with their tie-breaking jitter, as thresholds see them."""
    return quality + jitter(request_ids, names)


def _among(
    prompt: PromptReceived,
    embedding: Float32Array,
    state: RoutingState,
    excluded: Mapping[ExpertId, str],
    *,
    entry: int,
    category: str,
    explore: bool,
) -> Choice:
    """Return the choice among the experts that can serve."""
    model = state.model
    if model is None or state.policy.policy == "reference":
        reason = state.safe_reason or Reason.ROUTED
        return Choice(expert=state.policy.reference, reason=reason, propensity=1.0)
    scores = score(model, embedding[None], excluded=entry)
    names = model.columns
    quality = jittered(scores.quality, [prompt.request_id], names)[0]
    costs = state.relative_costs(count_tokens(prompt.text))
    utility = quality - state.policy.cost_weight * costs
    # As many more as may have to go: the best of those that can serve are retrieved.
    found = model.index(entry, state.nominal_costs).search(
        scores.query, cost_weight=state.policy.cost_weight, k=TOP_K + len(excluded)
    )[0]
    seen = [i for i in found if names[i] not in excluded][:TOP_K]
    inside = [i for i in admitted(quality, model, state, threshold=state.threshold) if i in seen]
    reference = names.index(state.policy.reference)
    if not np.isfinite(utility[reference]):
        return Choice(expert=state.policy.reference, reason=Reason.SAFE_COLD, propensity=1.0)
    served = [*inside, reference]
    best = _preferred(served, utility, costs, state)
    pair = compared(
        embedding,
        scores,
        quality,
        costs,
        among={*seen, reference},
        state=state,
        entry=entry,
        category=category,
    )
    chosen, reason = best, Reason.ROUTED if inside else (state.safe_reason or Reason.NO_CANDIDATE)
    if pair and pair.probability is not None and best == pair.first and pair.second in served:
        chosen, reason = pair.winner, Reason.COMPARATOR
    expert, reason, propensity = _explored(
        prompt, state, names, served, chosen, reason, explore=explore, excluded=excluded
    )
    return Choice(
        expert=expert,
        reason=reason,
        propensity=propensity,
        retrieved=_listed(sorted({*seen, reference}), names, scores, quality, utility, inside),
        gap=pair.gap if pair else None,
        gap_confidence=pair.confidence if pair else None,
        comparator_probability=pair.probability if pair else None,
    )


def _preferred(
    served: Sequence[int], utility: FloatArray, costs: FloatArray, state: RoutingState
) -> int:
    if state.policy.policy == "cheapest":
        return min(served, key=lambda i: (costs[i], -utility[i]))
    return max(served, key=lambda i: utility[i])


def _explored(
    prompt: PromptReceived,
    state: RoutingState,
    names: Sequence[ExpertId],
    served: Sequence[int],
    chosen: int,
    reason: Reason,
    *,
    explore: bool,
    excluded: Mapping[ExpertId, str],
) -> tuple[ExpertId, Reason, float]:
    """Return the served expert with the probability that the policy serves it.

    With probability q a ramping expert (its quota), else with probability ε a uniform member of
    C_λ ∪ {reference}, else the deterministic choice. At SAFE, and degraded, nothing is explored.
    """
    if not explore or state.threshold >= SAFE:
        return names[chosen], reason, 1.0
    ramping = [name for name in state.ramping if name not in excluded]
    quota = state.policy.ramp_quota if ramping else 0.0
    if draw("ramp", prompt.request_id) < quota:
        pick = int(draw("ramp-expert", prompt.request_id) * len(ramping))
        return ramping[pick], Reason.RAMP, quota / len(ramping)
    epsilon = state.policy.epsilon if len(served) > 1 else 0.0
    if draw("explore", prompt.request_id) < epsilon:
        chosen_now = served[int(draw("explore-expert", prompt.request_id) * len(served))]
        reason = Reason.EXPLORED
    else:
        chosen_now = chosen
    share = epsilon / len(served) + (1.0 - epsilon) * (chosen_now == chosen)
    return names[chosen_now], reason, (1.0 - quota) * share


def _pinned(expert: ExpertId, needs: Needs, state: RoutingState) -> Choice:
    member = state.members.get(expert)
    if member is None:
        raise EventRejected(
            "unknown_expert", f"no active expert is called {expert!r}", field="expert"
        )
    check_pin(expert, needs, member.capabilities)
    return Choice(expert=expert, reason=Reason.PINNED, propensity=1.0, needs=needs)


def _listed(
    rows: Sequence[int],
    names: Sequence[ExpertId],
    scores: Scores,
    quality: FloatArray,
    utility: FloatArray,
    inside: Sequence[int],
) -> tuple[Retrieved, ...]:
    return tuple(
        Retrieved(
            expert=names[i],
            cosine=float(scores.cosine[0, i]),
            score=_number(quality[i]),
            utility=_number(utility[i]),
            is_candidate=i in inside,
        )
        for i in rows
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
