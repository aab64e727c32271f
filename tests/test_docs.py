"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingest.cli import app
from ingest.metrics import COUNTERS, GAUGES
from ingest.settings import ProcessSettings
from store import environ
from store.records import AlertKind
from tests.readme import README, glossary, settings_table, with_current_settings

MAKEFILE = README.with_name("Makefile")
DOCS = README.with_name("docs")
OPERATIONS = DOCS / "operations.md"
ENTRY = ("Means", "Guarantee", "The system did", "Look first at", "Do", "Over when")
COUNTED_ON_USE = {"stream_retries", "scrapes_without_ledger"}
"""Counters that are made by their first use and have no entry in ``COUNTERS``."""
WORDS = [
    "expert",
    "pool",
    "reference",
    "request_id",
    "decision",
    "propensity",
    "inclusion probability",
    "shadow answer",
    "verdict",
    "label",
    "outcome",
    "score",
    "loss",
    "risk target",
    "confidence",
    "threshold",
    "gate",
    "gap",
    "cost_weight",
    "budget_price",
    "routing state",
    "snapshot",
    "drift alarm",
    "safe mode",
]
"""One word for each idea in code, topics, tables, metrics and documents."""


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_readme_lists_the_settings_in_force() -> None:
    text = text_of(README)
    assert text == with_current_settings(text), "run: make docs"


def test_every_setting_says_what_it_means() -> None:
    rows = settings_table().splitlines()[2:]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def test_missing_markers_are_an_error_and_not_an_empty_table() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_current_settings("# Steersman\n")


def test_the_glossary_explains_every_word_once() -> None:
    explained = glossary(text_of(README))
    assert len(explained) == len(set(explained))
    assert [word for word in WORDS if word not in explained] == []


def runbook() -> dict[str, str]:
    """Return the text of each entry under its heading; a heading twice is an error."""
    _, _, text = text_of(OPERATIONS).partition("\n## Runbook\n")
    parts = re.split(r"^### (.+)$", text.split("\n## ")[0], flags=re.MULTILINE)
    headings = [heading.strip("`") for heading in parts[1::2]]
    assert len(headings) == len(set(headings)), headings
    return dict(zip(headings, parts[2::2], strict=True))


@pytest.mark.parametrize("kind", AlertKind)
def test_every_alert_has_one_runbook_entry_that_says_everything(kind: AlertKind) -> None:
    entries = runbook()
    assert kind.value in entries, f"docs/operations.md needs a heading ### `{kind}`"
    assert re.findall(r"^- \*\*(.+?):\*\*", entries[kind.value], re.MULTILINE) == list(ENTRY)
    assert f"| `{kind}` |" in text_of(DOCS / "interfaces.md")


def test_every_other_runbook_entry_says_what_to_do_too() -> None:
    others = {name: text for name, text in runbook().items() if name not in set(AlertKind)}
    assert len(others) >= 5
    for name, text in others.items():
        said = re.findall(r"^- \*\*(.+?):\*\*", text, re.MULTILINE)
        assert said == [one for one in ENTRY if one in {"Means", *ENTRY[3:]}], name


def test_operations_names_every_metric_and_no_other() -> None:
    shown = {f"steersman_{name}_total" for name in {*COUNTERS, *COUNTED_ON_USE}}
    shown |= {f"steersman_{name}" for name in GAUGES} | {"steersman_decision_seconds"}
    text = text_of(OPERATIONS)
    named = set(re.findall(r"steersman_[a-z_]+", text)) - {"steersman_default"}
    assert named == shown
    table = re.findall(r"^\| (`steersman_.+?) \|", text, re.MULTILINE)
    assert set(re.findall(r"steersman_[a-z_]+", " ".join(table))) == shown


@pytest.mark.parametrize("file", sorted(DOCS.glob("*.md")), ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", text_of(file)):
        name, anchor = target
        if name.startswith("http"):
            continue
        page = file if not name else (file.parent / name).resolve()
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_every_command_that_operations_names_exists() -> None:
    commands = {group.name for group in app.registered_groups}
    commands |= {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
    named = re.findall(r"(?:^|[`/ ])steersman ([a-z]+)\b", text_of(OPERATIONS), re.MULTILINE)
    assert set(named) - {"steersman"} <= commands, set(named) - commands


def test_the_settings_that_operations_shows_are_accepted() -> None:
    (block,) = re.findall(
        r"^```sh\n((?:STEERSMAN_\w+=.*\n)+)```", text_of(OPERATIONS), re.MULTILINE
    )
    given = dict(line.split("=", 1) for line in block.splitlines())
    settings = environ.read(ProcessSettings, given)
    assert settings.kafka.security_protocol == "SASL_SSL"


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(MAKEFILE), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", text_of(README), re.MULTILINE)) <= targets


def test_the_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^## (.+)", text_of(README.with_name("CHANGELOG.md")), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
    assert [heading for heading in headings[1:] if not re.fullmatch(released, heading)] == []


def test_design_decisions_are_numbered_in_order_and_dated() -> None:
    text = text_of(README.with_name("DESIGN.md"))
    headings = re.findall(r"^## (.+)", text, re.MULTILINE)
    entries = [re.fullmatch(r"(\d+)\. .+ \(\d{4}-\d\d-\d\d\)", heading) for heading in headings]
    assert all(entries), headings
    assert [int(entry[1]) for entry in entries if entry] == list(range(1, len(headings) + 1))
