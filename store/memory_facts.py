"""Decisions and responses in memory."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from store.facts import Decided, Recorded, ResponseOutcome
from store.judging import VERIFIED
from store.memory_quarantining import is_left_out
from store.memory_tables import HeldPrompt, HeldVector, Journal
from store.records import (
    TRAFFIC,
    Decision,
    ExpertId,
    Label,
    RequestId,
    ResponseReceived,
    SampledRequest,
    day_of,
)
from store.served import ALIKE, Period, ServedGroup


class MemoryDecisions:
    """``store.ledger.Decisions``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def record(self, batch: Sequence[Decided]) -> list[Recorded]:
        return [self._record(decided) for decided in batch]

    def _record(self, decided: Decided) -> Recorded:
        request_id = decided.prompt.request_id
        sha256 = _hashed(decided.prompt.text)
        if (held := self._tables.prompts.get(request_id)) is not None:
            clash = held.sha256 != sha256
            stored = None if clash else self._tables.decisions[request_id]
            return Recorded(request_id=request_id, decision=stored, is_new=False, is_conflict=clash)
        decision = replace(decided.decision, seq=self._journal.next("seq"))
        put, tables = self._journal.put, self._tables
        prompt = decided.prompt
        put(tables.days, day_of(decision.decided_at), None)
        held = HeldPrompt(sha256, prompt.text, prompt.tenant, prompt.session_id, prompt.check)
        put(tables.prompts, request_id, held)
        put(tables.decisions, request_id, decision)
        if decision.is_sampled:
            vector = HeldVector(decided.encoder_hash, decided.embedding.astype(np.float16))
            put(tables.embeddings, request_id, vector)
            put(tables.awaited, request_id, decision)
        return Recorded(request_id=request_id, decision=decision, is_new=True, is_conflict=False)

    def find(self, request_id: RequestId) -> Decision | None:
        return self._tables.decisions.get(request_id)

    def find_many(self, request_ids: Collection[RequestId]) -> dict[RequestId, Decision]:
        decisions = self._tables.decisions
        return {name: decisions[name] for name in request_ids if name in decisions}

    def prompt_text(self, request_id: RequestId) -> str | None:
        return self.prompt_texts([request_id]).get(request_id)

    def prompt_texts(self, request_ids: Collection[RequestId]) -> dict[RequestId, str]:
        held = ((name, self._tables.prompts.get(name)) for name in request_ids)
        return {
            name: prompt.text
            for name, prompt in held
            if prompt is not None and prompt.text is not None
        }

    def prompt_check(self, request_id: RequestId) -> str | None:
        held = self._tables.prompts.get(request_id)
        return held.check if held is not None else None

    def sampled(self, request_ids: Collection[RequestId], *, encoder: str) -> list[SampledRequest]:
        found = self._sampled(self.find_many(request_ids).values(), encoder)
        return sorted(found, key=lambda sampled: sampled.seq)

    def first_sampled(
        self, count: int, *, excluding_fold: int, encoder: str
    ) -> list[SampledRequest]:
        inside = (d for d in self._tables.decisions.values() if d.fold != excluding_fold)
        return list(itertools.islice(self._sampled(inside, encoder), count))

    def recent_judged(
        self, count: int, *, excluding_fold: int, without: ExpertId, encoder: str
    ) -> list[SampledRequest]:
        newest = reversed(self._tables.decisions.values())
        wanted = (
            decision
            for decision in newest
            if decision.fold != excluding_fold and self._lacks(decision.request_id, without)
        )
        return list(itertools.islice(self._sampled(wanted, encoder), count))[::-1]

    def served(self, period: Period) -> list[ServedGroup]:
        groups: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
        for decision in self._tables.decisions.values():
            if decision.decided_at in period:
                counts = groups[tuple(getattr(decision, name) for name in ALIKE)]
                counts["requests"] += 1
                counts["sampled"] += decision.is_sampled
                if said := self._said(decision):
                    counts[said] += 1
        return [
            ServedGroup(**dict(zip(ALIKE, alike, strict=True)), **counts)  # type: ignore[arg-type]
            for alike, counts in groups.items()
        ]

    def _said(self, decision: Decision) -> str | None:
        if not decision.is_sampled or decision.expert == decision.reference:
            return None
        held = self._tables.quarantines
        return _verdict(
            label
            for label in self._tables.labels_of.get(decision.request_id, ())
            if label.expert == decision.expert
            and label.purpose == TRAFFIC
            and not is_left_out(label, held)
        )

    def _lacks(self, request_id: RequestId, expert: ExpertId) -> bool:
        held = self._tables.quarantines
        every = self._tables.labels_of.get(request_id, ())
        labels = [label for label in every if not is_left_out(label, held)]
        is_judged = any(label.purpose == TRAFFIC for label in labels)
        has_text = self._tables.prompts[request_id].text is not None
        return has_text and is_judged and all(label.expert != expert for label in labels)

    def _sampled(self, decisions: Iterable[Decision], encoder: str) -> Iterable[SampledRequest]:
        vectors = self._tables.embeddings
        return (
            SampledRequest(
                request_id=decision.request_id,
                seq=decision.seq or 0,
                fold=decision.fold,
                inclusion_probability=decision.inclusion_probability,
                due_experts=decision.due_experts,
                reference=decision.reference,
                served_expert=decision.expert,
                threshold=decision.threshold,
                state_version=decision.state_version,
                decided_at=decision.decided_at,
                tenant=decision.tenant,
                embedding=held.vector.astype(np.float32),
                category=decision.category,
                needs=decision.needs,
            )
            for decision in decisions
            if (held := vectors.get(decision.request_id)) is not None and held.encoder == encoder
        )

    def watermark(self, *, now: datetime, timeout_s: float) -> int:
        oldest = now - timedelta(seconds=timeout_s)
        outstanding = (d.seq or 0 for d in self._tables.awaited.values() if d.decided_at >= oldest)
        return min(outstanding, default=self.last_seq() + 1) - 1

    def last_seq(self) -> int:
        return self._tables.counters.get("seq", 0)

    def newest_at(self) -> datetime | None:
        newest = next(reversed(self._tables.decisions.values()), None)
        return newest.decided_at if newest is not None else None

    def newest_version(self) -> int:
        newest = next(reversed(self._tables.decisions.values()), None)
        return newest.state_version if newest is not None else 0


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _verdict(given: Iterable[Label]) -> str | None:
    """Return what the label that counts says, as ``ServedGroup`` counts it."""
    ranked = sorted(
        given, key=lambda x: (not x.judge_version.startswith(VERIFIED), x.judge_version)
    )
    if not ranked:
        return None
    if ranked[0].score is None:
        return "unreadable"
    return "acceptable" if ranked[0].outcome else "unacceptable"


