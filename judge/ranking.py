"""How experts rank by the verdicts on record: pairs with the reference, and duels beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from judge.aggregate import panel_result
from judge.auditing import text_of
from judge.bias import PairSeen
from judge.intervals import Estimate, Share, share
from judge.strength import Comparisons, components, evened, strengths
from store.duels import AGAIN, DUEL
from store.judging import AuditCandidate, stands_on
from store.ledger import Transaction
from store.records import ExpertId, FloatArray, JudgeTask, RequestId, TaskStatus, Verdict

DUELS = 2_000
"""Newest duels whose verdicts are read."""
OF_EITHER_LENGTH = 0.05
"""Least share of an expert's answers on either side of equal length, to say what happens there."""
_SEED = 20261125
Key = tuple[RequestId, ExpertId, ExpertId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """The probability that the judge prefers an expert's answer to the reference's."""

    expert: ExpertId
    wins: Estimate
    wins_at_equal_length: Estimate | None
    """None for an expert whose answers are nearly always the longer or the shorter ones: nothing
    was seen at equal length, and the fit would only be prolonged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duelled:
    """What duels brought."""

    pairs: list[PairSeen]
    """Of two others than the reference, once for each judge."""
    weights: dict[Key, float]
    """One over the probability with which the pair came to be judged."""
    floor: Share | None
    """How often the reference's second answer is not acceptable against its first."""


def by_judge(
    verdicts: Sequence[Verdict], pair: Collection[ExpertId], version: str
) -> list[tuple[Verdict, ...]]:
    """Return the calls on a pair of each judge that was asked in both orders: of that version, or
    of a panel of that version, whose members have versions of their own.
    """
    asked = [v for v in verdicts if {v.expert_a, v.expert_b} == set(pair)]
    of_pair = [v for v in asked if stands_on(version, v.judge_version)]
    versions = dict.fromkeys(v.judge_version for v in of_pair)
    each = [tuple(v for v in of_pair if v.judge_version == one) for one in versions]
    return [calls for calls in each if len(calls) > 1]


def duels(
    tx: Transaction, judged: Sequence[AuditCandidate], version: str, reference: ExpertId
) -> Duelled:
    """Return the newest duels on requests that the version in force judged, texts still there."""
    known = {one.request_id for one in judged}
    done = tx.tasks.listed(status=TaskStatus.DONE, purpose=DUEL, limit=DUELS)
    tasks = [task for task in done if task.request_id in known]
    decisions = tx.decisions.find_many({task.request_id for task in tasks})
    pairs: list[PairSeen] = []
    weights: dict[Key, float] = {}
    outcomes: list[int] = []
    among: list[float] = []
    for task in tasks:
        decision = decisions[task.request_id]
        if decision.duel is None:
            continue
        first, second = task.experts
        verdicts = tx.labels.verdicts_of(task.request_id)
        if first == second:
            again = ExpertId(first + AGAIN)
            calls = by_judge(verdicts, {first, again}, version)
            if calls and first == reference:
                every = [verdict for each in calls for verdict in each]
                outcomes.append(panel_result(every, again).outcome)
                among.append(1.0 / decision.inclusion_probability)
            continue
        drawn = decision.inclusion_probability * decision.duel.probability
        weights[task.request_id, first, second] = 1.0 / drawn
        pairs += _seen(tx, task, by_judge(verdicts, {first, second}, version))
    return Duelled(pairs=pairs, weights=weights, floor=_floor(outcomes, among))


def _floor(outcomes: Sequence[int], weights: Sequence[float]) -> Share | None:
    if not outcomes:
        return None
    is_bad, each = np.array(outcomes) == 0, np.array(weights)
    return share(each[is_bad], each[~is_bad])


def _seen(tx: Transaction, task: JudgeTask, calls: Sequence[tuple[Verdict, ...]]) -> list[PairSeen]:
    first, second = task.experts
    texts = [text_of(tx, task.request_id, expert) for expert in (first, second)] if calls else []
    sizes = [len(text.encode()) for text in texts if text is not None]
    if len(sizes) < 2:
        return []
    return [
        PairSeen(
            request_id=task.request_id,
            expert=first,
            reference=second,
            verdicts=each,
            longer_by=sizes[0] - sizes[1],
        )
        for each in calls
    ]


def rank(
    seen: Sequence[PairSeen],
    candidates: Sequence[AuditCandidate],
    duelled: Duelled,
    reference: ExpertId,
) -> tuple[Strength, ...]:
    """Return the strengths of the experts that a chain of pairs leads to from the reference."""
    weight = {
        (one.request_id, one.expert, one.reference): 1.0 / one.inclusion_probability
        for one in candidates
    } | duelled.weights
    every = [*seen, *duelled.pairs]
    linked = next(
        (g for g in components(_comparisons(every, weight, None)) if reference in g),
        [],
    )
    kept = [pair for pair in every if pair.expert in linked]
    if not kept:
        return ()
    lengths = np.array([float(pair.longer_by or 0) for pair in kept])
    plain = strengths(_comparisons(kept, weight, None), rng=np.random.default_rng(_SEED))
    level = strengths(_comparisons(kept, weight, lengths), rng=np.random.default_rng(_SEED))
    if plain is None or level is None:
        return ()
    return tuple(
        Strength(
            expert=expert,
            wins=plain.against(expert, reference),
            wins_at_equal_length=level.against(expert, reference) if _meets(kept, expert) else None,
        )
        for expert in plain.order()
        if expert != reference
    )


def _meets(seen: Sequence[PairSeen], expert: ExpertId) -> bool:
    """Return whether an expert's answers are often enough longer and shorter than the others."""
    own = [pair.longer_by or 0 for pair in seen if pair.expert == expert]
    signs = np.sign([*own, *(-(pair.longer_by or 0) for pair in seen if pair.reference == expert)])
    return bool(min((signs >= 0).mean(), (signs <= 0).mean()) >= OF_EITHER_LENGTH)


def _comparisons(
    seen: Sequence[PairSeen], weight: Mapping[Key, float], longer_by: FloatArray | None
) -> Comparisons:
    experts = tuple(sorted({name for pair in seen for name in (pair.expert, pair.reference)}))
    at = {name: i for i, name in enumerate(experts)}
    prompts: dict[RequestId, int] = defaultdict(lambda: len(prompts))
    made = Comparisons(
        experts=experts,
        first=np.array([at[pair.expert] for pair in seen], dtype=np.int64),
        second=np.array([at[pair.reference] for pair in seen], dtype=np.int64),
        preference=np.array([pair.preference for pair in seen]),
        weight=np.array([weight[pair.request_id, pair.expert, pair.reference] for pair in seen]),
        prompt=np.array([prompts[pair.request_id] for pair in seen], dtype=np.int64),
        longer_by=longer_by,
    )
    return evened(made)
