"""The pool on PostgreSQL; every change is announced as ``policy``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert

from store.errors import NotFound, RequestConflict
from store.health import Health
from store.needs import Capabilities
from store.newer import known_or_newer
from store.postgres.describing import record_step
from store.postgres.notify import announce
from store.postgres.rows import utc
from store.postgres.tables import experts
from store.records import Baseline, Expert, ExpertId, ExpertStatus, Price
from store.transitions import check_expert


class PostgresExperts:
    """``store.ledger.Experts``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, expert: Expert) -> None:
        added = (
            insert(experts)
            .values(
                name=expert.name,
                status=expert.status,
                client=dict(expert.client),
                added_at=expert.added_at,
                status_changed_at=expert.status_changed_at,
                capabilities=expert.capabilities.to_json(),
                health=expert.health.to_json(),
                **_baseline_row(expert.baseline),
                **asdict(expert.price),
            )
            .on_conflict_do_nothing()
            .returning(experts.c.name)
        )
        if self._connection.scalar(added) is None:
            raise RequestConflict("expert_exists", f"expert {expert.name} exists already")
        record_step(self._connection, expert.name, expert.status, at=expert.status_changed_at)
        announce(self._connection, "policy")

    def find(self, name: ExpertId) -> Expert | None:
        found = select(experts).where(experts.c.name == name)
        row = self._connection.execute(found).mappings().one_or_none()
        return None if row is None else _expert(row)

    def all(self) -> list[Expert]:
        found = [_expert(row) for row in self._connection.execute(select(experts)).mappings()]
        return sorted(found, key=lambda expert: (expert.added_at, expert.name))

    def set_status(
        self, name: ExpertId, *, before: ExpertStatus, after: ExpertStatus, now: datetime
    ) -> bool:
        check_expert(before, after)
        changes = {"status": after, "status_changed_at": now}
        if not self._change(name, changes, before=before):
            return False
        record_step(self._connection, name, after, at=now)
        return True

    def set_price(self, name: ExpertId, price: Price) -> None:
        self._change_known(name, asdict(price))

    def set_client(self, name: ExpertId, client: Mapping[str, str]) -> None:
        self._change_known(name, {"client": dict(client)})

    def set_capabilities(self, name: ExpertId, capabilities: Capabilities) -> None:
        self._change_known(name, {"capabilities": capabilities.to_json()})

    def set_health(self, name: ExpertId, *, before: Health, after: Health) -> bool:
        held = self._connection.scalar(
            select(experts.c.health).where(experts.c.name == name).with_for_update()
        )
        if Health.from_json(held) != before:
            return False
        return self._change(name, {"health": after.to_json()})

    def recover(self, expert: Expert, *, health: Health, now: datetime) -> bool:
        locked = select(experts).where(experts.c.name == expert.name).with_for_update()
        row = self._connection.execute(locked).mappings().one_or_none()
        held = None if row is None else _expert(row)
        if held is None or not held.is_failing or held.health != expert.health:
            return False
        status = ExpertStatus(expert.health.was)
        changes = {"status": status, "status_changed_at": now, "health": health.to_json()}
        record_step(self._connection, expert.name, status, at=now)
        return self._change(expert.name, changes)

    def set_baseline(self, name: ExpertId, baseline: Baseline) -> None:
        self._change_known(name, _baseline_row(baseline))

    def _change_known(self, name: ExpertId, changes: Mapping[str, object]) -> None:
        if not self._change(name, changes):
            raise NotFound("unknown_expert", f"there is no expert {name}")

    def _change(
        self, name: ExpertId, changes: Mapping[str, object], *, before: ExpertStatus | None = None
    ) -> bool:
        change = update(experts).where(experts.c.name == name).values(**changes)
        if before is not None:
            change = change.where(experts.c.status == before)
        if self._connection.scalar(change.returning(experts.c.name)) is None:
            return False
        announce(self._connection, "policy")
        return True


def _expert(row: RowMapping) -> Expert:
    return Expert(
        name=ExpertId(row["name"]),
        status=known_or_newer(ExpertStatus, row["status"]),
        price=Price(
            input_usd_per_mtok=row["input_usd_per_mtok"],
            output_usd_per_mtok=row["output_usd_per_mtok"],
            request_usd=row["request_usd"],
        ),
        client=row["client"],
        added_at=utc(row["added_at"]),
        status_changed_at=utc(row["status_changed_at"]),
        baseline=Baseline(
            floor=row["baseline_floor"],
            seq=row["baseline_seq"],
            reference=row["baseline_reference"],
        ),
        capabilities=Capabilities.from_json(row["capabilities"]),
        health=Health.from_json(row["health"]),
    )


def _baseline_row(baseline: Baseline) -> dict[str, object]:
    return {f"baseline_{name}": value for name, value in asdict(baseline).items()}
