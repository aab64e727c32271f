"""The probes are fixed: a changed one would change every descriptor unseen."""

from __future__ import annotations

from collections import Counter

from online import probes


def test_there_are_192_probes_32_of_each_kind() -> None:
    kinds = Counter(probe.category for probe in probes.probes())
    assert set(kinds.values()) == {32}
    assert len(set(probes.texts())) == probes.COUNT == 192


def test_they_are_those_that_were_published() -> None:
    assert probes.sha256() == probes.SHA256


def test_every_blank_is_filled() -> None:
    assert not [text for text in probes.texts() if "{" in text or "}" in text]
