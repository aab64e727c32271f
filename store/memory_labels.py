"""Verdicts and labels in memory."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from store.facts import Arrived, SettledLabels
from store.memory_quarantining import is_left_out
from store.memory_tables import Journal, VerdictKey
from store.records import TRAFFIC, Label, RequestId, Verdict


class MemoryLabels:
    """``store.ledger.Labels``; transactions are one after the other, so the log is settled."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def add(self, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> int:
        for verdict in verdicts:
            if (key := _verdict_key(verdict)) not in self._tables.verdicts:
                self._journal.put(self._tables.verdicts, key, verdict)
        new = [label for label in labels if self._is_added(label)]
        if new:
            self._journal.heard.add("labels")
        return len(new)

    def _is_added(self, label: Label) -> bool:
        tables, key = self._tables, (label.request_id, label.expert, label.judge_version)
        if key in tables.labels:
            return False
        self._journal.put(tables.labels, key, label)
        self._journal.append(tables.label_log, label)
        earlier = tables.labels_of.get(label.request_id, ())
        self._journal.put(tables.labels_of, label.request_id, (*earlier, label))
        return True

    def settled_since(self, cursor: int, *, limit: int = 50_000) -> SettledLabels:
        rest = enumerate(self._tables.label_log[cursor:], start=cursor + 1)
        counted = ((n, x) for n, x in rest if x is not None and self._counts(x))
        found = list(itertools.islice(counted, limit))
        return SettledLabels(tuple(x for _, x in found), found[-1][0] if found else cursor)

    def count(self) -> int:
        return len(self._tables.labels)

    def arrived(self, *, since: datetime, encoder: str) -> Arrived:
        vectors = self._tables.embeddings
        found = [
            label
            for label in self._tables.labels.values()
            if label.purpose == TRAFFIC
            and label.labelled_at >= since
            and (vector := vectors.get(label.request_id)) is not None
            and vector.encoder == encoder
            and self._counts(label)
        ]
        return Arrived(
            requests=len({label.request_id for label in found}),
            first_at=min((label.labelled_at for label in found), default=None),
            by_expert=dict(Counter(label.expert for label in found)),
        )

    def _counts(self, label: Label) -> bool:
        return not is_left_out(label, self._tables.quarantines)

    def verdicts_of(self, request_id: RequestId) -> list[Verdict]:
        keys = sorted(key for key in self._tables.verdicts if key[0] == request_id)
        return [self._tables.verdicts[key] for key in keys]


def _verdict_key(verdict: Verdict) -> VerdictKey:
    low, high = sorted((verdict.expert_a, verdict.expert_b))
    return (verdict.request_id, verdict.judge_version, low, high, verdict.call)
