"""From judged requests to a calibration window: every label scored without its own fold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from online.admission import eligible, preference
from online.learn import JudgedRequest
from online.obstacles import obstacle
from online.route import jittered
from online.scorer import ScorerModel, excluded_fold, score
from recalibrate.controller import Window
from recalibrate.losses import BoolArray, worst_in_set
from store.needs import UNDECLARED, Capabilities
from store.policy import PolicySettings
from store.records import FOLDS, Expert, ExpertId, FloatArray

NEVER = 1 << 62
"""A sequence that is not reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescoredLabels:
    """The window's labels under one scorer."""

    rows: tuple[JudgedRequest, ...]
    columns: tuple[ExpertId, ...]
    relative_costs: FloatArray
    """float64[M]"""
    scores: FloatArray
    """float64[n, M], out of fold, with jitter; NaN without evidence."""
    acceptable: BoolArray
    """bool[n, M]; False where not judged."""
    judged: BoolArray
    """bool[n, M]"""
    able: BoolArray
    """bool[n, M]; False where the expert could not serve the request as it is declared now."""
    absent: BoolArray
    """bool[n, M]; True where the expert was out of service for failing calls."""

    def only(self, kept: Sequence[int]) -> RescoredLabels:
        """Return some of the rows, in the order given."""
        at = np.asarray(kept, dtype=np.int64)
        return replace(
            self,
            rows=tuple(self.rows[i] for i in kept),
            scores=self.scores[at],
            acceptable=self.acceptable[at],
            judged=self.judged[at],
            able=self.able[at],
            absent=self.absent[at],
        )


def settled(
    rows: Sequence[JudgedRequest], *, watermark: int, reference: ExpertId
) -> list[JudgedRequest]:
    """Return the rows that calibrate: behind the watermark and judged against this reference.

    A label says "acceptable against the reference of its day": another yardstick, no label.
    """
    return [r for r in rows if r.request.seq <= watermark and r.request.reference == reference]


def rescore(
    rows: Sequence[JudgedRequest], model: ScorerModel, experts: Sequence[Expert]
) -> RescoredLabels:
    """Score every judged request by the entry that was fitted without its fold.

    Parameters
    ----------
    experts
        With what they can do as of now, and when they were out of service.
    """
    declared = {e.name: e.capabilities for e in experts}
    absences = {e.name: e.health.absences for e in experts}
    scores = np.full((len(rows), len(model.columns)), np.nan)
    folds = np.array([excluded_fold(row.request.fold) for row in rows], dtype=np.int64)
    for fold in range(FOLDS):
        where: list[int] = np.flatnonzero(folds == fold).tolist()
        if where:
            embeddings = np.stack([rows[i].request.embedding for i in where])
            quality = score(model, embeddings, excluded=fold).quality
            ids = [rows[i].request.request_id for i in where]
            scores[where] = jittered(quality, ids, model.columns)
    outcomes = np.array(
        [[row.outcomes.get(name, -1) for name in model.columns] for row in rows]
    ).reshape(scores.shape)
    return RescoredLabels(
        rows=tuple(rows),
        columns=model.columns,
        relative_costs=model.relative_costs,
        scores=scores,
        acceptable=outcomes == 1,
        judged=outcomes >= 0,
        able=able(rows, model.columns, declared),
        absent=absent(rows, model.columns, absences),
    )


def able(
    rows: Sequence[JudgedRequest],
    columns: Sequence[ExpertId],
    declared: Mapping[ExpertId, Capabilities],
) -> BoolArray:
    """Return bool[n, M]: who could serve each request, by the rule that serves now.

    By the request's needs and today's capabilities, not by what was excluded in its day: the
    window stands for requests to come. Where an expert cannot serve it is no member of C_λ and
    needs no label. Where it could not then and can now it is a member without a label, which
    counts as a loss until the window has labels: what was widened is never believed untested.
    """
    found = np.ones((len(rows), len(columns)), dtype=bool)
    for column, name in enumerate(columns):
        own = declared.get(name, UNDECLARED)
        for i, row in enumerate(rows):
            needs = row.request.needs
            if needs.is_stated or own.is_limited:
                found[i, column] = obstacle(needs, name, own) is None
    return found


