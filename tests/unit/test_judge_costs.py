"""What judging costs: measured where it can be, else estimated, and ``steersman judge cost``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from typer.testing import CliRunner, Result

from ingest import cli
from ingest.settings import JudgeSettings, ProcessSettings
from judge.estimate import Answering, Cost, estimated, input_tokens, measured, together
from judge.llm import place_hash
from judge.template import TEMPLATE_HASH
from store.clock import ManualClock
from store.errors import JudgeUnavailable, NotFound, SettingsInvalid
from store.memory import MemoryLedger
from store.money import Budget, Spent, day_of
from store.records import ExpertStatus, Price
from tests.factories import NOON, decided, expert, label, response, settings, verdict

FREE = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0, request_usd=0.0)
FLAT = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0, request_usd=0.5)
READS = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=0.0, request_usd=0.0)
OTHERWISE = Cost(pairs=3, calls_per_pair=2, call_usd=1.0, shadow_answers=2, shadow_usd=8.0)
VERSION = f"llm-small-1-{TEMPLATE_HASH}-{place_hash('http://127.0.0.1:9/v1')}"
NOTHING = Spent(
    tenant="acme",
    requests=0,
    verified=0,
    asked=0,
    pairs=0,
    calls=0,
    verdicts_usd=0.0,
    shadow_answers=0,
    shadow_stated=0,
    shadow_usd=0.0,
    shadow_counted=0,
    shadow_input_tokens=0,
)


def spent(**changes: float) -> Spent:
    return replace(NOTHING, **changes)  # type: ignore[arg-type]


def test_without_a_judged_request_everything_is_estimated() -> None:
    assert measured(NOTHING, OTHERWISE) == OTHERWISE
    assert together([]).requests == 0
    assert input_tokens(NOTHING) == 200


def test_measured_figures_replace_the_estimate() -> None:
    found = spent(
        requests=10,
        verified=5,
        asked=4,
        pairs=8,
        calls=20,
        verdicts_usd=10.0,
        shadow_answers=20,
        shadow_stated=10,
        shadow_usd=40.0,
    )
    cost = measured(found, OTHERWISE)
    # Half is verified; of the other half 2 pairs a request, 2.5 calls a pair, 0.5 USD a call.
    assert (cost.pairs, cost.calls_per_pair, cost.call_usd) == (1.0, 2.5, 0.5)
    assert cost.verdicts_usd == 1.25
    assert (cost.shadow_answers, cost.shadow_usd) == (2.0, 8.0)
    assert (cost.verdicts_of, cost.shadows_of) == (4, 10)


def test_what_another_judge_measured_is_no_measure_of_this_one() -> None:
    cost = measured(spent(requests=10, shadow_answers=10), OTHERWISE)
    assert (cost.pairs, cost.calls_per_pair, cost.call_usd) == (3.0, 2.0, 1.0)
    assert (cost.shadow_answers, cost.shadow_usd, cost.shadows_of) == (1.0, 4.0, 0)
    assert measured(spent(requests=10), OTHERWISE).shadow_usd == 0.0


def test_the_sum_over_tenants_is_of_everything() -> None:
    whole = together([spent(requests=1, shadow_usd=0.5), spent(requests=2, shadow_usd=1.0)])
    assert (whole.requests, whole.shadow_usd) == (3, 1.5)
    assert input_tokens(spent(shadow_counted=2, shadow_input_tokens=30)) == 15.0


def test_a_panel_asks_two_of_its_judges_twice() -> None:
    others = [Answering(price=FLAT), Answering(price=FLAT)]
    one = estimated([FLAT], Answering(price=FREE), others)
    assert (one.calls, one.verdicts_usd, one.shadow_usd) == (4.0, 2.0, 1.0)
    assert estimated([FLAT] * 3, Answering(price=FREE), others).verdicts_usd == 4.0
    assert estimated([], Answering(price=FREE), others).verdicts_usd == 0.0
    assert estimated([FLAT], Answering(price=FREE), []).request_usd == 0.0


def test_longer_prompts_and_answers_cost_the_judge_more() -> None:
    def call(prompt: float, answer: float) -> float:
        shown = Answering(price=FREE, output_tokens=answer)
        return 1e6 * estimated([READS], shown, [shown], input_tokens=prompt).call_usd

    assert call(1_000, 50) - call(0, 50) == pytest.approx(1_000)
    assert call(0, 150) - call(0, 50) == pytest.approx(200)


@dataclass
class Backbone:
    ledger: MemoryLedger
    clock: ManualClock
    settings: ProcessSettings


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    clock = ManualClock(NOON)
    judge = JudgeSettings(base_url="http://127.0.0.1:9/v1", model="small-1", request_usd=0.25)
    made = Backbone(MemoryLedger(clock=clock), clock, ProcessSettings(judge=judge))

    @contextmanager
    def opened() -> Iterator[Backbone]:
        yield made

    monkeypatch.setattr("ingest.cli_judge_plan.opened_backbone", opened)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["judge", *arguments])


def pool(backbone: Backbone, **changes: str) -> None:
    with backbone.ledger.begin() as tx:
        for name in ("strong", "cheap"):
            tx.experts.add(expert(name, status=ExpertStatus.CERTIFIED, price=FLAT))
        tx.policies.set(settings(judge="llm", **changes), actor="test", now=NOON)


def judged(backbone: Backbone) -> None:
    with backbone.ledger.begin() as tx:
        for name, tenant in (("r1", "acme"), ("r2", "bolt")):
            tx.decisions.record([decided(name, tenant=tenant)])
            said = [verdict(name, judge_version=VERSION, call=n, cost_usd=0.002) for n in range(3)]
            tx.labels.add(said, [label(name, judge_version=VERSION)])
            tx.responses.record_shadow(response(name, cost_usd=0.01))


def test_before_any_verdict_the_command_estimates_and_says_so(backbone: Backbone) -> None:
    pool(backbone)
    shown = run("cost", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert f"by {VERSION}" in shown.output
    assert "estimated: no verdict of this judge" in shown.output
    found = json.loads(run("cost", "--json").output)["all"]
    assert found["verdicts_usd"] == pytest.approx(1_000 * 2 * 0.25)
    assert found["shadow_usd"] == pytest.approx(1_000 * 0.5)


def test_with_verdicts_the_command_measures(backbone: Backbone) -> None:
    pool(backbone)
    judged(backbone)
    shown = run("cost").output
    assert "1.00 pairs a request, 3.00 calls a pair, 0.002000 USD a call" in shown
    assert "measured on 2 requests" in shown
    assert "estimated" not in shown
    assert "bolt: 16.0000 USD" in shown
    found = json.loads(run("cost", "--json").output)
    assert found["by_tenant"]["acme"]["usd"] == pytest.approx(16.0)
    assert found["used_today_usd"] == {"judge_usd": 0.0, "shadow_usd": 0.0, "canary_usd": 0.0}
    with backbone.ledger.begin() as tx:
        for kind, amount in (("judge_usd", 1_250_000), ("canary_usd", 500_000)):
            limit = Budget(kind=kind, limit=10**9)
            assert tx.money.reserve([limit], day=day_of(backbone.clock.now()), amount=amount)
    shown = run("cost").output
    assert "1.2500 of 20.00 USD for verdicts" in shown
    assert "outside the budgets 0.5000 for canaries" in shown
    backbone.clock.advance(2 * 86_400)
    assert "estimated" in run("cost").output


def test_it_says_what_is_missing(backbone: Backbone) -> None:
    assert isinstance(run("cost").exception, JudgeUnavailable)
    pool(backbone, reference="gone")
    assert isinstance(run("cost").exception, NotFound)


def test_a_plan_says_labels_days_and_dollars(backbone: Backbone) -> None:
    pool(backbone)
    judged(backbone)
    shown = run("plan", "--traffic", "10000", "--alpha", "0.1", "--label-rate", "0.05")
    assert shown.exit_code == 0, shown.output
    assert "500 requests a day, as label_rate has it; 8.00 USD a day (measured)" in shown.output
    assert "labels: 500 judged requests" in shown.output
    assert "takes 24.0 hours at the least and costs 8.00 USD" in shown.output
    found = json.loads(run("plan", "--traffic", "10000", "--json").output)
    assert (found["labels_needed"], found["is_cost_measured"]) == (500, True)


def test_a_plan_that_cannot_work_says_what_would(backbone: Backbone) -> None:
    pool(backbone)
    rare = run("plan", "--traffic", "10000", "--label-rate", "0.001").output
    assert "never come together" in rare
    assert "more than 0.688% of the requests" in rare
    assert "raise the target" in run("plan", "--traffic", "9", "--alpha", "0.012").output
    assert "raise label_rate" in run("plan", "--traffic", "9", "--label-rate", "0").output
    wrong = run("plan", "--traffic", "9", "--alpha", "2")
    assert isinstance(wrong.exception, SettingsInvalid)
