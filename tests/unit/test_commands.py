"""What an operator types, on the in-memory ledger."""

from __future__ import annotations

import threading

import pytest

from ingest.cli_experts import declared
from ingest.commands import Operator
from store.clock import ManualClock
from store.errors import EventRejected, NotFound, RequestConflict, SettingsInvalid
from store.memory import MemoryLedger
from store.needs import Capabilities
from store.policy import LARGEST
from store.records import Baseline, ExpertId, ExpertStatus, Price
from tests import factories
from tests.unit.loop_fakes import loop, traffic

PRICE = Price(request_usd=0.1)
RECORDED = {"kind": "recorded"}


class LearnsWhileWaiting(ManualClock):
    """A clock that lets the loop take a step whenever somebody waits."""

    def __init__(self) -> None:
        super().__init__(factories.NOON)
        self.steps: list[object] = []

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        for step in self.steps:
            assert callable(step)
            step()
        return super().wait(stop, seconds)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def operator(ledger: MemoryLedger) -> Operator:
    return Operator(ledger, ManualClock(factories.NOON))


def with_pool(operator: Operator, *names: str) -> Operator:
    for name in names:
        operator.add_expert(name, PRICE, RECORDED)
    operator.set_policy({"reference": names[0]})
    return operator


def status_of(ledger: MemoryLedger, name: str) -> ExpertStatus:
    with ledger.begin() as tx:
        found = tx.experts.find(ExpertId(name))
    assert found is not None
    return found.status


def test_what_an_expert_can_do_is_declared_and_its_baseline_starts_over(
    ledger: MemoryLedger, operator: Operator
) -> None:
    with_pool(operator, "strong", "cheap")
    with ledger.begin() as tx:
        tx.experts.set_baseline(factories.CHEAP, Baseline(floor=0.9, seq=3))
    can = declared(["context=8000", "tools", "region=eu", "region=us", "region=eu"])
    operator.declare("cheap", can)
    with ledger.begin() as tx:
        found = tx.experts.find(factories.CHEAP)
        assert tx.operations.audit_trail(limit=1)[0].action == "expert.declared"
    assert found is not None
    assert found.capabilities == Capabilities(
        context_tokens=8_000, tools=True, regions=("eu", "us")
    )
    assert found.baseline == Baseline()
    with pytest.raises(EventRejected, match="context_tokens"):
        operator.declare("cheap", declared(["context=0"]))
    with pytest.raises(NotFound):
        operator.declare("ghost", can)


@pytest.mark.parametrize("word", ["tool", "context=", "context=-1", "context=2k", "region=", ""])
def test_a_word_that_is_nothing_an_expert_can_do_is_refused(word: str) -> None:
    with pytest.raises(SettingsInvalid, match="context=TOKENS"):
        declared(["tools", word])


def test_the_first_policy_needs_a_reference(operator: Operator) -> None:
    with pytest.raises(SettingsInvalid, match="set reference=EXPERT first"):
        operator.set_policy({"alpha": "0.1"})


def test_the_first_reference_may_come_before_its_expert(operator: Operator) -> None:
    assert operator.set_policy({"reference": "strong"})[0] == 1
    assert operator.missing_reference() == "strong"
    operator.add_expert("strong", PRICE, RECORDED)
    assert operator.missing_reference() is None


@pytest.mark.parametrize("status", [None, ExpertStatus.PAUSED, ExpertStatus.RETIRED])
def test_a_reference_that_cannot_serve_is_refused(
    ledger: MemoryLedger, operator: Operator, status: ExpertStatus | None
) -> None:
    with_pool(operator, "strong")
    if status is not None:
        operator.add_expert("other", PRICE, RECORDED)
        operator.set_status("other", status)
    with pytest.raises(SettingsInvalid, match="steersman experts list"):
        operator.set_policy({"reference": "other"})
    with ledger.begin() as tx:
        current = tx.policies.current()
    assert current is not None
    assert current[0] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nosuch": "1"}, "unknown: nosuch; valid: reference"),
        ({"alpha": "nan"}, "alpha must be in"),
        ({"alpha": "much"}, "alpha must be a float"),
        ({"hold": "maybe"}, "true or false"),
        ({"judge_budget_per_day": "-1"}, "judge_budget_per_day must be in"),
        ({"judge_budget_per_day": str(LARGEST + 1)}, "judge_budget_per_day must be in"),
        ({"age_half_life_requests": "9" * 30}, "age_half_life_requests must be in"),
        ({"cluster_prompts": "9" * 5_000}, "cluster_prompts must be a int"),
        ({"reference": ""}, "reference must name"),
    ],
)
def test_a_bad_setting_changes_nothing(
    ledger: MemoryLedger, operator: Operator, changes: dict[str, str], says: str
) -> None:
    with_pool(operator, "strong")
    with pytest.raises(SettingsInvalid, match=says):
        operator.set_policy({"tau": "0.6", **changes})
    with ledger.begin() as tx:
        current = tx.policies.current()
    assert current is not None
    assert current[1].tau == 0.7


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "bad\nname", "nul\x00"])
def test_an_expert_needs_a_usable_name(ledger: MemoryLedger, operator: Operator, name: str) -> None:
    with pytest.raises(EventRejected):
        operator.add_expert(name, PRICE, RECORDED)
    with ledger.begin() as tx:
        assert not tx.experts.all()


