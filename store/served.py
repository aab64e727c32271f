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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGroup:
    """Requests that differ in nothing that is named here, and what was judged of their answers."""

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
