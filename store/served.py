"""What a report reads: the decisions of a period, counted where they are alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.records import ExpertId, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From one instant, included, to another, excluded."""

    since: datetime
    until: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.since <= instant < self.until


ALIKE = (
    *("tenant", "category", "expert", "reference", "reason", "degraded"),
    *("inclusion_probability", "risk_target"),
)
"""What requests of one group have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGroup:
    """Requests that have ``ALIKE`` in common, and what was judged of their answers."""

    tenant: str
    category: str
    expert: ExpertId
    reference: ExpertId
    reason: Reason
    degraded: bool
    inclusion_probability: float
    risk_target: float
    requests: int
    sampled: int
    acceptable: int = 0
    """Sampled requests whose served answer was judged acceptable; 0 where the reference served."""
    unacceptable: int = 0
    unreadable: int = 0
    """Judged, but no verdict could be read."""
