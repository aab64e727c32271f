"""Rows that a newer version of the program wrote, read by this one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.newer import known_or_newer
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import AlertKind, ExpertStatus, Reason
from tests.factories import NOON, alert, decided, expert

pytestmark = pytest.mark.postgres


def test_newer_reasons_statuses_kinds_and_fields_do_not_stop_an_older_program(
    postgres_ledger: PostgresLedger, database_url: str
) -> None:
    reason = known_or_newer(Reason, "tea_time")
    one = decided("r-1")
    one = replace(one, decision=replace(one.decision, reason=reason))
    with postgres_ledger.begin() as tx:
        tx.decisions.record([one])
        tx.experts.add(expert("late"))
        tx.operations.raise_alert(replace(alert(), kind=known_or_newer(AlertKind, "tea_cold")))
    with raw_connection(database_url) as raw:
        raw.execute("ALTER TABLE experts DROP CONSTRAINT ck_experts_status")
        raw.execute("UPDATE experts SET status = 'resting'")
        raw.execute(
            "UPDATE decisions SET details = jsonb_set(jsonb_set(details, '{colour}', '1'),"
            " '{retrieved}', jsonb_build_array((details->'retrieved'->0) || '{\"hue\": 2}'))"
        )
    with postgres_ledger.begin() as tx:
        found = tx.decisions.find(one.prompt.request_id)
        assert found is not None
        assert found.reason == reason
        assert len(found.retrieved) == 1
        (late,) = tx.experts.all()
        assert late.status == "resting"
        assert not tx.experts.set_status(
            late.name, before=ExpertStatus.SHADOW, after=ExpertStatus.PAUSED, now=NOON
        )
        assert [a.kind for a in tx.operations.alerts(limit=9)] == ["tea_cold"]