def absent(
    rows: Sequence[JudgedRequest],
    columns: Sequence[ExpertId],
    absences: Mapping[ExpertId, Sequence[tuple[int, int]]],
) -> BoolArray:
    """Return bool[n, M]: whether a request fell into a time when an expert was out of service.

    Which lasts from its absence's begin until the first later request at which it was due again,
    that one included (as for joining): until a state with it is in force nobody asks for it.
    """
    seqs = np.array([row.request.seq for row in rows], dtype=np.int64)
    found = np.zeros((len(rows), len(columns)), dtype=bool)
    for column, name in enumerate(columns):
        for after, until in absences.get(name, ()):
            back = _joined_seq(rows, name, after=until)
            found[:, column] |= (seqs > after) & (seqs <= back)
    return found


def calibration_window(
    labels: RescoredLabels,
    certified: Collection[ExpertId],
    *,
    last_seq: int,
    from_seq: int,
    policy: PolicySettings,
) -> Window:
    """Return the window for C_λ over these certified experts, with loss ``worst_in_set``.

    The rows are those of ``complete``. An expert that could serve one of them and was not judged
    counts as a loss; one that cannot serve it is no member there. A request from a time when an
    expert was out of service is left out, as one from before it joined: nobody could be asked
    then, whatever the prompt.
    """
    kept = complete(labels, certified, reference=policy.reference, from_seq=from_seq)
    seqs = np.array([labels.rows[i].request.seq for i in kept], dtype=np.float64)
    pi = np.array([labels.rows[i].request.inclusion_probability for i in kept])
    scores = labels.scores[np.asarray(kept, dtype=np.int64)]
    members = eligible(
        scores,
        preference(
            scores, labels.relative_costs, policy=policy.policy, cost_weight=policy.cost_weight
        ),
        np.array([name in certified for name in labels.columns]),
        reference=labels.columns.index(policy.reference),
    )
    can_serve = labels.able[np.asarray(kept, dtype=np.int64)]
    acceptable = labels.acceptable[np.asarray(kept, dtype=np.int64)]
    return Window(
        losses=worst_in_set(np.where(members & can_serve, scores, np.nan), acceptable),
        inclusion_probability=pi,
        requests_ago=last_seq - seqs,
        minimum_inclusion=policy.label_rate or float(pi.min(initial=1.0)),
    )


def traffic_outcomes(
    rows: Sequence[JudgedRequest], expert: ExpertId, *, after_seq: int
) -> list[int]:
    """Return an expert's y on sampled traffic in ledger order, probes left out."""
    return [
        row.outcomes[expert]
        for row in rows
        if row.request.seq > after_seq and expert in row.outcomes and expert not in row.probed
    ]


def complete(
    labels: RescoredLabels,
    certified: Collection[ExpertId],
    *,
    reference: ExpertId,
    from_seq: int,
) -> list[int]:
    """Return the rows that say something about each of these experts.

    What the reference cannot serve as it is declared now would be refused today: no row stands
    for it.

    Otherwise a row stays or goes by its place in the ledger and its fold, never by its prompt, so
    that the rows kept are like the requests to come. An expert's places are those after the first
    at which it was due, and those strictly between its first and its last probe outside fold 0.
    All three ends are rows that it could serve, that is, chosen by their prompts, and are left
    out: of independent requests, those between the first and the last of a kind, or after the
    first, are like any others. Within its places an expert that could serve and was not judged
    counts as a loss: a probe that never came back, or one not asked for since it could not serve
    then. Between its last probe and joining nobody could be judged, and no row stays.
    """
    columns = [i for i, name in enumerate(labels.columns) if name in certified]
    joined = {c: _joined_seq(labels.rows, labels.columns[c]) for c in columns}
    probed = {c: _probed_seqs(labels.rows, labels.columns[c]) for c in columns}

    def speaks_of(i: int, c: int) -> bool:
        request = labels.rows[i].request
        first, last = probed[c]
        was_probed = request.fold != 0 and first < request.seq < last
        return not labels.absent[i, c] and (request.seq > joined[c] or was_probed)

    serves = labels.able[:, labels.columns.index(reference)]
    return [
        i
        for i, row in enumerate(labels.rows)
        if row.request.seq >= from_seq and serves[i] and all(speaks_of(i, c) for c in columns)
    ]


def _joined_seq(rows: Sequence[JudgedRequest], expert: ExpertId, *, after: int = -1) -> int:
    """Return the first later sequence at which the expert was due to be judged on traffic."""
    due = (r.request.seq for r in rows if expert in r.request.due_experts)
    return min((seq for seq in due if seq > after), default=NEVER)


def _probed_seqs(rows: Sequence[JudgedRequest], expert: ExpertId) -> tuple[int, int]:
    """Return the first and the last sequence at which the expert was probed (fold 0 never is)."""
    seqs = [r.request.seq for r in rows if expert in r.probed]
    return min(seqs, default=NEVER), max(seqs, default=NEVER)
