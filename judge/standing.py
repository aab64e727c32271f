"""How every judge version stands: its labels, its last canaries, its quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from judge.canaries import Finding, by_run, finding
from store.judging import Quarantine
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


def standings(tx: Transaction, *, now: datetime) -> list[Standing]:
    """Return every version that has labels, canaries or a quarantine, by name."""
    labelled = {one.judge_version: one for one in tx.judging.labelled(since=now - LABELS_OF)}
    runs = tx.judging.canary_runs()
    held = {one.judge_version: one for one in tx.judging.quarantines()}
    found = []
    for version in sorted({*labelled, *runs, *held}):
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
                quarantine=held.get(version),
            )
        )
    return found
