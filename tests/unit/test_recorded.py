"""Reading recorded traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from online.recorded import RecordedClient, load_recorded
from store.errors import ExpertUnavailable, SettingsInvalid
from store.records import ExpertId, RequestId
from tests.factories import expert

ROW: dict[str, Any] = {"prompt_id": "r1", "prompt": "p", "model": "m", "score": 0.5, "cost": 0.1}


def written(folder: Path, *rows: dict[str, Any] | str) -> Path:
    file = folder / "traffic.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c", "\r"])
def test_only_a_newline_ends_a_row(tmp_path: Path, separator: str) -> None:
    text = f"first{separator}second"
    found = load_recorded(written(tmp_path, ROW | {"prompt": text}, ROW | {"prompt_id": "r2"}))
    assert found.prompts == {"r1": text, "r2": "p"}


@pytest.mark.parametrize("cost", [None, float("nan")])
def test_a_missing_cost_is_none(tmp_path: Path, cost: float | None) -> None:
    found = load_recorded(written(tmp_path, ROW | {"cost": cost}, ROW | {"prompt_id": "r2"}))
    assert not found.has_costs()
    assert found.mean_cost(ExpertId("m"), found.prompts) == 0.1
    assert found.mean_cost(ExpertId("m"), [RequestId("r1")]) is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"score": 1.01}, "score must be in"),
        ({"score": -0.1}, "score must be in"),
        ({"score": float("nan")}, "score must be in"),
        ({"score": "good"}, "good"),
        ({"score": None}, "missing score"),
        ({"cost": -1.0}, "cost must be finite"),
        ({"cost": float("inf")}, "cost must be finite"),
        ({"prompt_id": None, "model": None}, "missing prompt_id, model"),
    ],
)
def test_a_bad_value_names_its_row(tmp_path: Path, bad: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=rf"traffic\.jsonl, row 2: .*{says}"):
        load_recorded(written(tmp_path, ROW, ROW | bad))


def test_an_empty_or_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="holds no rows"):
        load_recorded(written(tmp_path))
    with pytest.raises(SettingsInvalid, match="is not a file"):
        load_recorded(tmp_path / "nowhere.jsonl")


def test_an_expert_answers_what_was_recorded_and_nothing_else(tmp_path: Path) -> None:
    found = load_recorded(written(tmp_path, ROW | {"response": "four"}))
    client = RecordedClient(expert("m"), found)
    answer = client.ask(RequestId("r1"), "p")
    assert (answer.text, answer.cost_usd) == ("four", 0.1)
    with pytest.raises(ExpertUnavailable, match="no recorded answer of m to r2"):
        client.ask(RequestId("r2"), "p")
