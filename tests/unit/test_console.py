"""The terminal: the same facts, readable without colour, in 100 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ingest.console import WIDTH, Progress, print_summary
from recalibrate import words
from recalibrate.loop_words import loop_facts
from recalibrate.summary import Summary, summarise
from store.clock import ManualClock
from store.records import JsonObject
from tests.factories import CHEAP, NOON, STRONG
from tests.unit.story import facts, free, request, whole_story


def _printed(summary: Summary, *, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=is_terminal, highlight=False)
    print_summary(summary, console=console)
    return out.getvalue()


def _joined(text: str) -> str:
    return " ".join(text.split())


def test_the_printed_summary_holds_every_figure() -> None:
    summary = summarise(whole_story())

    text = _joined(_printed(summary))

    assert words.promise(summary) in text
    assert summary.judge is not None
    assert words.true_risk(summary.judge, summary.alpha) in text
    assert words.verdict(summary.overall.regret, summary.alpha) in text
    assert words.savings(summary) in text
    for row in [*summary.phases, summary.overall]:
        assert row.shares is not None
        for figure in (
            words.interval(row.regret.rate),
            words.interval(row.cost_share),
            words.grade(row.quality),
            words.usd(row.cost_usd),
            words.percent(row.shares.sampled),
            words.served_by(row),
        ):
            assert figure in text, (row.name, figure)
    for base in summary.overall.baselines:
        assert words.interval(base.regret) in text
    for _, fact in loop_facts(summary)[:4]:
        assert fact in text
    for entry in summary.timeline:
        assert entry.text.split(";", maxsplit=1)[0] in text
    assert "Injected. The alert about the fault injected at request 300 came" in text


def test_it_fits_a_hundred_columns_and_a_pipe_gets_no_colour() -> None:
    text = _printed(summarise(whole_story("an-expert-with-a-name-that-never-seems-to-end")))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "\x1b" not in text


def test_names_are_never_markup() -> None:
    assert "[red]x[/red]" in _printed(summarise(whole_story("[red]x[/red]")))


def test_without_costs_it_says_so_and_prints_none() -> None:
    text = _printed(summarise(facts([free(request(i)) for i in range(3)])))
    assert "The traffic has no costs: only quality and regret are shown." in text
    assert "$" not in text


def test_an_empty_stream_can_be_printed() -> None:
    text = _printed(summarise(facts([], phases=("stream",))))
    assert "Not decided: nothing was served." in text


STATE: JsonObject = {"active": {"version": 7, "threshold": 0.81234, "effective_labels": 120.0}}


def _progress(*, is_terminal: bool = False) -> tuple[Progress, io.StringIO, ManualClock]:
    out, clock = io.StringIO(), ManualClock(NOON)
    console = Console(file=out, width=WIDTH, force_terminal=is_terminal, highlight=False)
    return Progress(total=1000, console=console, clock=clock), out, clock


def test_a_pipe_gets_a_line_every_few_seconds() -> None:
    progress, out, clock = _progress()
    with progress:
        progress.phase("warm start")
        for done in range(0, 110, 10):
            progress.update(done=done, labels=done // 2, state=STATE)
            clock.advance(1.0)

    assert out.getvalue().splitlines() == [
        "[     0] phase: warm start",
        "warm start | 0/1,000 prompts | 0/s | λ 0.812 | state 7 | 0 labels",
        "warm start | 50/1,000 prompts | 10/s | λ 0.812 | state 7 | 25 labels",
        "warm start | 100/1,000 prompts | 10/s | λ 0.812 | state 7 | 50 labels",
    ]


def test_events_are_printed_at_once_with_the_place_in_the_stream() -> None:
    progress, out, _ = _progress()
    with progress:
        progress.update(done=42, labels=0)
        progress.event("mistral [bold] is certified")

    assert out.getvalue().splitlines()[-1] == "[    42] mistral [bold] is certified"


def test_the_line_shows_who_answers_and_safe_by_its_name() -> None:
    progress, _, _ = _progress()
    safe: JsonObject = {"active": {"version": 1, "threshold": 2.0}}
    progress.update(done=4, labels=1, state=safe, served={CHEAP: 1, STRONG: 3})
    assert progress.line().endswith("λ SAFE | state 1 | 1 labels | strong 75 %, cheap 25 %")


@pytest.mark.parametrize("state", [None, {}, {"active": None}])
def test_before_the_first_state_nothing_is_made_up(state: JsonObject | None) -> None:
    progress, _, _ = _progress()
    progress.update(done=0, labels=0, state=state)
    assert progress.line() == "0/1,000 prompts | 0/s | 0 labels"


def test_a_terminal_gets_a_live_display_that_can_be_taken_away() -> None:
    progress, out, _ = _progress(is_terminal=True)
    with progress:
        progress.phase("stream")
        progress.update(done=10, labels=2, state=STATE)
        progress.event("alert: cheap")
        progress.close()
        progress.event("after")

    text = out.getvalue()
    assert "phase: stream" in text
    assert "alert: cheap" in text
    assert text.rstrip().endswith("after")
