"""The report: one page, every figure, nothing from outside."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from recalibrate import words
from recalibrate.phases import PhaseSummary
from recalibrate.realised import realised_risk
from recalibrate.report import render_html, render_json, tight
from recalibrate.summary import Summary, summarise
from tests.unit.story import facts, free, request, whole_story

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks nesting and collects text, ids and tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [v or "" for name, v in attrs if name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(whole_story())


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_html(summary)


def _figures(row: PhaseSummary) -> list[str]:
    assert row.shares is not None
    shares = [getattr(row.shares, name) for name in type(row.shares).__slots__]
    return [
        row.name,
        words.count(row.requests),
        words.interval(row.regret.rate),
        str(row.regret.verdict),
        words.count(row.regret.labels_needed),
        words.grade(row.quality),
        words.grade(row.reference_quality),
        words.usd(row.cost_usd),
        words.usd(row.reference_cost_usd),
        words.interval(row.cost_share),
        words.served_by(row),
        *map(words.percent, shares),
    ]


def test_the_page_is_well_formed_and_its_ids_are_unique(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert [name for name, n in Counter(page.ids).items() if n > 1] == []
    assert page.tags["svg"] == 6


def test_the_page_holds_every_figure_of_every_phase(summary: Summary, html: str) -> None:
    text = Page(html).text
    for row in [*summary.phases, summary.overall]:
        for figure in _figures(row):
            assert tight(figure) in text, (row.name, figure)


def test_the_page_holds_the_baselines_and_the_best_in_hindsight(
    summary: Summary, html: str
) -> None:
    text = Page(html).text
    for base in summary.overall.baselines:
        assert f"always {base.expert}" in text
        assert tight(words.interval(base.regret)) in text
        assert words.usd_per_thousand(base.cost_usd) in text
    best = summary.overall.hindsight
    assert best is not None
    assert words.threshold(best.threshold) in text
    assert tight(words.interval(best.cost_share)) in text


def test_the_page_tells_promise_verdict_savings_and_the_whole_timeline(
    summary: Summary, html: str
) -> None:
    text = Page(html).text
    assert tight(words.promise(summary)) in text
    assert summary.judge is not None
    assert tight(words.true_risk(summary.judge, summary.alpha)) in text
    assert tight(words.verdict(summary.overall.regret, summary.alpha)) in text
    assert tight(words.savings(summary)) in text
    assert "The alert about the fault injected at request 300 came 40 requests later." in text
    for entry in summary.timeline:
        assert entry.text in text
    assert "injected" in text


def test_page_and_json_name_the_requests_that_are_not_covered(html: str) -> None:
    served = [
        request(i, tenant="acme", inclusion_probability=0.0, unjudged_tenants={"acme"})
        if i < 3
        else request(i)
        for i in range(12)
    ]
    summary = summarise(facts(served))

    text = Page(render_html(summary)).text

    assert tight(words.not_covered(summary) or "-") in text
    assert tight("25.0 % of the requests (3 of 12) are of tenants that opted out") in text
    assert json.loads(render_json(summary))["summary"]["overall"]["opted_out"] == 3
    assert "Not covered" not in Page(html).text


def test_the_page_holds_the_loops_figures(summary: Summary, html: str) -> None:
    text = Page(html).text
    assert "20, of which 20 found a feasible" in text
    assert "at least 20, median 30" in text
    assert "median 12 ms, longest 12 ms" in text
    assert "480 from 960 judge calls; 192 probes" in text
    assert "$0.50 (shadow answers $0.40, judge $0.10)" in text
    assert "first served after 1 requests (1.0 s) (routed)" in text
    assert "certified after 50 requests (50.0 s)" in text
    assert "100 labels of sampled traffic needed, 104 there" in text
    assert summary.alerts[0].alert.guarantee in text


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    page = Page(html)
    assert "http" not in html
    assert "//" not in html
    assert "@import" not in html
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == 0
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(page.ids)


def test_colours_are_variables_that_the_page_defines_for_light_and_dark(html: str) -> None:
    used = set(re.findall(r"var\((--\w+)\)", html))
    light, dark = html.split("prefers-color-scheme: dark")[:2]
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark
    assert not re.findall(r"#0[1-6]0[0-9]{3}", html)


@pytest.mark.parametrize("name", ["<b>x</b> & $y$ {{ 7 * 7 }}", "'\">--><script>"])
def test_an_experts_name_is_only_ever_text(name: str) -> None:
    html = render_html(summarise(whole_story(name)))
    page = Page(html)
    assert page.open == []
    assert name in page.text
    assert page.tags["script"] == 0
    assert "<b>x" not in html


def test_no_prompt_text_reaches_the_page(html: str) -> None:
    assert "What is 2 + 2?" not in html


def test_a_long_name_is_cut_in_pictures_and_whole_in_tables() -> None:
    name = "an-expert-with-a-name-that-never-seems-to-end"
    html = render_html(summarise(whole_story(name)))
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert name not in svg
    assert name[:27] in svg
    assert name in html


def test_without_costs_the_page_says_so_and_shows_none() -> None:
    html = render_html(summarise(facts([free(request(i)) for i in range(80)])))
    page = Page(html)
    assert page.open == []
    assert page.tags["svg"] == 5
    assert "The traffic has no costs: only quality and regret are shown." in page.text
    assert "$" not in page.text


def test_an_empty_stream_has_a_page() -> None:
    page = Page(render_html(summarise(facts([], phases=("stream",)))))
    assert page.open == []
    assert page.tags["svg"] == 0
    assert "Not decided: nothing was served." in page.text


def test_the_same_summary_gives_the_same_page(summary: Summary, html: str) -> None:
    assert render_html(summary) == html


def test_the_json_holds_the_same_figures_and_its_format(summary: Summary) -> None:
    document = json.loads(render_json(summary))
    assert (document["kind"], document["format"]) == ("steersman.report", 1)
    overall = document["summary"]["overall"]
    assert overall["regret"]["verdict"] == summary.overall.regret.verdict
    assert overall["requests"] == summary.overall.requests
    assert overall["hindsight"]["threshold"] == pytest.approx(
        summary.overall.hindsight.threshold if summary.overall.hindsight else None
    )
    assert document["summary"]["alerts"][0]["alert"]["raised_at"].startswith("2026-03-14T12:05:40")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "–"), (0.0, "$0.00"), (1234.5, "$1,234.50"), (0.5, "$0.50"), (0.0000289, "$0.0000289")],  # noqa: RUF001
)
def test_amounts_are_written_without_exponents(amount: float | None, text: str) -> None:
    assert words.usd(amount) == text


@pytest.mark.parametrize(
    ("unacceptable", "start"), [(20, "Held:"), (150, "Not held:"), (95, "Not decided:")]
)
def test_the_verdict_in_words_says_which_of_three(unacceptable: int, start: str) -> None:
    text = words.verdict(realised_risk(unacceptable, 1000, alpha=0.1), 0.1)
    assert text.startswith(start)
    assert ("would decide it" in text) == (start == "Not decided:")
