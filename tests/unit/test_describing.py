"""Asking an expert the probes: each once, paid from its budget, resumable, and never traffic."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from judge.describing import (
    ANSWER_TOKENS,
    AT_ONCE,
    GIVE_UP_AFTER,
    PER_SECOND,
    Describer,
    most_usd,
)
from judge.spending import out_of_money
from online.clients import Answer
from store.clock import ManualClock, SystemClock
from store.errors import ExpertUnavailable, ProbingStopped, StoreUnavailable
from store.health import CallError
from store.memory import MemoryLedger
from store.money import SHADOW, day_of
from store.records import Price
from tests.factories import CHEAP, NOON, PROBE_SET, expert, settings

PROBES = tuple(f"probe {number}" for number in range(12))
PRICE = Price(input_usd_per_mtok=1_000.0, output_usd_per_mtok=1_000.0)
DAY = day_of(NOON)


class Endpoint:
    """Answers, unless told how a call ends; remembers who was asked at once."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.ends: dict[str, list[Exception]] = {}
        self.cost_usd = 0.125
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    def __call__(self, text: str) -> Answer:
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.asked[text] += 1
        try:
            if self.ends.get(text):
                raise self.ends[text].pop(0)
            return Answer(
                text=f"on {text}", cost_usd=self.cost_usd, input_tokens=3, output_tokens=2
            )
        finally:
            with self.lock:
                self.under_way -= 1


class House:
    """A ledger with a policy and one expert behind an endpoint."""

    def __init__(self, budget: float = 20.0) -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.endpoint = Endpoint()
        self.expert = expert(CHEAP, price=PRICE)
        self.policy = settings(shadow_usd_per_day=budget)
        with self.ledger.begin() as tx:
            tx.policies.set(self.policy, actor="test", now=NOON)
            tx.experts.add(self.expert)

    def describer(self) -> Describer:
        return Describer(
            self.ledger,
            self.clock,
            self.expert,
            self.endpoint,
            probes=PROBES,
            probe_set=PROBE_SET,
        )

    def run(self) -> list[int]:
        seen: list[int] = []
        self.describer().run(seen.append)
        return seen

    def used(self) -> int:
        with self.ledger.begin() as tx:
            return tx.money.used([SHADOW], day=DAY)[SHADOW]


def failing(*errors: CallError) -> list[Exception]:
    return [ExpertUnavailable(f"cheap did not answer: {error}", error=error) for error in errors]


def test_every_probe_is_asked_once_and_its_answer_kept_with_what_it_cost() -> None:
    house = House()
    assert house.run() == list(range(1, 13))
    assert house.endpoint.asked == Counter(PROBES)
    assert house.describer().answers() == [f"on {text}" for text in PROBES]
    with house.ledger.begin() as tx:
        held = tx.describing.answers(CHEAP, probe_set=PROBE_SET)
        assert tx.describing.spent(CHEAP) == (12, 1.5)
    assert {(one.input_tokens, one.output_tokens, one.cost_usd) for one in held} == {(3, 2, 0.125)}
    assert house.used() == 1_500_000


def test_probing_again_asks_and_costs_nothing() -> None:
    house = House()
    house.run()
    assert house.describer().cost().calls == 0
    assert house.run() == []
    assert house.endpoint.asked == Counter(PROBES)


