"""What is known of judges, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from store.judging import (
    AuditCandidate,
    AuditedPair,
    CanaryResult,
    Consistency,
    KeptVerdict,
    Quarantine,
    SourceAgreement,
    VersionLabels,
)
from store.postgres import auditing, quarantining
from store.postgres.judging_tables import audited_pairs, canaries, kept_verdicts, quarantines
from store.postgres.labels import IS_LEFT_OUT, outcome_of_served
from store.postgres.locks import QUARANTINE
from store.postgres.notify import announce
from store.postgres.operations import PostgresOperations
from store.postgres.rows import utc
from store.postgres.tables import audit, feedback, labels, verdicts
from store.records import AuditEntry, day_of
from store.upkeep import LIFTED, QUARANTINED


class PostgresJudging:
    """``store.judging.Judging``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def kept(self, keys: Collection[bytes]) -> dict[bytes, KeptVerdict]:
        found = select(kept_verdicts).where(kept_verdicts.c.key.in_(keys))
        rows = self._connection.execute(found).mappings()
        return {row["key"]: KeptVerdict(**{**row, "kept_at": utc(row["kept_at"])}) for row in rows}

    def keep(self, verdicts: Sequence[KeptVerdict]) -> None:
        if verdicts:
            rows = sorted((asdict(verdict) for verdict in verdicts), key=lambda row: row["key"])
            added = insert(kept_verdicts).values(rows).on_conflict_do_nothing()
            self._connection.execute(added)

    def forget(self, *, before: datetime, limit: int) -> int:
        old = select(kept_verdicts.c.key).where(kept_verdicts.c.kept_at < before).limit(limit)
        return self._connection.execute(
            delete(kept_verdicts).where(kept_verdicts.c.key.in_(old))
        ).rowcount

    def record_canaries(self, results: Sequence[CanaryResult]) -> None:
        if results:
            rows = [asdict(result) for result in results]
            self._connection.execute(insert(canaries).values(rows).on_conflict_do_nothing())

    def canaries(self, judge_version: str, *, since: datetime) -> list[CanaryResult]:
        found = (
            select(canaries)
            .where(canaries.c.judge_version == judge_version, canaries.c.ran_at >= since)
            .order_by(canaries.c.ran_at, canaries.c.name)
        )
        rows = self._connection.execute(found).mappings()
        return [CanaryResult(**{**row, "ran_at": utc(row["ran_at"])}) for row in rows]

    def canary_runs(self) -> dict[str, datetime]:
        newest = select(canaries.c.judge_version, func.max(canaries.c.ran_at))
        rows = self._connection.execute(newest.group_by(canaries.c.judge_version))
        return {row[0]: utc(row[1]) for row in rows}

    def last_canaries_at(self, judge_version: str) -> datetime | None:
        newest = select(func.max(canaries.c.ran_at)).where(
            canaries.c.judge_version == judge_version
        )
        found = self._connection.scalar(newest)
        return None if found is None else utc(found)

    def consistency(self, judge_version: str, *, since: datetime, limit: int) -> Consistency:
        """Only partitions of days that may hold such verdicts are read: no index is on versions."""
        said = verdicts.c
        for_low = case((said.is_low_first, said.preference), else_=1.0 - said.preference)
        pairs = (
            select(
                (func.min(for_low) != func.max(for_low)).label("differ"),
                func.min(said.judged_at).label("first_at"),
            )
            .where(
                said.day >= day_of(since - timedelta(days=1)),
                said.judge_version == judge_version,
                said.call < 2,
                said.judged_at >= since,
            )
            .group_by(said.day, said.request_id, said.expert_low, said.expert_high)
            .having(func.bool_or(said.is_low_first) & func.bool_or(~said.is_low_first))
            .order_by(func.max(said.judged_at).desc())
            .limit(limit)
            .subquery()
        )
        counted = select(
            func.count(), func.count().filter(pairs.c.differ), func.min(pairs.c.first_at)
        ).select_from(pairs)
        found, inconsistent, first_at = self._connection.execute(counted).one()
        return Consistency(
            pairs=found,
            inconsistent=inconsistent,
            first_at=None if first_at is None else utc(first_at),
        )

    def labelled(self, *, since: datetime) -> list[VersionLabels]:
        given = labels.c
        counted = (
            select(
                given.judge_version,
                func.count().label("labels"),
                func.count().filter(IS_LEFT_OUT).label("left_out"),
                func.min(given.labelled_at).label("first_at"),
                func.max(given.labelled_at).label("last_at"),
            )
            .where(given.day >= day_of(since - timedelta(days=1)), given.labelled_at >= since)
            .group_by(given.judge_version)
            .order_by(given.judge_version.collate("C"))
        )
        return [
            VersionLabels(
                judge_version=row["judge_version"],
                labels=row["labels"],
                left_out=row["left_out"],
                first_at=utc(row["first_at"]),
                last_at=utc(row["last_at"]),
            )
            for row in self._connection.execute(counted).mappings()
        ]

    def quarantine(self, quarantine: Quarantine, *, actor: str) -> int:
        count = quarantining.impose(self._connection, quarantine)
        announce(self._connection, "tasks")
        announce(self._connection, "labels")
        version, reason = quarantine.judge_version, quarantine.reason
        detail = {"judge_version": version, "reason": reason, "labels": count}
        self._audit(QUARANTINED, detail, actor=actor, now=quarantine.imposed_at)
        return count

    def lift(self, judge_version: str, *, actor: str, now: datetime) -> bool:
        if not quarantining.lift(self._connection, judge_version):
            return False
        announce(self._connection, "labels")
        self._audit(LIFTED, {"judge_version": judge_version}, actor=actor, now=now)
        return True

    def lifted_at(self, judge_version: str) -> datetime | None:
        lifted = select(func.max(audit.c.at)).where(
            audit.c.action == LIFTED, audit.c.detail["judge_version"].astext == judge_version
        )
        found = self._connection.scalar(lifted)
        return None if found is None else utc(found)

    def quarantines(self) -> list[Quarantine]:
        rows = self._connection.execute(
            select(quarantines).order_by(quarantines.c.judge_version.collate("C"))
        ).mappings()
        return [
            Quarantine(
                judge_version=row["judge_version"],
                since=utc(row["since"]),
                reason=row["reason"],
                imposed_at=utc(row["imposed_at"]),
            )
            for row in rows
        ]

    def quarantines_until_end(self) -> list[Quarantine]:
        self._connection.execute(select(func.pg_advisory_xact_lock_shared(QUARANTINE)))
        return self.quarantines()

    def feedback_agreement(self) -> list[SourceAgreement]:
        word, outcome = feedback.c, outcome_of_served(feedback.c.request_id)
        is_judged = outcome.is_not(None) & (word.rating != 0.5)
        agrees = is_judged & ((word.rating > 0.5) == (outcome == 1))
        said = select(word.source, is_judged.label("is_judged"), agrees.label("agrees")).subquery()
        counted = (
            select(
                said.c.source,
                func.count().label("ratings"),
                func.count().filter(said.c.is_judged).label("judged"),
                func.count().filter(said.c.agrees).label("agreeing"),
            )
            .group_by(said.c.source)
            .order_by(said.c.source.collate("C"))
        )
        return [SourceAgreement(**row) for row in self._connection.execute(counted).mappings()]

    def audit_pair(self, pair: AuditedPair) -> bool:
        added = insert(audited_pairs).values(asdict(pair)).on_conflict_do_nothing()
        stored = added.returning(audited_pairs.c.request_id)
        return self._connection.scalar(stored) is not None

    def audited(self) -> list[AuditedPair]:
        found = select(audited_pairs).order_by(
            audited_pairs.c.audited_at,
            *(audited_pairs.c[name].collate("C") for name in ("request_id", "expert", "auditor")),
        )
        return [
            AuditedPair(
                **{**row, "audited_at": utc(row["audited_at"])},
            )
            for row in self._connection.execute(found).mappings()
        ]

    def newest_version(self) -> str | None:
        return auditing.newest_version(self._connection)

    def auditable(self, judge_version: str, *, limit: int) -> list[AuditCandidate]:
        return auditing.auditable(self._connection, judge_version, limit=limit)

    def _audit(self, action: str, detail: dict[str, object], *, actor: str, now: datetime) -> None:
        entry = AuditEntry(actor=actor, action=action, detail=detail, at=now)
        PostgresOperations(self._connection).audit(entry)
