"""Routing states, their acknowledgements, calibrations and snapshots on PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from store.errors import StateSuperseded
from store.postgres.batch import insert_new
from store.postgres.notify import announce
from store.postgres.rows import utc
from store.postgres.tables import calibrations, routing_states, snapshots, state_acks
from store.records import Calibration, RoutingStateRecord
from store.served import Period

_held = routing_states.c


class PostgresStates:
    """``store.ledger.States``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def publish(self, candidate: RoutingStateRecord) -> None:
        if candidate.version != candidate.parent + 1 or not self._replaces(candidate):
            raise StateSuperseded(expected=candidate.parent, active=self.active_version())
        announce(self._connection, "state")

    def _replaces(self, candidate: RoutingStateRecord) -> bool:
        """Compare and set: a concurrent publisher waits here, then finds its parent retired."""
        if candidate.parent:
            retired = (
                update(routing_states)
                .where(_held.is_active, _held.version == candidate.parent)
                .values(is_active=False)
                .returning(_held.version)
            )
            if self._connection.scalar(retired) is None:
                return False
        added = (
            insert(routing_states)
            .values(is_active=True, **asdict(candidate))
            .on_conflict_do_nothing()
            .returning(_held.version)
        )
        return self._connection.scalar(added) is not None

    def active(self) -> RoutingStateRecord | None:
        found = select(routing_states).where(_held.is_active)
        row = self._connection.execute(found).mappings().one_or_none()
        return None if row is None else _state(row)

    def active_version(self) -> int:
        return self._connection.scalar(select(_held.version).where(_held.is_active)) or 0

    def active_checksum(self) -> str:
        return self._connection.scalar(select(_held.sha256).where(_held.is_active)) or ""

    def find(self, version: int) -> RoutingStateRecord | None:
        found = select(routing_states).where(_held.version == version)
        row = self._connection.execute(found).mappings().one_or_none()
        return None if row is None else _state(row)

    def history(self, *, limit: int) -> list[RoutingStateRecord]:
        light = [one for one in _held if one.name != "payload"]
        bare = select(literal(b"").label("payload"), *light)
        newest = bare.order_by(_held.version.desc()).limit(limit)
        return [_state(row) for row in self._connection.execute(newest).mappings()]

    def acknowledge(self, version: int, *, replica: str, now: datetime) -> None:
        row = {"version": version, "replica": replica, "acknowledged_at": now}
        insert_new(self._connection, state_acks, [row])

    def acknowledged(self, version: int) -> dict[str, datetime]:
        found = select(state_acks).where(state_acks.c.version == version)
        rows = self._connection.execute(found).mappings()
        return {row["replica"]: utc(row["acknowledged_at"]) for row in rows}

    def record_calibration(self, calibration: Calibration) -> None:
        self._connection.execute(insert(calibrations).values(asdict(calibration)))

    def calibrations(self, *, limit: int) -> list[Calibration]:
        newest = select(calibrations).order_by(calibrations.c.calibration_id.desc()).limit(limit)
        return self._calibrations(newest)

    def calibrations_in(self, period: Period) -> list[Calibration]:
        at = calibrations.c.calibrated_at
        inside = select(calibrations).where(at >= period.since, at < period.until)
        return self._calibrations(inside.order_by(calibrations.c.calibration_id))

    def _calibrations(self, chosen: Select[Any]) -> list[Calibration]:
        found = []
        for row in self._connection.execute(chosen).mappings():
            values: dict[str, Any] = dict(row) | {"calibrated_at": utc(row["calibrated_at"])}
            del values["calibration_id"]
            found.append(Calibration(**values))
        return found

    def save_snapshot(self, kind: str, sha256: str, payload: bytes, *, now: datetime) -> None:
        row = {"kind": kind, "sha256": sha256, "payload": payload, "saved_at": now}
        self._connection.execute(insert(snapshots).values(row).on_conflict_do_nothing())

    def newest_snapshot(self, kind: str) -> tuple[str, bytes] | None:
        newest = (
            select(snapshots.c.sha256, snapshots.c.payload)
            .where(snapshots.c.kind == kind)
            .order_by(snapshots.c.snapshot_id.desc())
            .limit(1)
        )
        row = self._connection.execute(newest).one_or_none()
        return None if row is None else (row.sha256, row.payload)


def _state(row: RowMapping) -> RoutingStateRecord:
    return RoutingStateRecord(
        version=row["version"],
        parent=row["parent"],
        payload=row["payload"],
        sha256=row["sha256"],
        threshold=row["threshold"],
        risk_target=row["risk_target"],
        effective_labels=row["effective_labels"],
        cause=row["cause"],
        note=row["note"],
        published_at=utc(row["published_at"]),
    )
