"""What a call to a language model may have cost when some of its tries came to nothing.

The endpoint is a real HTTP server on 127.0.0.1.
"""

from __future__ import annotations

import pytest

from ingest.judging import client_factory
from judge.llm import LlmJudge
from judge.port import Question
from online.chat import Chat
from online.clients import Answer, Endpoint
from online.costs import TRIES
from store.clock import ManualClock
from store.errors import ExpertUnavailable, JudgeUnavailable, VerdictUnreadable
from store.records import Price, RequestId
from tests.factories import CHEAP, NOON, STRONG, expert
from tests.fake_endpoints import FAULTS, Endpoints

UNWANTED = "a text that the endpoint refuses"


PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0, request_usd=0.001)


def priced(url: str, *, retries: int = 1) -> LlmJudge:
    endpoint = Endpoint(base_url=url, model="judge", price=PRICE)
    return LlmJudge(Chat(endpoint, timeout_s=0.3, retries=retries), ManualClock(NOON))


def sums(answer: str = "42") -> Question:
    return Question(
        request_id=RequestId("r1"),
        prompt="Ann has 12 pears and finds 30 more pears. How many pears has she now?",
        expert_a=CHEAP,
        answer_a=Answer(text=answer, cost_usd=0.0),
        expert_b=STRONG,
        answer_b=Answer(text="43", cost_usd=0.0),
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_try_without_a_readable_end_may_be_billed_and_a_refused_one_is_not(
    endpoints: Endpoints, fault: str
) -> None:
    judge, asked = priced(endpoints.url), sums()
    most = judge.most_usd(asked)
    endpoints.faults = iter([fault] * 2)
    with pytest.raises(JudgeUnavailable) as away:
        judge.compare(asked)
    tries = endpoints.calls["judge"]
    assert tries == (1 if fault in {"cut_json", "no_completion"} else 2), "as the SDK has it"
    billed = 0 if fault in {"limited", "failed"} else tries
    assert away.value.cost_usd == pytest.approx(billed * most)
    endpoints.faults = iter(())
    told = judge.compare(asked).cost_usd
    assert 0.0 < told < most, "what was lost before is not counted again"
    if tries == 2:
        endpoints.faults = iter([fault])
        lost = judge.compare(asked).cost_usd - told
        assert lost == pytest.approx(billed * most / 2)


def test_what_was_never_sent_costs_nothing() -> None:
    with pytest.raises(JudgeUnavailable) as away:
        priced("http://127.0.0.1:9/v1").compare(sums())
    assert away.value.cost_usd == 0.0


def test_the_trial_is_paid_for_with_the_comparison_that_was_refused(endpoints: Endpoints) -> None:
    endpoints.status, endpoints.refuses = 422, UNWANTED
    judge, asked = priced(endpoints.url), sums(UNWANTED)
    with pytest.raises(VerdictUnreadable) as refused:
        judge.compare(asked)
    assert 0.001 < refused.value.cost_usd < judge.most_usd(asked)
    with pytest.raises(VerdictUnreadable) as again:
        judge.compare(asked)
    assert again.value.cost_usd == 0.0, "the trial holds for a minute"


def test_a_trial_that_is_lost_and_lost_tries_before_it_cost_no_more_than_a_call_may(
    endpoints: Endpoints,
) -> None:
    judge, asked = priced(endpoints.url, retries=2), sums()
    endpoints.status = 422
    endpoints.faults = iter(["reset", "reset", "", "reset"])
    with pytest.raises(JudgeUnavailable, match="refuses everything") as away:
        judge.compare(asked)
    assert endpoints.calls["judge"] == 4
    most = TRIES * judge.most_usd(asked)
    assert 0.9 * most < away.value.cost_usd <= most


def test_a_silent_expert_says_what_may_have_been_billed(endpoints: Endpoints) -> None:
    called = {"kind": "openai", "base_url": endpoints.url, "model": "small"}
    member = expert(client=called, price=PRICE)
    endpoints.body = b"<html>"
    with pytest.raises(ExpertUnavailable) as silent:
        client_factory(None)(member).ask(RequestId("r1"), "y" * 80)
    assert silent.value.cost_usd == pytest.approx(0.001 + (80 + 32 + 2_048) / 1e6)