def test_a_run_that_is_interrupted_goes_on_where_it_stopped() -> None:
    house = House()

    def interrupted(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.describer().run(interrupted)
    asked = sum(house.endpoint.asked.values())
    kept = sum(text is not None for text in house.describer().answers())
    assert asked == kept < 12  # what was under way was waited for: it is paid
    assert house.describer().cost().calls == 12 - kept
    assert house.run() == list(range(kept + 1, 13))
    assert house.endpoint.asked == Counter(PROBES)


def test_what_probing_costs_is_known_before_and_is_the_most() -> None:
    house = House()
    cost = house.describer().cost()
    assert cost.calls == 12
    assert cost.at_most == pytest.approx(sum(most_usd(PRICE, text) for text in PROBES))
    assert cost.at_most >= 12 * 1e-3 * (ANSWER_TOKENS + 7)
    assert 0.0 < cost.about < cost.at_most
    assert cost.left_today == 20.0
    house.run()
    assert house.describer().cost().left_today == 18.5


def test_no_call_is_made_that_the_day_cannot_pay_for_and_sampling_goes_on() -> None:
    most = most_usd(PRICE, PROBES[-1])
    house = House(budget=3 * most)
    house.endpoint.cost_usd = most
    with pytest.raises(ProbingStopped, match=r"budget.*go on: steersman experts probe cheap"):
        house.run()
    assert sum(house.endpoint.asked.values()) <= 3
    assert house.used() <= 3e6 * most + 3
    with house.ledger.begin() as tx:
        assert out_of_money(tx, house.policy, ["acme"], day=DAY) == set()


def test_without_a_policy_there_is_no_budget_and_nothing_is_asked() -> None:
    house = House()
    house.ledger = MemoryLedger(clock=house.clock)
    assert house.describer().cost().left_today is None
    with pytest.raises(ProbingStopped, match="policy set reference"):
        house.run()
    assert house.endpoint.asked == Counter()


def test_a_call_that_fails_now_and_then_is_tried_again_and_costs_nothing() -> None:
    house = House()
    house.endpoint.ends = {
        PROBES[2]: failing(CallError.TIMEOUT),
        PROBES[9]: failing(CallError.TIMEOUT),
    }
    assert house.run()[-1] == 12
    assert house.endpoint.asked == Counter(PROBES) + Counter([PROBES[2], PROBES[9]])
    assert house.used() == 1_500_000


def test_a_call_that_may_have_been_billed_all_the_same_is_booked() -> None:
    house = House()
    billed = ExpertUnavailable("cheap said nothing", error=CallError.TIMEOUT, cost_usd=0.5)
    house.endpoint.ends = {PROBES[2]: [billed]}
    assert house.run()[-1] == 12
    assert house.used() == 2_000_000


def test_an_endpoint_that_stays_away_ends_it_with_what_to_do() -> None:
    house = House()
    house.endpoint.ends = {text: failing(*[CallError.UNAUTHORIZED] * 9) for text in PROBES}
    with pytest.raises(
        ProbingStopped, match=r"^0 of 12 .*3 calls in a row failed.*unauthorized.*probe cheap$"
    ):
        house.run()
    assert GIVE_UP_AFTER <= sum(house.endpoint.asked.values()) <= GIVE_UP_AFTER + AT_ONCE
    assert house.used() == 0


def test_a_probe_that_is_refused_is_an_empty_answer_and_not_asked_again() -> None:
    house = House()
    house.endpoint.ends = {PROBES[4]: failing(CallError.REFUSED)}
    house.run()
    assert house.describer().answers()[4] == ""
    assert house.endpoint.asked[PROBES[4]] == 1
    assert house.used() == 11 * 125_000


def test_a_ledger_that_goes_away_ends_it_and_the_next_run_asks_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    with monkeypatch.context() as away:

        def lost(*_: object) -> None:
            raise StoreUnavailable("away")

        away.setattr("store.memory_describing.MemoryDescribing.answer", lost)
        with pytest.raises(StoreUnavailable):
            house.run()
    assert house.run()[-1] == 12


def test_at_most_four_calls_are_under_way_and_their_pace_is_kept() -> None:
    house = House()
    house.clock = SystemClock()  # type: ignore[assignment]  # threads that really rest
    started = house.clock.monotonic()
    together = threading.Barrier(2, timeout=30.0)
    plain = house.endpoint

    def slow(text: str) -> Answer:
        if text in PROBES[:2]:
            together.wait()  # two at least are under way at once
        return plain(text)

    house.endpoint = slow  # type: ignore[assignment]
    house.run()
    assert plain.most_under_way <= AT_ONCE
    assert house.clock.monotonic() - started >= (len(PROBES) - 1) / PER_SECOND


def test_two_processes_do_not_probe_one_expert_at_once() -> None:
    house = House()
    with house.ledger.lead("probing cheap"), pytest.raises(ProbingStopped, match="another"):
        house.run()
    assert house.endpoint.asked == Counter()


def test_probing_is_no_traffic_and_says_nothing_about_health() -> None:
    house = House()
    house.endpoint.ends = {text: failing(CallError.TIMEOUT) for text in PROBES[:6:3]}
    house.run()
    with house.ledger.begin() as tx:
        assert tx.decisions.last_seq() == 0
        assert tx.labels.count() == 0
        assert tx.responses.mean_output_tokens() == {}
        assert tx.tasks.oldest() is None
        assert tx.calls.suspects(after=NOON, at_least=1) == set()
        assert tx.experts.all() == [house.expert]
