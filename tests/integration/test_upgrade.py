"""The program before migration 0002 goes on working beside this one: what it writes and reads."""

from __future__ import annotations

import pytest

from store.health import HEALTHY
from store.needs import NO_NEEDS, UNDECLARED
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import AlertKind, RequestId
from tests.factories import CHEAP, ENCODER, alert, decided

pytestmark = pytest.mark.postgres

_OLD_EXPERT = """
INSERT INTO experts (name, status, input_usd_per_mtok, output_usd_per_mtok, request_usd, client,
    added_at, status_changed_at, baseline_floor, baseline_seq, baseline_reference)
VALUES ('cheap', 'paused', 0.1, 0.4, 0, '{"kind": "recorded"}', now(), now(), NULL, 0, NULL)
"""
_OLD_KINDS = {"expert_regression", "label_starvation", "state_refused", "partition_missing"}


def test_what_the_older_program_writes_reads_as_nothing_declared_and_healthy(
    postgres_ledger: PostgresLedger, database_url: str
) -> None:
    with postgres_ledger.begin() as tx:
        tx.decisions.record([decided("r1")])
    with raw_connection(database_url) as connection:
        connection.execute(_OLD_EXPERT)
        connection.execute("UPDATE decisions SET details = details - 'needs' - 'excluded'")
    with postgres_ledger.begin() as tx:
        expert = tx.experts.find(CHEAP)
        decision = tx.decisions.find(RequestId("r1"))
        (request,) = tx.decisions.sampled([RequestId("r1")], encoder=ENCODER)
        assert request.needs == NO_NEEDS
        assert tx.lives.steps(CHEAP) == []  # it writes none
    assert expert is not None
    assert (expert.capabilities, expert.health) == (UNDECLARED, HEALTHY)
    assert not expert.is_failing
    assert decision is not None
    assert (decision.needs, decision.excluded) == (NO_NEEDS, {})


def test_the_older_program_finds_only_kinds_of_alert_that_it_knows(
    postgres_ledger: PostgresLedger, database_url: str
) -> None:
    """It stops at a kind that it does not know: its learner reads alerts in every step."""
    with postgres_ledger.begin() as tx:
        for kind in AlertKind:
            tx.operations.raise_alert(alert(kind=kind))
    with raw_connection(database_url) as connection:
        found = {row[0] for row in connection.execute("SELECT kind FROM alerts").fetchall()}
    assert found == _OLD_KINDS
