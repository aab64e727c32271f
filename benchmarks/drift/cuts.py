"""Where the regression alarm cuts the window (``recalibrate/alarms.py``), for a whole stream.

The alarm does not look at λ: its times are found first, by bisection, with the functions that the
learn role calls once a cycle.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from online.learn import JudgedRequest
from recalibrate.alarms import regressions, window_from, with_baselines
from store.records import Expert, ExpertId, ExpertStatus, Price

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cut:
    """From a publication on, labels before a ledger sequence are out of the window."""

    publication: int
    from_seq: int


def cuts(
    rows: Sequence[JudgedRequest],
    known: Sequence[int],
    experts: Sequence[ExpertId],
    *,
    reference: ExpertId,
) -> list[Cut]:
    """Return every cut, in order.

    Parameters
    ----------
    rows
        The judged requests that alarms look at, in ledger order.
    known
        How many of them each publication knows.
    """
    found = [c for name in experts for c in _of_one(rows, known, _certified(name), reference)]
    return sorted(found, key=lambda cut: (cut.publication, cut.from_seq))


def _of_one(
    rows: Sequence[JudgedRequest], known: Sequence[int], expert: Expert, reference: ExpertId
) -> list[Cut]:
    found: list[Cut] = []
    at = 0
    while at < len(known):
        (expert,) = with_baselines([expert], rows[: known[at]], reference=reference)
        if expert.baseline.floor is None:
            at += 1
            continue
        alarms = partial(_alarms, expert, rows, known)
        if not alarms(len(known) - 1):
            break
        # Evidence is the highest so far: once it has alarmed, it does for all later labels.
        at = bisect_left(range(len(known)), True, lo=at, key=alarms)
        (expert,), raised = regressions([expert], rows[: known[at]], now=NOW)
        found.append(Cut(at, window_from(raised)))
    return found


def _alarms(
    expert: Expert, rows: Sequence[JudgedRequest], known: Sequence[int], publication: int
) -> bool:
    return bool(regressions([expert], rows[: known[publication]], now=NOW)[1])


def _certified(name: ExpertId) -> Expert:
    return Expert(
        name=name,
        status=ExpertStatus.CERTIFIED,
        price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        client={"kind": "recorded"},
        added_at=NOW,
        status_changed_at=NOW,
    )