@pytest.mark.parametrize(
    "url", ["host/v1", "ftp://host/v1", "http://", "http://[::1/v1", "http://h:0/", "http://h\0/v1"]
)
def test_an_address_that_nobody_could_call_is_refused(operator: Operator, url: str) -> None:
    """Bug: it was registered, and each probe of the expert ended the judge's process."""
    with pytest.raises(EventRejected, match="begin with http") as refused:
        operator.add_expert("small", PRICE, {"kind": "openai", "base_url": url, "model": "m"})
    assert (refused.value.code, refused.value.field) == ("bad_client", "client.base_url")


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_must_be_one(operator: Operator, price: float) -> None:
    with pytest.raises(EventRejected, match="price"):
        operator.add_expert("small", Price(request_usd=price), RECORDED)
    with_pool(operator, "strong")
    with pytest.raises(EventRejected, match="price"):
        operator.set_price("strong", Price(request_usd=price))


def test_an_expert_is_added_once(operator: Operator) -> None:
    with_pool(operator, "strong")
    with pytest.raises(RequestConflict, match="exists already"):
        operator.add_expert("strong", PRICE, RECORDED)


def test_pause_resume_and_retire(ledger: MemoryLedger, operator: Operator) -> None:
    with_pool(operator, "strong", "small")
    for after in (ExpertStatus.PAUSED, ExpertStatus.SHADOW, ExpertStatus.RETIRED):
        operator.set_status("small", after)
        assert status_of(ledger, "small") is after
    with pytest.raises(EventRejected, match="retired cannot become shadow"):
        operator.set_status("small", ExpertStatus.SHADOW)


def test_who_retires_leaves_no_probe_answer_and_who_pauses_keeps_them(
    ledger: MemoryLedger, operator: Operator
) -> None:
    with_pool(operator, "strong", "small")
    with ledger.begin() as tx:
        tx.describing.answer(factories.probe_answer(expert=ExpertId("small")))
    for after, kept in ((ExpertStatus.PAUSED, 1), (ExpertStatus.RETIRED, 0)):
        operator.set_status("small", after)
        with ledger.begin() as tx:
            assert tx.describing.spent(ExpertId("small"))[0] == kept


def test_the_reference_stays(ledger: MemoryLedger, operator: Operator) -> None:
    with_pool(operator, "strong")
    with pytest.raises(RequestConflict, match="policy set reference"):
        operator.set_status("strong", ExpertStatus.PAUSED)
    assert status_of(ledger, "strong") is ExpertStatus.REGISTERED


def test_an_unknown_expert_is_named(operator: Operator) -> None:
    with pytest.raises(NotFound, match="'ghost'"):
        operator.set_status("ghost", ExpertStatus.PAUSED)
    with pytest.raises(NotFound, match="'ghost'"):
        operator.set_price("ghost", PRICE)


def test_a_policy_is_in_force_once_its_state_is_acknowledged() -> None:
    made = loop(traffic(16))
    clock = LearnsWhileWaiting()
    clock.steps.append(made.settle)
    operator = Operator(made.ledger, clock)
    version, _ = operator.set_policy({"alpha": "0.3"})
    found = operator.wait_until_in_force(version)
    assert found is not None
    assert found.replicas == ("local",)
    assert found.seconds < 1.0
    assert made.live.describe()["alpha"] == 0.3


def test_a_policy_that_nobody_takes_up_is_not_in_force() -> None:
    made = loop(traffic(16))
    operator = Operator(made.ledger, LearnsWhileWaiting())
    version, _ = operator.set_policy({"alpha": "0.3"})
    assert operator.wait_until_in_force(version) is None


def test_settings_made_from_an_older_version_are_refused(ledger: MemoryLedger) -> None:
    with ledger.begin() as tx:
        tx.policies.set(factories.settings(), actor="ann", now=factories.NOON, after=0)
    with ledger.begin() as tx:
        tx.policies.set(factories.settings(alpha=0.2), actor="bob", now=factories.NOON, after=1)
    with ledger.begin() as tx, pytest.raises(RequestConflict, match="version 2"):
        tx.policies.set(factories.settings(tau=0.6), actor="ann", now=factories.NOON, after=1)
