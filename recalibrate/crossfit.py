"""What mode ``apply`` would have served on judged requests, by a λ that never saw their labels.

λ for the requests of a fold comes from the labels of the other folds, scores from the entry fitted
without the fold: an expected risk read off the labels that chose λ would be the calibration's own
fit. And λ is that of its time, one for each stretch of labels, because it moves: the risk of the
newest λ alone would be that of one draw. What is left: the entries that scored the other folds'
labels were trained with this fold's too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from online.learn import JudgedRequest
from online.route import route
from online.state import RoutingState
from recalibrate.controller import Threshold
from recalibrate.guard import recompute
from recalibrate.lifecycle import certified_names
from recalibrate.rolling import FLOOR
from recalibrate.window import RescoredLabels, complete
from store.errors import EventRejected
from store.policy import APPLY, PolicySettings
from store.records import FOLDS, ExpertId, ExpertStatus, PromptReceived, Reason, RequestId

EVALUATED = 5_000
"""The newest judged requests that are looked at."""
STRETCH = 100
"""Judged requests under one λ: half of the memory of the default discount."""
SCARCE = frozenset({Reason.SAFE_COLD, Reason.SAFE_STARVED})
BEHIND = 2_000
"""Labels that a λ is made from; the default discount leaves older ones a weight of 4e-5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A routing state and the settled labels, re-scored by it."""

    state: RoutingState
    labels: RescoredLabels
    last_seq: int
    from_seq: int

    @property
    def certified(self) -> set[ExpertId]:
        """Return the experts that may enter C_λ."""
        return certified_names(self.state.pool, self.state.policy.reference)

    @property
    def looked_at(self) -> list[int]:
        """Return the newest rows that say something about every certified expert."""
        reference = self.state.policy.reference
        rows = complete(self.labels, self.certified, reference=reference, from_seq=self.from_seq)
        return rows[-EVALUATED:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One judged request, as it would have been served."""

    row: JudgedRequest
    expert: ExpertId
    is_judged: bool
    """False: the expert was not judged here; it counts as unacceptable."""
    is_unacceptable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some judged requests in ledger order, and λ by fold from the other folds' labels."""

    rows: tuple[JudgedRequest, ...]
    thresholds: Mapping[int, Threshold]


def threshold_at(given: Evidence, policy: PolicySettings) -> Threshold:
    """Return λ by the rule in force on all labels."""
    return _recomputed(given, given.labels, policy, last_seq=given.last_seq)


def stretches(given: Evidence, policy: PolicySettings) -> list[Stretch]:
    """Return the judged requests that are looked at, each with λ as it was then.

    A stretch from before there were labels enough for a λ gets the first that there was.
    """
    kept = given.looked_at
    pieces = [kept[i : i + STRETCH] for i in range(0, len(kept), STRETCH)]
    found: list[Stretch] = []
    for piece in reversed(pieces):
        thresholds = _left_out(given, policy, until=piece[-1])
        if found and any(t.safe_reason in SCARCE for t in thresholds.values()):
            thresholds = dict(found[-1].thresholds)
        rows = tuple(given.labels.rows[i] for i in piece)
        found.append(Stretch(rows=rows, thresholds=thresholds))
    return found[::-1]


def _left_out(given: Evidence, policy: PolicySettings, *, until: int) -> dict[int, Threshold]:
    """Return λ by fold on the labels up to a row; the floor shrinks as the labels do."""
    rows = given.labels.rows
    behind = range(max(0, until + 1 - BEHIND), until + 1)
    return {
        fold: _recomputed(
            given,
            given.labels.only([i for i in behind if rows[i].request.fold != fold]),
            policy,
            last_seq=rows[until].request.seq,
            floor=FLOOR * (FOLDS - 1) / FOLDS,
        )
        for fold in range(FOLDS)
    }


def _recomputed(
    given: Evidence,
    labels: RescoredLabels,
    policy: PolicySettings,
    *,
    last_seq: int,
    floor: float = FLOOR,
) -> Threshold:
    return recompute(
        policy,
        labels,
        given.certified,
        last_seq=last_seq,
        from_seq=given.from_seq,
        is_ramping=any(m.status is ExpertStatus.RAMPING for m in given.state.pool),
        floor=floor,
    )


def trials(
    given: Evidence,
    found: Sequence[Stretch],
    policy: PolicySettings,
    texts: Mapping[RequestId, str],
) -> list[Trial]:
    """Return how each request would have been served, its own exploration draws included.

    A request that would be refused today (the reference can no longer serve it) is left out.

    Parameters
    ----------
    texts
        Of the prompts, for the cost of their length alone; one that is gone counts as empty. Who
        had room for it does not depend on it.
    """
    made = []
    for stretch in found:
        states = {fold: _at(given.state, policy, t) for fold, t in stretch.thresholds.items()}
        for row in stretch.rows:
            with suppress(EventRejected):
                made.append(_trial(row, states[row.request.fold], texts))
    return made


def _at(state: RoutingState, policy: PolicySettings, found: Threshold) -> RoutingState:
    return replace(
        state,
        policy=replace(policy, mode=APPLY),
        threshold=found.value,
        safe_reason=found.safe_reason,
        effective_labels=found.effective_labels,
    )


def _trial(row: JudgedRequest, state: RoutingState, texts: Mapping[RequestId, str]) -> Trial:
    request = row.request
    allowed = request.needs.allowed
    prompt = PromptReceived(
        request_id=request.request_id,
        text=texts.get(request.request_id, ""),
        received_at=request.decided_at,
        allowed_experts=None if allowed is None else tuple(map(ExpertId, allowed)),
        needs=request.needs,
    )
    category, fold = request.category, request.fold
    chosen = route(prompt, request.embedding, state, fold=fold, category=category).expert
    is_reference = chosen == state.policy.reference
    return Trial(
        row=row,
        expert=chosen,
        is_judged=is_reference or chosen in row.outcomes,
        is_unacceptable=not is_reference and row.outcomes.get(chosen) != 1,
    )
