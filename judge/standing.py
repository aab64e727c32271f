"""How every judge version stands: its labels, its last canaries, its quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from judge.canaries import Finding, by_run, finding
from store.judging import Quarantine, stands_on
from store.ledger import Transaction

LABELS_OF = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a judge version."""

    judge_version: str
    labels: int
    """Of the last 30 days."""
    labels_left_out: int
    """Of these, out of λ."""
    last_label_at: datetime | None
    canaries_at: datetime | None
    """When its canaries ran last; None if never, as with judges that read no text, and with panels,
    whose members are asked one by one."""
    canaries: Finding | None
    quarantine: Quarantine | None
    """Its own, else, of a panel, that of the member held longest."""


def standings(tx: Transaction, *, now: datetime) -> list[Standing]:
    """Return every version that has labels, canaries or a quarantine, by name."""
    labelled = {one.judge_version: one for one in tx.judging.labelled(since=now - LABELS_OF)}
    runs = tx.judging.canary_runs()
    quarantines = tx.judging.quarantines()
    found = []
    for version in sorted({*labelled, *runs, *(one.judge_version for one in quarantines)}):
        given, ran_at = labelled.get(version), runs.get(version)
        newest = by_run(tx.judging.canaries(version, since=ran_at)) if ran_at else []
        found.append(
            Standing(
                judge_version=version,
                labels=given.labels if given else 0,
                labels_left_out=given.left_out if given else 0,
                last_label_at=given.last_at if given else None,
                canaries_at=ran_at,
                canaries=finding(newest[-1]) if newest else None,
                quarantine=_holding(version, quarantines),
            )
        )
    return found


def _holding(version: str, quarantines: Sequence[Quarantine]) -> Quarantine | None:
    held = [one for one in quarantines if stands_on(version, one.judge_version)]
    return min(held, key=lambda one: (one.judge_version != version, one.since), default=None)
