"""When an expert is out of service for failing calls, and when it is back: rules, no effects.

Simple and with hysteresis: it takes several failures to go and several answered probes to come
back, and an expert that fails again soon waits longer each time. Latency alone never counts, nor
does a refusal, which is about one request.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from judge.probing import next_wait
from store.health import ABSENCES_KEPT, Health
from store.records import Expert

IN_A_ROW = 5
"""Failures without an answer between them that pause an expert. A failure is a request whose calls
failed: one prompt that an expert chokes on, asked again and again, is one."""
OUT_OF = 20
MOST = 10
"""So many failures among the latest ``OUT_OF`` calls do too."""
WITHIN = timedelta(hours=1)
"""Older failures are past."""
PROBES_NEEDED = 3
"""Answered probes in a row that bring it back."""
RELAPSE = timedelta(hours=1)
"""Failing again this soon after coming back makes the pauses one longer trouble."""


def is_failing(answered: dict[int, int]) -> bool:
    """Return whether calls fail so often that the expert must not serve.

    Parameters
    ----------
    answered
        For each k: how many calls were answered since the k-th newest failure; without an entry
        where there were fewer than k failures.
    """
    in_a_row = answered.get(IN_A_ROW, 1) == 0
    often = answered.get(MOST, OUT_OF) <= OUT_OF - MOST
    return in_a_row or often


def paused(expert: Expert, *, error: str, judged_to: int, now: datetime) -> Health:
    """Return what is kept of an expert that goes out of service now.

    Parameters
    ----------
    judged_to
        The watermark: behind it every request has the expert's label, if one was due.
    """
    before = expert.health
    soon = before.episodes > 0 and now - expert.status_changed_at < RELAPSE
    episodes = before.episodes + 1 if soon else 1
    return Health(
        was=expert.status,
        since=now,
        error=error,
        next_probe_at=now + next_wait(episodes - 1),
        episodes=episodes,
        absent_from=judged_to,
        absences=before.absences,
    )


def is_well(health: Health) -> bool:
    """Return whether its probes allow it back."""
    return health.successes >= PROBES_NEEDED


def recovered(health: Health, *, last_seq: int) -> Health:
    """Return what is kept of an expert that comes back: when it was out.

    The oldest absences that are too many become one, which covers what was between them: that
    leaves out more rows by time, where forgetting one would count its rows as losses.
    """
    gone = (*health.absences, (health.absent_from, last_seq))
    old, new = gone[: 1 - ABSENCES_KEPT], gone[1 - ABSENCES_KEPT :]
    if len(old) > 1:
        old = ((min(after for after, _ in old), max(until for _, until in old)),)
    return replace(Health(), episodes=health.episodes, absences=(*old, *new))
