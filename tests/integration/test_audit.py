"""``steersman audit`` on PostgreSQL, as a person meets it."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from typer.testing import CliRunner

from ingest import cli
from store.postgres.ledger import PostgresLedger
from tests.factories import CHEAP, STRONG, decided, label, response, verdict

pytestmark = pytest.mark.postgres

PROMPT, ANSWER = "how many legs has a spider", "eight of them"


def test_a_person_audits_and_reads_the_report(database_url: str) -> None:
    with closing(PostgresLedger(database_url)) as ledger, ledger.begin() as tx:
        for n in range(12):
            name = f"r{n}"
            tx.decisions.record([decided(name, text=PROMPT)])
            tx.responses.record([response(name, text=ANSWER)])
            tx.responses.record_shadow(response(name, expert=STRONG, text="8"))
            both = [
                verdict(name, call=0, preference=0.0),
                verdict(name, call=1, expert_a=STRONG, expert_b=CHEAP, preference=1.0),
            ]
            tx.labels.add(both, [label(name, outcome=0)])

    asked = _run(database_url, "1t2sq", "--auditor", "ann")
    report = _run(database_url, "", "report")
    machine = json.loads(_run(database_url, "", "report", "--json"))

    assert "12 pairs to judge" in asked
    assert PROMPT in asked
    assert ANSWER in asked
    assert CHEAP not in asked
    assert "3 answers stored" in asked
    assert "People looked at 3:" in report
    assert "of 100 truly bad pairs audited" in report
    assert PROMPT not in report
    assert machine["audit"]["biases"]["first_shown_wins"]["value"] == 0.5
    assert [one["expert"] for one in machine["audit"]["strengths"]] == []  # no policy names it


def _run(database_url: str, keys: str, *arguments: str) -> str:
    environment = {
        "STEERSMAN_DATABASE_URL": database_url,
        "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    done = CliRunner().invoke(cli.app, ["audit", *arguments], env=environment, input=keys)
    assert done.exit_code == 0, done.output
    return done.output
