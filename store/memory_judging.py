"""What is known of judges, in memory."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from store import memory_quarantining as quarantining
from store.judging import (
    LOOK_BACK,
    VERIFIED,
    AuditCandidate,
    AuditedPair,
    CanaryResult,
    Consistency,
    KeptVerdict,
    Quarantine,
    SourceAgreement,
    VersionLabels,
)
from store.memory_quarantining import is_left_out
from store.memory_tables import Journal
from store.records import TRAFFIC, AuditEntry, ExpertId, Label, RequestId, Verdict
from store.upkeep import LIFTED, QUARANTINED


def _for_low(verdict: Verdict) -> float:
    """Return the preference for the expert whose name comes first."""
    is_low_first = verdict.expert_a < verdict.expert_b
    return verdict.preference if is_low_first else 1.0 - verdict.preference


class MemoryJudging:
    """``store.judging.Judging``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tables = journal.tables

    def kept(self, keys: Collection[bytes]) -> dict[bytes, KeptVerdict]:
        held = self._tables.kept_verdicts
        return {key: held[key] for key in keys if key in held}

    def keep(self, verdicts: Sequence[KeptVerdict]) -> None:
        for verdict in verdicts:
            if verdict.key not in self._tables.kept_verdicts:
                self._journal.put(self._tables.kept_verdicts, verdict.key, verdict)

    def forget(self, *, before: datetime, limit: int) -> int:
        held = self._tables.kept_verdicts
        old = [key for key, verdict in held.items() if verdict.kept_at < before][:limit]
        for key in old:
            self._journal.drop(held, key)
        return len(old)

    def record_canaries(self, results: Sequence[CanaryResult]) -> None:
        for result in results:
            key = (result.judge_version, result.ran_at, result.name)
            if key not in self._tables.canaries:
                self._journal.put(self._tables.canaries, key, result)

    def canaries(self, judge_version: str, *, since: datetime) -> list[CanaryResult]:
        return [
            result
            for key, result in sorted(self._tables.canaries.items())
            if key[0] == judge_version and result.ran_at >= since
        ]

    def canary_runs(self) -> dict[str, datetime]:
        return {version: at for version, at, _ in sorted(self._tables.canaries)}

    def last_canaries_at(self, judge_version: str) -> datetime | None:
        return self.canary_runs().get(judge_version)

    def consistency(self, judge_version: str, *, since: datetime, limit: int) -> Consistency:
        pairs: dict[tuple[object, ...], list[Verdict]] = defaultdict(list)
        for (request_id, version, low, high, call), verdict in self._tables.verdicts.items():
            if version == judge_version and call < 2 and verdict.judged_at >= since:
                pairs[request_id, low, high].append(verdict)
        whole = [pair for pair in pairs.values() if len({v.expert_a for v in pair}) == 2]
        whole.sort(key=lambda pair: max(v.judged_at for v in pair), reverse=True)
        newest = whole[:limit]
        return Consistency(
            pairs=len(newest),
            inconsistent=sum(_for_low(one) != _for_low(other) for one, other in newest),
            first_at=min((v.judged_at for pair in newest for v in pair), default=None),
        )

    def labelled(self, *, since: datetime) -> list[VersionLabels]:
        by_version: dict[str, list[Label]] = defaultdict(list)
        for label in self._tables.labels.values():
            if label.labelled_at >= since:
                by_version[label.judge_version].append(label)
        return [
            VersionLabels(
                judge_version=version,
                labels=len(given),
                left_out=sum(is_left_out(label, self._tables.quarantines) for label in given),
                first_at=min(label.labelled_at for label in given),
                last_at=max(label.labelled_at for label in given),
            )
            for version, given in sorted(by_version.items())
        ]

    def quarantine(self, quarantine: Quarantine, *, actor: str) -> int:
        version, held = quarantine.judge_version, self._tables.quarantines
        if (before := held.get(version)) is not None:
            quarantine = replace(quarantine, since=min(before.since, quarantine.since))
        self._journal.put(held, version, quarantine)
        count = quarantining.impose(self._journal, quarantine)
        kept = self._tables.kept_verdicts
        for key, verdict in list(kept.items()):
            if verdict.judge_version == version and verdict.kept_at >= quarantine.since:
                self._journal.drop(kept, key)
        detail = {"judge_version": version, "reason": quarantine.reason, "labels": count}
        self._audit(QUARANTINED, detail, actor=actor, now=quarantine.imposed_at)
        return count

    def lift(self, judge_version: str, *, actor: str, now: datetime) -> bool:
        lifted = self._journal.drop(self._tables.quarantines, judge_version)
        if lifted is None:
            return False
        quarantining.close(self._journal, lifted)
        self._audit(LIFTED, {"judge_version": judge_version}, actor=actor, now=now)
        return True

    def lifted_at(self, judge_version: str) -> datetime | None:
        ends = [
            entry.at
            for entry in self._tables.audit
            if entry.action == LIFTED and entry.detail["judge_version"] == judge_version
        ]
        return max(ends, default=None)

    def quarantines(self) -> list[Quarantine]:
        return [held for _, held in sorted(self._tables.quarantines.items())]

    def quarantines_until_end(self) -> list[Quarantine]:
        return self.quarantines()

    def feedback_agreement(self) -> list[SourceAgreement]:
        by_source: dict[str, list[bool | None]] = defaultdict(list)
        for word in self._tables.feedback.values():
            outcome = self._outcome_of_served(word.request_id)
            is_judged = outcome is not None and word.rating != 0.5
            by_source[word.source].append((word.rating > 0.5) == outcome if is_judged else None)
        return [
            SourceAgreement(
                source=source,
                ratings=len(said),
                judged=len(said) - said.count(None),
                agreeing=said.count(True),
            )
            for source, said in sorted(by_source.items())
        ]

    def _outcome_of_served(self, request_id: RequestId) -> int | None:
        decision = self._tables.decisions.get(request_id)
        if decision is None or decision.expert == decision.reference:
            return None
        found = [
            label
            for label in self._tables.labels_of.get(request_id, ())
            if label.expert == decision.expert and not is_left_out(label, self._tables.quarantines)
        ]
        found.sort(key=lambda x: (not x.judge_version.startswith(VERIFIED), x.judge_version))
        return found[0].outcome if found else None

    def audit_pair(self, pair: AuditedPair) -> bool:
        key = (pair.request_id, pair.expert, pair.auditor)
        if key in self._tables.audited_pairs:
            return False
        self._journal.put(self._tables.audited_pairs, key, pair)
        return True

    def audited(self) -> list[AuditedPair]:
        pairs = self._tables.audited_pairs.values()
        return sorted(pairs, key=lambda p: (p.audited_at, p.request_id, p.expert, p.auditor))

    def newest_version(self) -> str | None:
        newest = itertools.islice(reversed(self._tables.label_log), LOOK_BACK)
        given = (label for label in newest if label is not None and self._is_said(label))
        return next((label.judge_version for label in given), None)

    def auditable(self, judge_version: str, *, limit: int) -> list[AuditCandidate]:
        newest = (label for label in reversed(self._tables.label_log) if label is not None)
        theirs = (x for x in newest if x.judge_version == judge_version and self._is_said(x))
        found = [self._candidate(label) for label in itertools.islice(theirs, limit)]
        there = [candidate for candidate in found if candidate is not None]
        there.sort(key=lambda one: (one.request_id, one.expert))
        return sorted(there, key=lambda one: one.judged_at, reverse=True)

    def _is_said(self, label: Label) -> bool:
        """Return whether a judge said it of traffic, and may be believed."""
        is_verified = label.judge_version.startswith(VERIFIED)
        is_out = is_left_out(label, self._tables.quarantines)
        return label.purpose == TRAFFIC and not is_verified and not is_out

    def _candidate(self, label: Label) -> AuditCandidate | None:
        decision = self._tables.decisions.get(label.request_id)
        prompt = self._tables.prompts.get(label.request_id)
        if decision is None or prompt is None or prompt.text is None:
            return None
        theirs = self._text(label.request_id, label.expert)
        references = self._text(label.request_id, decision.reference)
        if theirs is None or references is None or label.expert == decision.reference:
            return None
        return AuditCandidate(
            request_id=label.request_id,
            expert=label.expert,
            reference=decision.reference,
            judge_version=label.judge_version,
            outcome=label.outcome,
            inclusion_probability=decision.inclusion_probability,
            category=decision.category,
            longer_by=len(theirs.encode()) - len(references.encode()),
            judged_at=label.labelled_at,
        )

    def _text(self, request_id: RequestId, expert: ExpertId) -> str | None:
        served = self._tables.responses.get(request_id)
        if served is not None and served.expert == expert:
            return served.text
        shadow = self._tables.shadows.get((request_id, expert))
        return shadow.text if shadow is not None else None

    def _audit(self, action: str, detail: dict[str, object], *, actor: str, now: datetime) -> None:
        entry = AuditEntry(actor=actor, action=action, detail=detail, at=now)
        self._journal.append(self._tables.audit, entry)
