"""The port to what became of an expert: its steps, its first request, its labels, its share.

Part of ``store.ledger.Transaction`` (``tx.lives``); what is said there holds here. Nothing is
counted for it: these are looks at facts that are there. Requests whose day retention has dropped
are no longer among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from store.records import ExpertId, ExpertStatus


@dataclass(frozen=True, slots=True)
class Step:
    """An expert's status from an instant on."""

    status: ExpertStatus
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRoute:
    """The first decision that sent a request to an expert."""

    at: datetime
    state_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Decisions since an instant; pinned ones and those of modes observe and off are left out."""

    served: int
    """Sent to the expert."""
    ramped: int
    """Of these, its quota before it was certified."""
    decisions: int
    """Sent to anybody."""


class Lives(Protocol):
    """What became of experts."""

    def steps(self, expert: ExpertId) -> list[Step]:
        """Return every status an expert has had, in order, the first when it was added."""
        ...

    def first_route(self, expert: ExpertId, *, since: datetime) -> FirstRoute | None:
        """Return the first decision from ``since`` on by which routing chose an expert: no pin,
        and none in mode observe or off, for both say nothing about routing.
        """
        ...

    def share(self, expert: ExpertId, *, since: datetime) -> Share:
        """Count the decisions since an instant."""
        ...

    def labels(self, expert: ExpertId, *, since: datetime, until: datetime) -> int:
        """Count the requests of sampled traffic on which an expert got a label from ``since`` up to
        and with ``until``, probes and labels in quarantine left out; those of requests decided on
        a day more than one before ``since`` may be missing.
        """
        ...
