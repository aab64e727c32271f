"""Why a judge version may not be believed, and what follows: its quarantine, told in an alert."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from judge.canaries import GIBBERISH_WORSE, by_run, finding
from store.judging import Quarantine
from store.ledger import Transaction
from store.records import Alert, AlertKind, OutboxMessage

log = logging.getLogger(__name__)

MOST_INCONSISTENT = 0.35
"""Share of pairs on which a judge's two orders may disagree (promise.md section 5)."""
FEWEST_PAIRS = 100
RECENT_PAIRS = 500
RECENT = timedelta(days=7)
LOOK_BACK = timedelta(days=90)
"""A good run before that is not looked for: all labels of the version are left out then."""
FROM_THE_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any label."""

AnnounceAlert = Callable[[Alert], OutboxMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distrust:
    """Why a judge may not be believed, and from when on."""

    reason: str
    since: datetime
    evidence: dict[str, float]


def distrust(tx: Transaction, version: str, *, now: datetime) -> Distrust | None:
    """Return why a judge version may not be believed; None if nothing speaks against it.

    What was known when its quarantine was lifted last does not count again.
    """
    lifted = tx.judging.lifted_at(version) or FROM_THE_FIRST
    runs = by_run(tx.judging.canaries(version, since=now - LOOK_BACK))
    good = [run[0].ran_at for run in runs if finding(run).is_good]
    since = max(good, default=FROM_THE_FIRST)
    if runs and runs[-1][0].ran_at >= lifted and (last := finding(runs[-1])).is_lost:
        won = f"lost {', '.join(last.lost)}" if last.lost else "lost no canary"
        return Distrust(
            reason=f"{won}; judged {last.gibberish_worse:.0%} of planted gibberish worse, at least"
            f" {GIBBERISH_WORSE:.0%} must be",
            since=since,
            evidence={
                "canaries": float(last.canaries),
                "canaries_lost": float(len(last.lost)),
                "canaries_unreadable": float(last.unreadable),
                "gibberish_worse": last.gibberish_worse,
            },
        )
    seen = tx.judging.consistency(version, since=max(lifted, now - RECENT), limit=RECENT_PAIRS)
    if seen.pairs < FEWEST_PAIRS or seen.share <= MOST_INCONSISTENT:
        return None
    return Distrust(
        reason=f"its two orders disagreed on {seen.inconsistent} of {seen.pairs} pairs, at most"
        f" {MOST_INCONSISTENT:.0%} may",
        since=min(since, seen.first_at or since),
        evidence={"pairs": float(seen.pairs), "inconsistent_share": seen.share},
    )


def impose(
    tx: Transaction,
    version: str,
    found: Distrust,
    *,
    actor: str,
    now: datetime,
    announce: AnnounceAlert,
) -> tuple[int, list[OutboxMessage]]:
    """Quarantine a judge version, and with it what every panel with it said, with one alert; return
    how many labels are left out, and what must be sent.
    """
    one = Quarantine(judge_version=version, since=found.since, reason=found.reason, imposed_at=now)
    labels = tx.judging.quarantine(one, actor=actor)
    log.warning("judge.quarantined", extra={"judge_version": version, "labels": labels})
    alert = tx.operations.raise_alert(_alert(one, labels, found.evidence))
    return labels, tx.outbox.add([announce(alert)])


def _alert(one: Quarantine, labels: int, evidence: dict[str, float]) -> Alert:
    since = "its first label" if one.since == FROM_THE_FIRST else f"{one.since:%Y-%m-%d %H:%M} UTC"
    return Alert(
        kind=AlertKind.JUDGE_QUARANTINED,
        subject=one.judge_version,
        message=(
            f"the judge {one.judge_version} is in quarantine: {one.reason}. {labels} labels since"
            f" {since}, its own and those of panels with it, are out of λ until another judge"
            " version has judged them again"
        ),
        guarantee="exact: verdicts that are known to be wrong, or a count; not a test",
        evidence=evidence | {"labels_left_out": float(labels)},
        raised_at=one.imposed_at,
    )
