"""``steersman judge tasks`` and ``retry``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner, Result

from ingest import cli
from store.clock import ManualClock
from store.errors import NotFound
from store.memory import MemoryLedger
from tests.factories import NOON, task


@dataclass
class Backbone:
    ledger: MemoryLedger
    clock: ManualClock


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    clock = ManualClock(NOON)
    made = Backbone(MemoryLedger(clock=clock), clock)

    @contextmanager
    def opened() -> Iterator[Backbone]:
        yield made

    monkeypatch.setattr("ingest.cli_judge_work.opened_backbone", opened)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["judge", *arguments])


def buried(backbone: Backbone, error: str) -> None:
    """Leave one dead task (id 1) and one pending."""
    with backbone.ledger.begin() as tx:
        tx.tasks.add([task("r1", tenant="acme"), task("r2")])
        tx.tasks.lease(worker="w", now=NOON, lease_s=60, limit=1)
        tx.tasks.bury(1, worker="w", error=error)
    backbone.clock.advance(7_200)


def test_dead_tasks_are_shown_with_the_reason(backbone: Backbone) -> None:
    buried(backbone, "expert \x1b[2Jcheap is silent")
    shown = run("tasks", "--status", "dead")
    assert shown.exit_code == 0, shown.output
    assert "1 pending, 0 leased, 0 done, 1 dead" in shown.output
    assert "1  dead  r1 of acme  traffic: cheap  1 attempts, 2 h old" in shown.output
    assert "1 of the 1 shown: expert \\x1b[2Jcheap is silent" in shown.output
    assert "r2" not in shown.output
    assert "2  pending  r2" in run("tasks").output


def test_machines_get_the_same(backbone: Backbone) -> None:
    assert json.loads(run("tasks", "--json").output)["tasks"] == []
    buried(backbone, "gone")
    found = json.loads(run("tasks", "--json", "--limit", "9").output)
    assert found["counts"]["dead"] == 1
    assert found["tasks"][1] == {
        "task_id": 1,
        "status": "dead",
        "request_id": "r1",
        "experts": ["cheap"],
        "tenant": "acme",
        "purpose": "traffic",
        "attempts": 1,
        "age_s": 7_200,
        "last_error": "gone",
    }


def test_a_dead_task_is_put_back_and_another_id_is_refused(backbone: Backbone) -> None:
    buried(backbone, "gone")
    done = run("retry", "1", "2")
    assert "1 tasks wait" in done.output
    assert isinstance(done.exception, NotFound)
    assert "the id 2" in str(done.exception)
    with backbone.ledger.begin() as tx:
        assert tx.tasks.counts()["dead"] == 0
        [entry] = tx.operations.audit_trail(limit=9)
    assert entry.actor == "cli"
