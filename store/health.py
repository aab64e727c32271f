"""Calls of experts that failed, and what is kept of an expert that was paused for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

ABSENCES_KEPT = 32
"""Older ones are merged into one."""


class CallError(StrEnum):
    """How a call failed. A failure is about an expert's health, never about its quality."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    """No connection, or an error of the server's own."""
    UNAUTHORIZED = "unauthorized"
    UNREADABLE = "unreadable"
    """It answered, but not with an answer."""
    REFUSED = "refused"
    """It declined this request: kept, but it says nothing about other requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Why an expert is out of service, how its probes go, and when it was out before."""

    was: str = ""
    """The status that it goes back to."""
    since: datetime | None = None
    """The instant of the pause. It counts only while it is that of the status: whatever an
    operator does to the status ends it."""
    error: str = ""
    """Of the latest failure."""
    probes: int = 0
    successes: int = 0
    """Probes answered in a row."""
    next_probe_at: datetime | None = None
    episodes: int = 0
    """Pauses in quick succession, this one included."""
    absent_from: int = 0
    """The ledger's watermark at the pause: later requests may lack its label."""
    absences: tuple[tuple[int, int], ...] = ()
    """Ledger sequences after which, and up to which, it was out; the newest last."""

    def to_json(self) -> dict[str, object]:
        """Return what is stored."""
        instants = {
            name: None if (at := getattr(self, name)) is None else at.isoformat()
            for name in ("since", "next_probe_at")
        }
        return asdict(self) | instants | {"absences": [list(one) for one in self.absences]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return what was stored; None is an expert that never was out."""
        if stored is None:
            return cls()
        return cls(
            was=str(stored.get("was", "")),
            since=_instant(stored.get("since")),
            error=str(stored.get("error", "")),
            probes=int(stored.get("probes", 0)),
            successes=int(stored.get("successes", 0)),
            next_probe_at=_instant(stored.get("next_probe_at")),
            episodes=int(stored.get("episodes", 0)),
            absent_from=int(stored.get("absent_from", 0)),
            absences=tuple((int(a), int(b)) for a, b in stored.get("absences", ())),
        )


HEALTHY = Health()


def _instant(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)
