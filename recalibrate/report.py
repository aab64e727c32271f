"""The report as one self-contained page, and as JSON. The home of jinja2."""

from __future__ import annotations

from dataclasses import asdict

from jinja2 import Environment, PackageLoader, StrictUndefined

from recalibrate import words
from recalibrate.documents import as_json
from recalibrate.loop_words import loop_facts
from recalibrate.plots import pictures
from recalibrate.rolling import FLOOR
from recalibrate.summary import Summary

KIND = "steersman.report"
FORMAT = 1


def render_html(summary: Summary) -> str:
    """Return one page that needs nothing else: no script, no address, no prompt text."""
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            overall=summary.overall,
            rows=[*summary.phases, summary.overall],
            pictures=pictures(summary),
            floor=FLOOR,
        )
    )


def render_json(summary: Summary) -> str:
    """Return the same figures for machines; readers refuse a format they do not know."""
    return as_json(KIND, FORMAT, summary=asdict(summary))


def environment() -> Environment:
    """Return what every page is made with: strict, escaping, with the words as filters."""
    made = Environment(
        loader=PackageLoader("recalibrate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": lambda value: tight(words.percent(value)),
        "interval": lambda found: tight(words.interval(found)),
        "usd": words.usd,
        "per_thousand": words.usd_per_thousand,
        "grade": words.grade,
        "count": words.count,
        "threshold": words.threshold,
        "found_after": words.found_after,
        "tight": tight,
    }
    made.globals |= {
        "promise": words.promise,
        "true_risk": words.true_risk,
        "verdict": words.verdict,
        "not_covered": words.not_covered,
        "savings": words.savings,
        "served_by": words.served_by,
        "loop_facts": loop_facts,
    }
    return made


def tight(text: str) -> str:
    """Return the text with every percent sign kept on its number's line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
