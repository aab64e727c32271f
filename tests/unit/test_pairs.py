"""What several judges come to on one pair, and who may not judge it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from judge.aggregate import panel_result
from judge.families import family_of, family_of_expert
from judge.pairs import UNREADABLE_TRIES, Compared, Pair, Pairs, Panel, most_micro_usd
from judge.port import Question, Reply
from judge.spending import bill_of
from online.clients import Answer
from store.clock import ManualClock
from store.errors import JudgeUnavailable, VerdictUnreadable
from store.records import RequestId
from tests.factories import CHEAP, NOON, STRONG, expert

WIN, TIE, LOSS, BLIND, MUTE = 1.0, 0.5, 0.0, "looks at positions", "never readable"
PAIR = Pair(
    request_id=RequestId("r1"),
    prompt="?",
    expert=CHEAP,
    reference=STRONG,
    answers={CHEAP: Answer(text="4", cost_usd=0.0), STRONG: Answer(text="four", cost_usd=0.0)},
    bill=bill_of("acme", lambda: 0),
)


class Juror:
    """Has one opinion of the cheap expert's answer."""

    def __init__(self, name: str, opinion: float | str, family: str | None = None) -> None:
        self.version = name
        self.family = family
        self.opinion = opinion
        self.asked: list[Question] = []

    def most_usd(self, question: Question) -> float:
        return 0.5

    def compare(self, question: Question) -> Reply:
        self.asked.append(question)
        if self.opinion == MUTE:
            raise VerdictUnreadable("?", cost_usd=0.25)
        if self.opinion == BLIND:
            return Reply(preference=1.0, cost_usd=0.25)
        opinion = float(self.opinion)
        is_first = question.expert_a == CHEAP
        return Reply(preference=opinion if is_first else 1.0 - opinion, cost_usd=0.25)


def compared(*opinions: float | str) -> tuple[Compared, list[Juror]]:
    jurors = [Juror(f"j{n}", opinion) for n, opinion in enumerate(opinions)]
    return Pairs(ManualClock(NOON), before_call=lambda: None).compare(PAIR, jurors), jurors


def asked(jurors: Sequence[Juror]) -> list[int]:
    return [len(juror.asked) for juror in jurors]


@pytest.mark.parametrize(
    ("opinions", "calls", "found"),
    [
        ((WIN,), [2], (WIN, True)),
        ((BLIND,), [3], (TIE, False)),
        ((LOSS, LOSS, WIN), [2, 2, 0], (LOSS, True)),
        ((TIE, TIE), [2, 2], (TIE, True)),
        ((WIN, LOSS, WIN), [2, 2, 2], (WIN, True)),
        ((WIN, LOSS, TIE), [2, 2, 2], (TIE, False)),
        ((WIN, TIE), [2, 2], (TIE, False)),
        ((BLIND, LOSS, LOSS), [3, 2, 2], (LOSS, True)),
        ((BLIND, WIN, LOSS), [3, 2, 2], (TIE, False)),
        ((BLIND, BLIND, WIN), [3, 3, 0], (TIE, False)),
        ((MUTE, WIN, WIN), [UNREADABLE_TRIES, 2, 2], (WIN, True)),
    ],
)
def test_two_judges_decide_what_they_agree_on_and_a_third_only_where_it_can(
    opinions: tuple[float | str, ...], calls: list[int], found: tuple[float, bool]
) -> None:
    said, jurors = compared(*opinions)
    assert asked(jurors) == calls
    result = panel_result(said.verdicts, CHEAP)
    assert said.is_readable
    assert (result.preference, result.is_consistent) == found
    assert result.outcome == int(found in {(WIN, True), (TIE, True)})


@pytest.mark.parametrize(
    "opinions", [(MUTE,), (MUTE, WIN), (WIN, MUTE), (MUTE, WIN, LOSS), (MUTE, WIN, MUTE)]
)
def test_what_was_unreadable_and_is_decided_by_nobody_else_is_no_result(
    opinions: tuple[float | str, ...],
) -> None:
    said, jurors = compared(*opinions)
    assert not said.is_readable
    readable = sum(len(j.asked) for j in jurors if j.opinion != MUTE)
    assert len(said.verdicts) == readable


