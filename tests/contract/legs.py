"""The brokers that the contract of the stream is held against."""

from __future__ import annotations

import pytest

LEGS = ("memory", "embedded", "apache")
COLLECTED = pytest.StashKey[list[str]]()
"""Every test that was found, those left out by hand included."""