class MemoryResponses:
    """``store.ledger.Responses``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def record(self, batch: Sequence[ResponseReceived]) -> list[ResponseOutcome]:
        return [self._record(response) for response in batch]

    def _record(self, response: ResponseReceived) -> ResponseOutcome:
        if response.request_id not in self._tables.decisions:
            return ResponseOutcome.UNKNOWN_REQUEST
        put, tables, request_id = self._journal.put, self._tables, response.request_id
        sha256 = None if response.text is None else _hashed(response.text)
        stored = tables.responses.get(request_id)
        if stored is None:
            put(tables.responses, request_id, response)
            put(tables.response_hashes, request_id, sha256)
            return ResponseOutcome.NEW
        known = (stored.expert, tables.response_hashes[request_id], stored.cost_usd)
        if known == (response.expert, sha256, response.cost_usd):
            return ResponseOutcome.DUPLICATE
        return ResponseOutcome.CONFLICT

    def find(self, request_id: RequestId) -> ResponseReceived | None:
        return self._tables.responses.get(request_id)

    def record_shadow(self, answer: ResponseReceived) -> bool:
        key = (answer.request_id, answer.expert)
        if key in self._tables.shadows:
            return False
        self._journal.put(self._tables.shadows, key, answer)
        return True

    def find_shadow(self, request_id: RequestId, expert: ExpertId) -> ResponseReceived | None:
        return self._tables.shadows.get((request_id, expert))

    def mean_output_tokens(self) -> dict[ExpertId, float]:
        tables = self._tables
        stated: dict[ExpertId, list[tuple[datetime, int]]] = {name: [] for name in tables.experts}
        for answer in itertools.chain(tables.responses.values(), tables.shadows.values()):
            if answer.output_tokens is not None and answer.expert in stated:
                stated[answer.expert].append((answer.received_at, answer.output_tokens))
        return {
            name: statistics.fmean(tokens for _, tokens in heapq.nlargest(1_000, answers))
            for name, answers in stated.items()
            if answers
        }

    def costs(self, request_ids: Collection[RequestId]) -> dict[tuple[RequestId, ExpertId], float]:
        tables, wanted = self._tables, set(request_ids)
        answers = itertools.chain(tables.shadows.values(), tables.responses.values())
        return {
            (answer.request_id, answer.expert): answer.cost_usd
            for answer in answers
            if answer.request_id in wanted and answer.cost_usd is not None
        }

    def park(self, response: ResponseReceived, original: bytes, *, now: datetime) -> None:
        key = (response.request_id, response.expert)
        if key not in self._tables.parked:
            self._journal.put(self._tables.parked, key, (response, original, now))

    def take_parked(self, *, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        visible = (key for key in self._by_age() if key[0] in self._tables.decisions)
        return self._take(itertools.islice(visible, limit))

    def take_expired(self, *, before: datetime, limit: int) -> list[tuple[ResponseReceived, bytes]]:
        expired = (key for key in self._by_age() if self._tables.parked[key][2] < before)
        return self._take(itertools.islice(expired, limit))

    def _by_age(self) -> list[tuple[RequestId, ExpertId]]:
        return sorted(self._tables.parked, key=lambda key: (self._tables.parked[key][2], key))

    def _take(
        self, keys: Iterable[tuple[RequestId, ExpertId]]
    ) -> list[tuple[ResponseReceived, bytes]]:
        taken = [self._journal.drop(self._tables.parked, key) for key in list(keys)]
        return [(held[0], held[1]) for held in taken if held is not None]
