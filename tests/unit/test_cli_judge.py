"""``steersman judge``: the role as before, and its judges looked at and held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner, Result

from ingest import cli
from ingest.settings import ProcessSettings
from judge.pairs import Panel
from store.clock import ManualClock
from store.errors import NotFound, SettingsInvalid
from store.judging import CanaryResult, panel_version
from store.memory import MemoryLedger
from store.records import AlertKind
from tests.factories import NOON, decided, label, later
from tests.unit.test_patrol import Reader


@dataclass
class Backbone:
    ledger: MemoryLedger
    clock: ManualClock
    settings: ProcessSettings


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    clock = ManualClock(NOON)
    made = Backbone(MemoryLedger(clock=clock), clock, ProcessSettings())

    @contextmanager
    def opened() -> Iterator[Backbone]:
        yield made

    monkeypatch.setattr("ingest.cli_judge.opened_backbone", opened)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["judge", *arguments])


def labelled(backbone: Backbone) -> None:
    with backbone.ledger.begin() as tx:
        for number in (1, 2):
            tx.decisions.record([decided(f"r{number}", decided_at=NOON)])
            tx.labels.add([], [label(f"r{number}", labelled_at=later(number))])
    backbone.clock.advance(600)


def counted(backbone: Backbone) -> list[str]:
    with backbone.ledger.begin() as tx:
        return [x.request_id for x in tx.labels.settled_since(0).labels]


def test_without_a_subcommand_it_runs_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def role(name: str, settings: ProcessSettings) -> int:
        ran.append(name)
        return 0

    monkeypatch.setattr("ingest.processes.run_role", role)
    assert run().exit_code == 0
    assert ran == ["judge"]


def test_a_version_is_held_from_a_time_on_and_lifted(backbone: Backbone) -> None:
    labelled(backbone)
    held = run(
        "quarantine", "judge-1", "--since", "2026-03-14T12:00:01.5", "--reason", "odd labels"
    )
    assert (held.exit_code, counted(backbone)) == (0, ["r1"]), held.output
    assert "1 labels are out of λ" in held.output
    with backbone.ledger.begin() as tx:
        (alert,) = tx.operations.alerts(limit=9)
        assert len(tx.outbox.unmarked(limit=9)) == 1
    assert (alert.kind, alert.subject) == (AlertKind.JUDGE_QUARANTINED, "judge-1")
    shown = run("versions").output
    assert "judge-1: 2 labels in 30 days" in shown
    assert "IN QUARANTINE" in shown
    assert "odd labels" in shown
    assert run("lift", "judge-1").exit_code == 0
    assert counted(backbone) == ["r1", "r2"]
    assert isinstance(run("lift", "judge-1").exception, NotFound)


def test_a_panel_is_held_and_lifted_with_its_member(backbone: Backbone) -> None:
    panel = panel_version(["judge-1", "silent-1"])
    labelled(backbone)
    with backbone.ledger.begin() as tx:
        tx.labels.add([], [label("r1", judge_version=panel, labelled_at=later(1))])
    held = run("quarantine", "silent-1", "--reason", "odd")
    assert "1 labels are out of λ" in held.output, held.output
    assert counted(backbone) == ["r1", "r2"]
    assert "IN QUARANTINE with silent-1" in run("versions").output
    refused = run("lift", panel).exception
    assert isinstance(refused, NotFound)
    assert "lift the member that is, silent-1" in str(refused)
    assert run("quarantine", panel, "--reason", "mine").exit_code == 0
    assert "stay out of λ with silent-1" in run("lift", panel).output
    assert run("lift", "silent-1").exit_code == 0
    assert counted(backbone) == ["r1", "r2", "r1"]


def test_a_judge_that_was_not_asked_its_canaries_for_more_than_a_day_is_told(
    backbone: Backbone,
) -> None:
    with backbone.ledger.begin() as tx:
        one = CanaryResult(judge_version="a", ran_at=later(0), name="null-01", is_right=True)
        tx.judging.record_canaries([one])
    backbone.clock.advance(25 * 3600.0)
    assert "NOT ASKED" not in run("versions").output
    backbone.clock.advance(5 * 3600.0)
    assert "NOT ASKED its canaries for 30 h" in run("versions").output


def test_without_a_time_all_labels_are_left_out(backbone: Backbone) -> None:
    labelled(backbone)
    assert run("quarantine", "judge-1", "--reason", "odd").exit_code == 0
    assert counted(backbone) == []


def test_a_slip_of_the_pen_holds_nobody(backbone: Backbone) -> None:
    labelled(backbone)
    assert isinstance(run("quarantine", "jugde-1", "--reason", "odd").exception, NotFound)
    wrong = run("quarantine", "judge-1", "--reason", "odd", "--since", "yesterday")
    assert isinstance(wrong.exception, SettingsInvalid)
    with backbone.ledger.begin() as tx:
        assert tx.judging.quarantines() == []


def test_canaries_run_on_demand_and_are_shown_afterwards(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no canaries ran yet" in run("canaries").output
    assert "no judge" in run("versions").output
    reader = Reader()
    monkeypatch.setattr("ingest.judging.PolicyPanel.__call__", lambda _: Panel((reader,)))
    good = run("canaries", "--run")
    assert good.exit_code == 0, good.output
    assert "reader-1: may be believed" in good.output
    assert run("canaries").output == good.output
    backbone.clock.advance(60)
    reader.falls_for = "role"
    lost = run("canaries", "--run")
    assert lost.exit_code == 1
    assert "MAY NOT BE BELIEVED" in lost.output
    assert "lost: role-01" in lost.output
    shown = run("versions").output
    assert "lost of" in shown
    assert "IN QUARANTINE" in shown


def test_the_last_run_of_every_version_is_shown(backbone: Backbone) -> None:
    with backbone.ledger.begin() as tx:
        for version, minutes in (("a", 1), ("a", 2), ("b", 1)):
            tx.judging.record_canaries(
                [
                    CanaryResult(
                        judge_version=version,
                        ran_at=later(minutes),
                        name="gibberish-01",
                        is_right=minutes == 2,
                    )
                ]
            )
    shown = run("canaries")
    assert shown.exit_code == 1
    assert "a: may be believed" in shown.output
    assert "b: MAY NOT" in shown.output
