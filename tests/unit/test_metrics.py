"""Metrics: what is counted, and that no bug can make it grow without end."""

from __future__ import annotations

import urllib.request

import pytest

from ingest.metrics import LABEL_SETS, LOOPBACK, Metrics
from store.errors import SettingsInvalid
from store.memory import MemoryLedger
from store.records import Reason
from tests import factories
from tests.contract.apache_kafka import free_ports
from tests.factories import NOON, later, task


def value_of(metrics: Metrics, series: str) -> float:
    lines = metrics.render().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(series + " "))


@pytest.mark.parametrize(
    "name",
    ["events_rejected", "events_rejected_total", "steersman_events_rejected_total"],
)
def test_a_counter_is_known_by_its_short_and_its_full_name(name: str) -> None:
    metrics = Metrics()

    metrics.count(name, source="http", code="not_finite")

    series = 'steersman_events_rejected_total{code="not_finite",source="http"}'
    assert value_of(metrics, series) == 1.0


def test_a_loop_may_name_its_own_counter() -> None:
    metrics = Metrics()

    metrics.count("stream_retries", topic="router.prompts")
    metrics.count("stream_retries", topic="router.prompts")

    assert value_of(metrics, 'steersman_stream_retries_total{topic="router.prompts"}') == 2.0


def test_surplus_label_values_are_counted_under_other() -> None:
    metrics = Metrics()

    for number in range(LABEL_SETS + 7):
        metrics.count("alerts", kind=f"request-{number}")

    assert value_of(metrics, 'steersman_alerts_total{kind="other"}') == 7.0


def test_an_observed_decision_counts_what_would_have_served() -> None:
    metrics = Metrics()

    metrics.decided(
        factories.decision(
            expert=factories.STRONG,
            reason=Reason.OBSERVED,
            would_serve=factories.CHEAP,
            would_reason=Reason.ROUTED,
        )
    )

    served = 'steersman_decisions_total{expert="strong",reason="observed"}'
    would = 'steersman_would_serve_total{expert="cheap",reason="routed"}'
    assert (value_of(metrics, served), value_of(metrics, would)) == (1.0, 1.0)
    assert "steersman_fail_safe_total{" not in metrics.render().decode()


def test_every_gauge_is_set_by_name() -> None:
    metrics = Metrics()

    metrics.set("lambda", 0.75)
    metrics.set("judge_tasks", 3, status="pending")

    assert value_of(metrics, "steersman_lambda") == 0.75
    assert value_of(metrics, 'steersman_judge_tasks{status="pending"}') == 3.0


def test_what_a_gauge_forgets_is_not_shown() -> None:
    metrics = Metrics()
    metrics.set("stream_lag", 7, topic="router.prompts", partition="0")
    metrics.set("stream_lag", 8, topic="router.prompts", partition="1")

    metrics.forget("stream_lag", topic="router.prompts", partition="0")

    text = metrics.render().decode()
    assert 'partition="0"' not in text
    assert value_of(metrics, 'steersman_stream_lag{partition="1",topic="router.prompts"}') == 8.0


def test_the_ledger_is_looked_at_when_asked() -> None:
    metrics = Metrics()

    ledger = MemoryLedger()
    with ledger.begin() as tx:
        metrics.observe_ledger(tx, now=NOON)

    assert value_of(metrics, 'steersman_judge_tasks{status="dead"}') == 0.0
    assert value_of(metrics, "steersman_judge_oldest_seconds") == 0.0
    assert value_of(metrics, "steersman_labels_total") == 0.0
    assert value_of(metrics, "steersman_outbox_unmarked") == 0.0
    with ledger.begin() as tx:
        tx.tasks.add([task(), task("r2", created_at=later(9))])
        metrics.observe_ledger(tx, now=later(60))
    assert value_of(metrics, 'steersman_judge_tasks{status="pending"}') == 2.0
    assert value_of(metrics, "steersman_judge_oldest_seconds") == 60.0


def test_a_role_without_http_answers_scrapes_on_the_loopback_address_until_it_ends() -> None:
    metrics = Metrics()
    metrics.set("stream_lag", 7.0, topic="router.responses", partition="0")
    (port,) = free_ports(1)
    with metrics.answering(port):
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5.0) as reply:
            told = reply.read().decode()
        with pytest.raises(SettingsInvalid, match="port of its own"), metrics.answering(port):
            pass
    assert 'steersman_stream_lag{partition="0",topic="router.responses"} 7.0' in told
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5.0)
