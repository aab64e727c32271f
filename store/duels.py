"""Pairs of answers that are compared beside λ: two experts, or the reference with itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

DUEL = "duel"
"""Purpose of a judge task on such a pair: it brings verdicts and never a label."""
AGAIN = "\x1fagain"
"""Ends the name under which verdicts know the reference's second answer; no expert's name can hold
it (it is a control character)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A pair that was drawn with a sampled request, to be compared once that is judged."""

    first: str
    second: str
    """Another expert, or the same one, the reference: it is then asked a second time."""
    probability: float
    """With which this pair is drawn, given that the request is sampled; in (0, 1]."""

    def to_json(self) -> dict[str, object]:
        """Return what is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """Return what was stored; None where no pair was drawn."""
        if stored is None:
            return None
        return cls(
            first=stored["first"], second=stored["second"], probability=stored["probability"]
        )
