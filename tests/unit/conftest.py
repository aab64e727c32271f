"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from online import learn
from recalibrate import inputs


@pytest.fixture
def few_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle after every hundred requests and rarer isotonic fits: the same rules, sooner done."""
    monkeypatch.setattr(inputs, "MIN_NEW_LABELS", 300)
    monkeypatch.setattr(learn, "_REFIT_EVERY", 56)
