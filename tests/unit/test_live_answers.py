"""Answers of the contestants are kept as they come, and a run that was torn off goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.live_answers import CONTESTANTS, Contest
from online.clients import Message

WHO = CONTESTANTS[0]


class Echo:
    """Says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answers(self, talks: Sequence[Sequence[Message]], **_: Any) -> list[str]:
        said = [talk[-1].content for talk in talks]
        self.asked += said
        return said


def contest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Contest, Echo]:
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    echo, made = Echo(), Contest(folder)
    monkeypatch.setattr(made, "model", lambda _: echo)
    return made, echo


def test_a_torn_line_is_asked_again_and_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = contest(tmp_path, monkeypatch)
    first.answers(WHO, ["one", "three"], at_most=4)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().rstrip("\n")[:-7])
    again, echo = contest(tmp_path, monkeypatch)
    assert again.answers(WHO, ["one", "three", "fifteen"], at_most=4) == ["one", "three", "fifteen"]
    assert echo.asked == ["three", "fifteen"]
    assert again.seconds(WHO, ["one", "three", "fifteen"], at_most=4) >= 0.0
    last, echo = contest(tmp_path, monkeypatch)
    assert last.answers(WHO, ["fifteen", "three"], at_most=4) == ["fifteen", "three"]
    assert echo.asked == []
