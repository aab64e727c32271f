"""LOOP BODY of learning: labels from the ledger, in ledger order, however they arrive.

The state after N labels is a pure function of those labels: a label that belongs before what is
already learnt makes the learner go back to a checkpoint before it (or to the start) and replay.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from online.learn import JudgedRequest, LearnSettings, OnlineLearner
from online.scorer import ScorerModel
from store.ledger import Ledger
from store.records import PROBE, VERIFIER, ExpertId, Float32Array, Label, RequestId

CHECKPOINT_EVERY = 128


class LabelWindow:
    """Every judged request the ledger knows, by ledger sequence.

    Parameters
    ----------
    encoder
        A request embedded by another one counts as never judged: its vector says nothing to a
        scorer of this one, and a label without a score calibrates nothing.
    """

    def __init__(self, *, encoder: str) -> None:
        self._encoder = encoder
        self.cursor = 0
        self.labels = 0
        self._by_id: dict[RequestId, JudgedRequest] = {}
        self._order: list[tuple[int, RequestId]] = []
        self._versions: dict[tuple[RequestId, ExpertId], str] = {}

    def __len__(self) -> int:
        return len(self._order)

    def rows(self) -> list[JudgedRequest]:
        """Return the judged requests in ledger order."""
        return [self._by_id[request_id] for _, request_id in self._order]

    def read(self, ledger: Ledger) -> set[int]:
        """Take in labels committed since the last call; return the sequences they touch.

        The ledger gives them in pieces; a restart that learnt from the first piece alone would
        publish a state of old labels.
        """
        touched: set[int] = set()
        while (piece := self._read_piece(ledger)) is not None:
            touched |= piece
        return touched

    def _read_piece(self, ledger: Ledger) -> set[int] | None:
        with ledger.begin() as tx:
            settled = tx.labels.settled_since(self.cursor)
            if not settled.labels:
                self.cursor = settled.cursor
                return None
            fresh = {x.request_id for x in settled.labels} - self._by_id.keys()
            for read in tx.decisions.sampled(fresh, encoder=self._encoder):
                # As the ledger keeps it: exact, and most of a judged request's memory.
                request = replace(read, embedding=read.embedding.astype(np.float16))
                self._by_id[request.request_id] = JudgedRequest(request=request)
                insort(self._order, (request.seq, request.request_id))
        touched = {seq for x in settled.labels if (seq := self._merge(x)) is not None}
        self.cursor = settled.cursor
        self.labels += len(settled.labels)
        return touched

    def _merge(self, label: Label) -> int | None:
        """Add one label. Where several judge versions labelled a pair, a verifier's counts, else
        the lowest version: a rule that does not depend on which arrived first.
        """
        row = self._by_id.get(label.request_id)
        key = (label.request_id, label.expert)
        held = self._versions.get(key)
        if row is None or (held is not None and _rank(held) <= _rank(label.judge_version)):
            return None
        self._versions[key] = label.judge_version
        row.outcomes[label.expert] = label.outcome
        row.scores.pop(label.expert, None)
        if label.score is not None:
            row.scores[label.expert] = label.score
        row.probed.discard(label.expert)
        if label.purpose == PROBE:
            row.probed.add(label.expert)
        return row.request.seq


class Learner:
    """An ``OnlineLearner`` that can go back."""

    def __init__(self, centroids: Float32Array, settings: LearnSettings) -> None:
        self._centroids = centroids
        self._settings = settings
        self._checkpoints: list[tuple[int, OnlineLearner]] = [
            (0, OnlineLearner(centroids, settings))
        ]

    def uses(self, centroids: Float32Array, settings: LearnSettings) -> bool:
        """Return whether these are the settings this learner was built with."""
        return self._settings == settings and self._centroids is centroids

    def forget_from(self, touched: Collection[int]) -> None:
        """Drop every checkpoint that has learnt a request whose labels have changed."""
        if touched:
            first = min(touched)
            self._checkpoints = [c for c in self._checkpoints if c[0] < first] or [
                (0, OnlineLearner(self._centroids, self._settings))
            ]

    def replay(self, window: LabelWindow, *, at_most: int) -> ScorerModel | None:
        """Return the scorer after every judged request of the window, in ledger order; None if more
        than ``at_most`` were still to be learnt: the next call goes on where this one stopped.
        """
        seq, newest = self._checkpoints[-1]
        learner = newest.copy()
        behind = [row for row in window.rows() if row.request.seq > seq]
        for count, row in enumerate(behind[:at_most], start=1):
            learner.learn(row)
            if count % CHECKPOINT_EVERY == 0 or count == at_most:
                self._keep(row.request.seq, learner.copy())
        return learner.frozen() if len(behind) <= at_most else None

    def _keep(self, seq: int, learner: OnlineLearner) -> None:
        """Keep at most eight checkpoints: the start and the newest ones."""
        self._checkpoints.append((seq, learner))
        if len(self._checkpoints) > 8:
            del self._checkpoints[1]


def _rank(judge_version: str) -> tuple[bool, str]:
    return not judge_version.startswith(VERIFIER), judge_version
