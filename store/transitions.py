"""Legal status changes, as tables; the ledger checks them by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping

from store.errors import EventRejected
from store.records import ExpertStatus, TaskStatus

TASK: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.LEASED, TaskStatus.DONE}),  # its label counts again
    TaskStatus.LEASED: frozenset({TaskStatus.DONE, TaskStatus.PENDING, TaskStatus.DEAD}),
    TaskStatus.DONE: frozenset({TaskStatus.PENDING}),  # its label is in quarantine
    TaskStatus.DEAD: frozenset({TaskStatus.PENDING}),  # likewise, or retried
}

_E = ExpertStatus
EXPERT: Mapping[ExpertStatus, frozenset[ExpertStatus]] = {
    _E.REGISTERED: frozenset({_E.DESCRIBED, _E.PAUSED, _E.RETIRED}),
    _E.DESCRIBED: frozenset({_E.SHADOW, _E.PAUSED, _E.RETIRED}),
    _E.SHADOW: frozenset({_E.RAMPING, _E.PAUSED, _E.RETIRED}),
    _E.RAMPING: frozenset({_E.CERTIFIED, _E.SHADOW, _E.PAUSED, _E.RETIRED}),
    _E.CERTIFIED: frozenset({_E.RAMPING, _E.SHADOW, _E.PAUSED, _E.RETIRED}),
    _E.PAUSED: frozenset({_E.SHADOW, _E.RETIRED}),
    _E.RETIRED: frozenset(),
}

ROUTABLE = frozenset({_E.RAMPING, _E.CERTIFIED})
JUDGED = frozenset({_E.SHADOW, _E.RAMPING, _E.CERTIFIED})
"""Statuses whose experts are judged on sampled traffic."""


def check_expert(before: ExpertStatus, after: ExpertStatus) -> None:
    """Raise ``EventRejected`` unless an expert may go from ``before`` to ``after``."""
    allowed = EXPERT.get(before, frozenset())  # of a newer version's status nothing is known
    if after not in allowed:
        legal = ", ".join(sorted(allowed)) or "nothing"
        raise EventRejected(
            "illegal_status", f"an expert that is {before} cannot become {after}; legal: {legal}"
        )
