"""Fixtures of the unit tests."""

from __future__ import annotations

import os

import pytest

from judge.sandbox import run_tests
from judge.trial import Reason
from online import learn
from recalibrate import inputs


@pytest.fixture(scope="session")
def lockable() -> None:
    """Code can be locked in here; where not, what needs that is skipped, and fails in CI."""
    reason = run_tests("x = 1", "assert x == 1").why
    if reason is Reason.NOT_LOCKED_IN and not os.environ.get("CI"):
        pytest.skip(reason)


@pytest.fixture
def few_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle after every hundred requests and rarer isotonic fits: the same rules, sooner done."""
    monkeypatch.setattr(inputs, "MIN_NEW_LABELS", 300)
    monkeypatch.setattr(learn, "_REFIT_EVERY", 56)
