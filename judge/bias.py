"""What else than quality moves a judge: the place of an answer, its length, its family.

Position shows in verdicts alone, since each pair is asked in both orders. Length and family do
not: longer answers may be better ones. There the judge is compared with people on the same pairs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from judge.aggregate import pair_result
from judge.error import first_word, is_acceptable
from judge.intervals import Estimate, Z, mean_by_group
from store.judging import AuditedPair
from store.records import ExpertId, FloatArray, RequestId, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSeen:
    """What one judge said of one expert's answer against the reference's, in a duel another's."""

    request_id: RequestId
    expert: ExpertId
    reference: ExpertId
    verdicts: tuple[Verdict, ...]
    longer_by: int | None
    """Bytes by which the expert's answer is longer; None when a text is gone."""

    @property
    def preference(self) -> float:
        """Return what its calls come to: 1 win, 0.5 tie or inconsistent, 0 lost."""
        return pair_result(self.verdicts, self.expert).preference


def position(seen: Iterable[PairSeen]) -> Estimate | None:
    """Return how often the answer shown first wins, ties halved; 0.5 without position bias.

    Only of pairs that were asked in both orders, by their first two calls: each answer was shown
    first once, so that their quality cancels.
    """
    first: list[float] = []
    requests: list[RequestId] = []
    for pair in seen:
        calls = [v.preference for v in pair.verdicts if v.call < 2]
        if len(calls) == 2:
            first += calls
            requests += [pair.request_id] * 2
    return mean_by_group(np.array(first), requests) if first else None


def length(seen: Iterable[PairSeen]) -> Estimate | None:
    """Return how often the longer answer wins, ties halved."""
    told = [p for p in seen if p.longer_by and p.verdicts]
    if not told:
        return None
    wins = [p.preference if (p.longer_by or 0) > 0 else 1.0 - p.preference for p in told]
    return mean_by_group(np.array(wins), [p.request_id for p in told])


def towards_longer(audited: Iterable[AuditedPair], seen: Iterable[PairSeen]) -> Estimate | None:
    """Return by how much more the judge favours longer answers than people do, on the same pairs.

    The share it accepts beyond what people accept where the expert's answer is the longer one, less
    the same where it is the shorter one; 0 without bias.
    """
    longer = {(p.request_id, p.expert): p.longer_by > 0 for p in seen if p.longer_by}
    known = [p for p in first_word(audited) if (p.request_id, p.expert) in longer]
    return _leaning(known, [longer[p.request_id, p.expert] for p in known])


def towards_own(audited: Iterable[AuditedPair], own: Collection[ExpertId]) -> Estimate | None:
    """Return by how much more the judge favours experts of its own family than people do."""
    known = first_word(audited)
    return _leaning(known, [p.expert in own for p in known])


def _leaning(pairs: Sequence[AuditedPair], is_in: Sequence[bool]) -> Estimate | None:
    """Return the judge's excess over people inside a class, less that outside it."""
    inside = np.array(is_in, dtype=bool)
    if not inside.any() or inside.all():
        return None
    excess = np.array([p.judge_outcome - float(is_acceptable(p)) for p in pairs])
    return _difference(excess, inside, [p.request_id for p in pairs])


def _difference(
    values: FloatArray, inside: np.ndarray, groups: Sequence[Hashable]
) -> Estimate | None:
    """Return mean inside minus mean outside, with an interval over groups."""
    parts = [(inside, 1.0), (~inside, -1.0)]
    value = sum(sign * float(values[chosen].mean()) for chosen, sign in parts)
    moved: dict[Hashable, float] = defaultdict(float)
    for chosen, sign in parts:
        centred = sign * (values - values[chosen].mean()) / float(chosen.sum())
        for i in np.flatnonzero(chosen).tolist():
            moved[groups[i]] += float(centred[i])
    if len(moved) < 3:
        return None
    correction = len(moved) / (len(moved) - 1)
    half = Z * math.sqrt(correction * sum(part**2 for part in moved.values()))
    return Estimate(value=value, low=value - half, high=value + half)