def test_every_verdict_is_its_judges_own_and_the_question_says_what_pays_for_it() -> None:
    said, jurors = compared(WIN, LOSS, BLIND)
    keys = [(v.judge_version, v.call) for v in said.verdicts]
    assert keys == [("j0", 0), ("j0", 1), ("j1", 0), ("j1", 1), ("j2", 0), ("j2", 1), ("j2", 2)]
    assert [q.bill for juror in jurors for q in juror.asked] == [PAIR.bill] * 7
    assert {v.cost_usd for v in said.verdicts} == {0.25}


def test_the_most_that_pairs_can_cost_is_every_call_twice_and_one_lost_twice() -> None:
    class Wayward(Juror):
        """Says nothing at first, then what makes another call necessary."""

        def compare(self, question: Question) -> Reply:
            self.asked.append(question)
            if len(self.asked) % 2:
                raise VerdictUnreadable("?", cost_usd=0.5)
            return Reply(preference=1.0, cost_usd=0.5)

    jurors = [Wayward(f"j{n}", BLIND) for n in range(2)]
    said = Pairs(ManualClock(NOON), before_call=lambda: None).compare(PAIR, jurors)
    spent = sum(v.cost_usd or 0.0 for v in said.verdicts)
    assert spent == 2 * 3 * UNREADABLE_TRIES * 0.5
    assert most_micro_usd([(PAIR, jurors)]) == 1e6 * (spent + 2 * 0.5)
    assert most_micro_usd([(PAIR, jurors[:1]), (PAIR, jurors)]) == 1e6 * (1.5 * spent + 2 * 0.5)
    assert most_micro_usd([]) == 0


def test_a_lone_judge_is_its_own_panel_and_any_other_member_makes_another() -> None:
    one, two, other = Juror("j0", WIN), Juror("j1", WIN), Juror("j2", WIN)
    assert Panel((one,)).version == "j0"
    versions = {Panel(p).version for p in itertools.permutations([one, two, other], 2)}
    assert len(versions) == 6
    assert all(v.startswith("panel-") for v in versions)


def test_no_judge_is_asked_about_its_own_family() -> None:
    ours, theirs = Juror("j0", WIN, "google"), Juror("j1", WIN, "openai")
    recorded = Juror("j2", WIN)
    panel = Panel((ours, theirs, recorded))
    assert panel.unrelated_to(["google", "meta"]) == (theirs, recorded)
    assert panel.unrelated_to(["meta", "ours-7b"]) == panel.judges
    with pytest.raises(JudgeUnavailable, match=r"\(google\).*STEERSMAN_SECOND_JUDGE_BASE_URL"):
        Panel((ours,)).unrelated_to(["meta", "google"])


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-mini", "openai"),
        ("openai/gpt-oss-20b", "openai"),
        ("gpt4_1106_preview", "openai"),
        ("o3-mini", "openai"),
        ("claude-3-5-sonnet-20241022", "anthropic"),
        ("google/gemma-3-270m-it", "google"),
        ("gemma3:270m", "google"),
        ("gemini-2.5-flash", "google"),
        ("accounts/x/models/llama-v3p1-8b-instruct", "meta"),
        ("mixtral-8x7b", "mistral"),
        ("Qwen2.5-7B-Instruct", "alibaba"),
        ("deepseek-r1-distill-llama-70b", "deepseek"),
        ("Phi-3-mini", "microsoft"),
        ("SmolLM2-135M-Instruct", "huggingface"),
        ("our/House-7B", "house-7b"),
        ("", ""),
    ],
)
def test_a_models_name_tells_its_family(model: str, family: str) -> None:
    assert family_of(model) == family


def test_an_experts_family_is_what_its_client_says() -> None:
    assert family_of_expert(expert("gemini-2.5-flash")) == "google"
    client = {"kind": "openai", "base_url": "http://h/v1", "model": "gpt-4o"}
    assert family_of_expert(expert("cheap", client=client)) == "openai"
    assert family_of_expert(expert("cheap", client=client | {"family": "Ours"})) == "ours"
