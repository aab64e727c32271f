"""Replaying a file: what runs through, and what is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest import replay
from ingest.settings import ProcessSettings
from online.encode import Encoder
from store.errors import SettingsInvalid
from tests.unit.loop_fakes import ClusterEncoder, traffic


@pytest.fixture(autouse=True)
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> Encoder:
        return ClusterEncoder()

    monkeypatch.setattr(replay, "SentenceEncoder", made)
    monkeypatch.setattr(replay, "CachedEncoder", made)


def rows(count: int, **changes: Any) -> list[dict[str, Any]]:
    known = traffic(count)
    return [
        {
            "prompt_id": request_id,
            "prompt": known.prompts[request_id],
            "model": expert,
            "score": answer.score,
            "cost": answer.cost_usd,
        }
        | changes
        for (request_id, expert), answer in known.answers.items()
    ]


def run(folder: Path, matrix: list[dict[str, Any]], **changes: Any) -> Path:
    file = folder / "matrix.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in matrix))
    arguments: dict[str, Any] = {
        "reference": "",
        "experts": (),
        "alpha": 0.2,
        "label_rate": 0.5,
        "warm": 100,
        "limit": 0,
    }
    replay.run_replay(ProcessSettings(run_dir=folder), file, **(arguments | changes))
    return folder / "replay-matrix.html"


def test_a_file_with_costs_becomes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(tmp_path, rows(140))
    assert "strong" in report.read_text()
    assert f"report: {report}" in capsys.readouterr().out


def test_a_file_without_costs_runs_through(tmp_path: Path) -> None:
    assert run(tmp_path, rows(120, cost=None)).exists()


def test_a_prompt_with_a_missing_answer_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^100 prompts have an answer of every"):
        run(tmp_path, rows(110)[30:])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reference": "ghost"}, "not in the file: ghost; it has strong, small, tiny"),
        ({"experts": ("small", "gone")}, "not in the file: gone"),
        ({"warm": 99}, "at least 100"),
        ({"limit": 100}, "must leave some to stream"),
        ({"alpha": 1.5}, "alpha must be in"),
        ({"label_rate": 2.0}, "label_rate must be in"),
    ],
)
def test_a_wrong_choice_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        run(tmp_path, rows(120), **changes)


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    matrix = rows(110)
    matrix[6]["score"] = 7
    with pytest.raises(SettingsInvalid, match=r"row 7: score must be in \[0, 1\], got 7"):
        run(tmp_path, matrix)
