"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.readme import README, glossary, settings_table, with_current_settings

MAKEFILE = README.with_name("Makefile")
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
