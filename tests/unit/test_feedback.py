"""Feedback: counted, compared with the judges, kept at bay, and never part of what is learnt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ingest import cli
from ingest.feedback_rate import MOST_SOURCES, FeedbackRate
from ingest.local import LocalLoop
from recalibrate.realised import posterior
from store.clock import ManualClock
from store.errors import TooMany
from store.ledger import Ledger
from store.memory import MemoryLedger
from store.records import Label, RequestId
from tests.factories import CHEAP, NOON, decided, feedback, label
from tests.unit.loop_fakes import loop, run, scorer_of, state_of, traffic


def test_a_source_is_slowed_down_and_no_other() -> None:
    clock = ManualClock(NOON)
    rate = FeedbackRate(clock, per_minute=3)
    for _ in range(3):
        rate.take("bot")
    with pytest.raises(TooMany) as refused:
        rate.take("bot")
    assert refused.value.retry_after_s == 20
    rate.take("user")
    clock.advance(19.0)
    with pytest.raises(TooMany) as again:
        rate.take("bot")
    assert again.value.retry_after_s == 1
    clock.advance(1.0)
    rate.take("bot")
    clock.advance(3_600.0)
    for _ in range(3):
        rate.take("bot")
    with pytest.raises(TooMany):
        rate.take("bot")


def test_zero_is_no_limit_and_sources_do_not_fill_the_memory() -> None:
    clock = ManualClock(NOON)
    for _ in range(100):
        FeedbackRate(clock, per_minute=0).take("bot")
    rate = FeedbackRate(clock, per_minute=1)
    for number in range(2 * MOST_SOURCES):
        rate.take(f"source {number}")
    assert len(rate._buckets) == MOST_SOURCES


def test_trust_is_a_mean_with_its_interval() -> None:
    nothing, much = posterior(0, 0), posterior(80, 100)
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx((0.5, 0.025, 0.975))
    assert much.value == pytest.approx(81 / 102)
    assert much.low < 0.8 < much.high
    assert posterior(0, 10).low > 0.0


def test_sources_are_shown_with_their_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger(clock=ManualClock(NOON))

    @contextmanager
    def opened() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(ledger=ledger)

    monkeypatch.setattr("ingest.cli_feedback.opened_backbone", opened)
    command = ["feedback", "sources"]
    assert "nobody" in CliRunner().invoke(cli.app, command).output
    with ledger.begin() as tx:
        tx.decisions.record([decided("r1", expert=CHEAP)])
        tx.labels.add([], [label("r1", outcome=1)])
        tx.operations.record_feedback(feedback("f1", rating=1.0))
    shown = CliRunner().invoke(cli.app, command)
    assert "'user': trust 0.67 (0.16 to 0.99), agrees on 1 of 1 judged" in shown.output
    (row,) = json.loads(CliRunner().invoke(cli.app, [*command, "--json"]).output)
    assert (row["source"], row["ratings"], row["agreeing"]) == ("user", 1, 1)
    assert row["trust"] == pytest.approx(2 / 3)


def learnt(*, has_feedback: bool) -> tuple[LocalLoop, list[object]]:
    """Serve, give the worst feedback on every answer if so, serve on; return what came of it."""
    made = loop(traffic(240))
    run(made, last=120)
    if has_feedback:
        with made.ledger.begin() as tx:
            for number in range(120):
                name = RequestId(f"r{number}")
                tx.operations.record_feedback(feedback(f"f{number}", request_id=name, rating=0.0))
    served = run(made, first=120)
    state = state_of(made)
    decisions = [
        (s.decision.is_sampled, s.decision.inclusion_probability, s.decision.expert) for s in served
    ]
    facts = [state.threshold, state.effective_labels, scorer_of(made).sha256(), decisions]
    return made, [*facts, labels_of(made.ledger)]


def labels_of(ledger: Ledger) -> tuple[Label, ...]:
    with ledger.begin() as tx:
        return tx.labels.settled_since(0).labels


def test_feedback_moves_neither_the_threshold_nor_labels_nor_sampling() -> None:
    without, with_it = learnt(has_feedback=False)[1], learnt(has_feedback=True)[1]
    assert without == with_it
