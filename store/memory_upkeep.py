"""Days, retention and erasure in memory. What can no longer be found by its id is not kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime

from store.memory_tables import Journal
from store.records import AuditEntry, Decision, RequestId, TaskStatus, day_of
from store.upkeep import (
    DROPPED,
    ERASED,
    UNLEARNT,
    DroppedKeys,
    Erased,
    KeptDay,
    erasure,
    revision_of,
)

_OPEN = {TaskStatus.PENDING, TaskStatus.LEASED}


class MemoryUpkeep:
    """``store.upkeep.Upkeep``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def prepare_days(self, days: Collection[date]) -> list[date]:
        made = sorted(set(days) - self._tables.days.keys())
        for day in made:
            self._journal.put(self._tables.days, day, None)
        return made

    def days(self) -> list[date]:
        return sorted(self._tables.days)

    def survey(self) -> list[KeptDay]:
        return [self._kept(day) for day in self.days()]

    def _kept(self, day: date) -> KeptDay:
        tables, mine = self._tables, self._decided(day)
        texts = sum(self._text_bytes(request_id) for request_id in mine)
        vectors = sum(tables.embeddings[r].vector.nbytes for r in mine if r in tables.embeddings)
        return KeptDay(
            day=day,
            facts_bytes=texts + vectors,
            text_bytes=texts,
            has_text=texts > 0,
            has_keys=any(not decision.is_sampled for decision in mine.values()),
            judged=sum(request_id in tables.labels_of for request_id in mine),
            open_tasks=self._open_tasks(mine),
            unpublished=self._unpublished(mine),
        )

    def _decided(self, day: date) -> dict[RequestId, Decision]:
        decisions = self._tables.decisions.items()
        return {r: d for r, d in decisions if day_of(d.decided_at) == day}

    def _text_bytes(self, request_id: RequestId) -> int:
        tables = self._tables
        served = tables.responses.get(request_id)
        texts = [tables.prompts[request_id].text, served.text if served else None]
        texts += [a.text for key, a in tables.shadows.items() if key[0] == request_id]
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if text is not None)

    def _open_tasks(self, mine: Collection[RequestId]) -> int:
        tasks = (held.task for held in self._tables.tasks.values())
        return sum(task.request_id in mine and task.status in _OPEN for task in tasks)

    def _unpublished(self, mine: Collection[RequestId]) -> int:
        waiting = (h.message for h in self._tables.outbox.values() if not h.is_published)
        return sum(message.key in mine for message in waiting)

    def drop_facts(self, day: date, *, actor: str, now: datetime) -> bool:
        mine = self._decided(day)
        if day not in self._tables.days or self._open_tasks(mine) or self._unpublished(mine):
            return False
        size = self._kept(day).facts_bytes
        self._forget(mine)
        self._journal.drop(self._tables.days, day)
        self._audit(DROPPED, {"day": str(day), "bytes": size}, actor=actor, now=now)
        return True

    def _forget(self, gone: Collection[RequestId]) -> None:
        tables, drop = self._tables, self._journal.drop
        for place, label in enumerate(tables.label_log):
            if label is not None and label.request_id in gone:
                self._journal.blank(tables.label_log, place)
                drop(tables.labels, (label.request_id, label.expert, label.judge_version))
        for answered in [key for key in tables.shadows if key[0] in gone]:
            drop(tables.shadows, answered)
        for judged in [key for key in tables.verdicts if key[0] in gone]:
            drop(tables.verdicts, judged)
        for asked in [key for key in tables.task_keys if key[0] in gone]:
            drop(tables.tasks, drop(tables.task_keys, asked) or 0)
        for request_id in gone:
            drop(tables.prompts, request_id)
            drop(tables.decisions, request_id)
            drop(tables.embeddings, request_id)
            drop(tables.awaited, request_id)
            drop(tables.responses, request_id)
            drop(tables.response_hashes, request_id)
            drop(tables.labels_of, request_id)

    def drop_text(self, day: date, *, actor: str, now: datetime) -> bool:
        kept = self._kept(day)
        if not kept.has_text or kept.open_tasks:
            return False
        self._without_text(self._decided(day))
        for key, word in self._tables.feedback.items():
            if day_of(word.received_at) == day:
                self._journal.put(self._tables.feedback, key, replace(word, comment=None))
        detail: dict[str, object] = {"day": str(day), "bytes": kept.text_bytes}
        self._audit("text.dropped", detail, actor=actor, now=now)
        return True

    def _without_text(self, mine: Collection[RequestId]) -> Erased:
        """Erase texts of prompts and answers; return how many there were."""
        tables, put = self._tables, self._journal.put
        prompts = [r for r in mine if tables.prompts[r].text is not None]
        for request_id in prompts:
            bare = replace(tables.prompts[request_id], text=None, check=None)
            put(tables.prompts, request_id, bare)
        served = [r for r, a in tables.responses.items() if r in mine and a.text is not None]
        for request_id in served:
            put(tables.responses, request_id, replace(tables.responses[request_id], text=None))
        shadows = [k for k, a in tables.shadows.items() if k[0] in mine and a.text is not None]
        for key in shadows:
            put(tables.shadows, key, replace(tables.shadows[key], text=None))
        return Erased(prompts=len(prompts), responses=len(served), shadow_answers=len(shadows))

    def drop_keys(self, day: date, *, after: RequestId | None, limit: int) -> DroppedKeys:
        mine = self._decided(day).items()
        rest = sorted(r for r, d in mine if not d.is_sampled and (after is None or r > after))
        batch = rest[:limit]
        self._forget(batch)
        return DroppedKeys(count=len(batch), last=batch[-1] if len(rest) > limit else None)

    def drop_states(self, versions: Collection[int], *, actor: str, now: datetime) -> int:
        tables = self._tables
        gone = sorted(set(versions) & tables.states.keys() - {max(tables.states, default=0)})
        for version in gone:
            self._journal.drop(tables.states, version)
        for ack in [key for key in tables.acks if key[0] in gone]:
            self._journal.drop(tables.acks, ack)
        if gone:
            self._audit("states.dropped", {"versions": gone}, actor=actor, now=now)
        return len(gone)

    def drop_aged(self, *, before: datetime, limit: int) -> int:
        tables, drop = self._tables, self._journal.drop
        sent = [n for n, h in tables.outbox.items() if h.is_published and h.written_at < before]
        words = [key for key, word in tables.feedback.items() if word.received_at < before]
        old = [c for c in tables.calibrations if c.calibrated_at < before][:limit]
        for number in sent[:limit]:
            drop(tables.outbox, number)
        for key in words[:limit]:
            drop(tables.feedback, key)
        for calibration in old:
            self._journal.remove(tables.calibrations, calibration)
        return len(sent[:limit]) + len(words[:limit]) + len(old)

    def erase(
        self, day: date, *, tenant: str, session_id: str | None, actor: str, now: datetime
    ) -> Erased:
        tables, put = self._tables, self._journal.put
        theirs = {r for r in self._decided(day) if self._is_of(r, tenant, session_id)}
        vectors = [r for r in theirs if self._journal.drop(tables.embeddings, r) is not None]
        said = [k for k, w in tables.feedback.items() if w.request_id in theirs and w.comment]
        for key in said:
            put(tables.feedback, key, replace(tables.feedback[key], comment=None))
        early = [k for k, (_, original, _) in tables.parked.items() if k[0] in theirs and original]
        for parked in early:
            response, _, at = tables.parked[parked]
            put(tables.parked, parked, (replace(response, text=None), b"", at))
        erased = self._without_text(theirs) + Erased(
            embeddings=len(vectors), comments=len(said), parked_responses=len(early)
        )
        if erased != Erased():
            self._audit(ERASED, erasure(day, tenant, session_id, erased), actor=actor, now=now)
        return erased

    def _is_of(self, request_id: RequestId, tenant: str, session_id: str | None) -> bool:
        held = self._tables.prompts[request_id]
        return held.tenant == tenant and session_id in (None, held.session_id)

    def revision(self) -> int:
        gone = [entry.at for entry in self._tables.audit if entry.action in UNLEARNT]
        return revision_of(len(gone), max(gone, default=None))

    def _audit(self, action: str, detail: dict[str, object], *, actor: str, now: datetime) -> None:
        entry = AuditEntry(actor=actor, action=action, detail=detail, at=now)
        self._journal.append(self._tables.audit, entry)
