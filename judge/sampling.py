"""Which requests are judged, with which probability, and which experts on them.

π is fixed in the decision's transaction, before any label exists (design.md section 7). This slice
is uniform: π does not depend on the prompt, so alarms and λ need no assumption about it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from online.chance import draw
from online.route import admitted
from online.state import PoolMember, RoutingState
from store.duels import Duel
from store.policy import PolicySettings
from store.records import ExpertId, ExpertStatus, RequestId, Retrieved
from store.transitions import JUDGED

JUDGE_ALL_UP_TO = 4
"""Pools of up to four experts besides the reference are judged whole (promise.md section 3)."""

OF_ANY_PAIR, OF_CLOSE_PAIRS, OF_THE_REFERENCE = 0.05, 0.10, 0.02
"""Shares of the sampled requests with a duel: of a pair drawn uniformly from the pool; of the two
best where their gap is too small to trust; of the reference with itself."""


def inclusion_probability(policy: PolicySettings, tenant: str) -> float:
    """Return π of the uniform slice; 0 for a tenant that opted out."""
    return 0.0 if tenant in policy.opted_out else policy.label_rate


def is_drawn(request_id: RequestId, probability: float) -> bool:
    """Return whether the request is sampled: a hash of the id, the same on every redelivery."""
    return draw("judge", request_id) < probability


def is_anyone_judged(state: RoutingState) -> bool:
    """Return whether the pool has an expert to judge; without one a label would say nothing.

    Of the pool alone: whether a request is sampled must not depend on what it needs.
    """
    return bool(_judged(state))


def due_experts(
    request_id: RequestId,
    state: RoutingState,
    retrieved: Sequence[Retrieved],
    excluded: Collection[ExpertId] = (),
) -> tuple[ExpertId, ...]:
    """Return the experts to judge against the reference if the request is sampled.

    Small pools: all. Larger ones: all of C_λ at λ = 0, filled up to four with the certified experts
    of highest score, those still on their way to certification, and one drawn uniformly from the
    rest. Who cannot serve the request is never asked (``excluded``): its prompt may not even go
    there.
    """
    judged = [m for m in _judged(state) if m.name not in excluded]
    if len(judged) <= JUDGE_ALL_UP_TO:
        return tuple(m.name for m in judged)
    scores = {r.expert: r.score for r in retrieved if r.score is not None}
    certified = [m.name for m in judged if m.status is ExpertStatus.CERTIFIED]
    members = _members(state, scores)
    certified.sort(key=lambda name: (name not in members, -scores.get(name, -1.0)))
    best = certified[:JUDGE_ALL_UP_TO]
    joining = [m.name for m in judged if m.status is not ExpertStatus.CERTIFIED]
    rest = [m.name for m in judged if m.name not in {*best, *joining}]
    drawn = [rest[int(draw("judge-off-path", request_id) * len(rest))]] if rest else []
    return (*best, *joining, *drawn)


def drawn_duel(
    request_id: RequestId,
    state: RoutingState,
    retrieved: Sequence[Retrieved],
    gap_confidence: float | None,
    excluded: Collection[ExpertId] = (),
) -> Duel | None:
    """Return the pair to compare besides on a sampled request, if one is drawn; at most one.

    Another draw than that of the sampled requests, so that it moves none of them. Labels compare
    with the reference only: pairs of others tie the pool together in rankings, the two best where
    the gap is small are what the comparator has to decide, and the reference against a second
    answer of its own shows what a judge makes of chance alone.
    """
    number = draw("duel", request_id)
    if number < OF_THE_REFERENCE:
        itself = state.policy.reference
        return Duel(first=itself, second=itself, probability=OF_THE_REFERENCE)
    pairs = list(combinations([m.name for m in _judged(state) if m.name not in excluded], 2))
    if not pairs:
        return None
    close = _close_pair(state, retrieved, gap_confidence)
    if number < OF_THE_REFERENCE + OF_ANY_PAIR:
        pair = pairs[int(draw("duel-pair", request_id) * len(pairs))]
    elif number < OF_THE_REFERENCE + OF_ANY_PAIR + OF_CLOSE_PAIRS:
        found = [one for one in pairs if set(one) == close]
        if not found:
            return None
        pair = found[0]
    else:
        return None
    both_ways = OF_ANY_PAIR / len(pairs) + OF_CLOSE_PAIRS * (set(pair) == close)
    return Duel(first=pair[0], second=pair[1], probability=both_ways)


def _close_pair(
    state: RoutingState, retrieved: Sequence[Retrieved], gap_confidence: float | None
) -> set[ExpertId]:
    """Return CARGO's two best by utility where their gap is not trusted (``route``'s own pair)."""
    if gap_confidence is None or gap_confidence >= state.policy.tau:
        return set()
    known = [(one.utility, one.expert) for one in retrieved if one.utility is not None]
    return {expert for _, expert in sorted(known, key=lambda one: -one[0])[:2]}


def _judged(state: RoutingState) -> list[PoolMember]:
    return [m for m in state.pool if m.status in JUDGED and m.name != state.policy.reference]


def _members(state: RoutingState, scores: Mapping[ExpertId, float]) -> set[ExpertId]:
    """Return C_λ at λ = 0: at most four, and not always the four of highest score."""
    model = state.model
    if model is None:
        return set()
    row = np.array([scores.get(name, np.nan) for name in model.columns])
    return {model.columns[i] for i in admitted(row, model, state, threshold=-np.inf)}
