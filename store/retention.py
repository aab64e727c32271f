"""Which days, texts, ids and routing states may go: pure decisions over a survey of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from store.errors import SettingsInvalid
from store.records import RoutingStateRecord, day_of
from store.upkeep import KeptDay

LABELS_KEPT = 10_000
"""Newest judged requests whose days stay, however old. The tables weigh what comes before them by
at most .999 ** 10,000 = 4.5e-5, and λ's window, at the default discount, by less than 1e-21."""
VERDICTS_DAYS = 30
"""Days that a verdict is kept for the same question to come again; it holds hashes, no text."""
STATES_KEPT = 100
"""Newest routing states, each of which can be rolled back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """``STEERSMAN_RETENTION_*``: how many days ``steersman retention`` keeps."""

    facts_days: int = 90
    """Days that decisions, answers, verdicts, labels and embeddings are kept, at least."""
    text_days: int = 30
    """Days that texts of prompts, answers and comments are kept; at most facts_days."""
    keys_days: int = 30
    """Days in which a prompt that comes again gets its stored decision; at most facts_days."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 2 (today and a late batch of yesterday), got {days}"
            for name in ("facts_days", "text_days", "keys_days")
            if (days := getattr(self, name)) < 2
        ]
        problems += [
            f"{name} ({days}) must be at most facts_days ({self.facts_days})"
            for name in ("text_days", "keys_days")
            if (days := getattr(self, name)) > self.facts_days
        ]
        if problems:
            raise SettingsInvalid("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDay:
    """A day that is old enough to go and stays, and why."""

    day: date
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What would go today."""

    facts: tuple[KeptDay, ...]
    text: tuple[KeptDay, ...]
    keys: tuple[date, ...]
    states: tuple[int, ...]
    held: tuple[HeldDay, ...]
    facts_from: date
    """The oldest day whose facts are young enough to stay."""


def plan_retention(
    days: Sequence[KeptDay],
    states: Sequence[RoutingStateRecord],
    *,
    active_version: int,
    settings: RetentionSettings,
    today: date,
) -> RetentionPlan:
    """Return what may go: old enough, and needed by nothing.

    Parameters
    ----------
    days
        The survey, in any order.
    states
        Every routing state, in any order.
    """
    facts, text, keys, held = [], [], [], []
    later_judged = 0
    for one in sorted(days, key=lambda kept: kept.day, reverse=True):
        age = (today - one.day).days
        reasons = tuple(_needed_by(one, later_judged))
        later_judged += one.judged
        if age > settings.facts_days and not reasons:
            facts.append(one)
        elif age > settings.facts_days:
            held.append(HeldDay(day=one.day, reasons=reasons))
        if age > settings.text_days and one.has_text and one not in facts and not one.open_tasks:
            text.append(one)
        if age > settings.keys_days and one.has_keys and not one.unpublished:
            keys.append(one.day)
    return RetentionPlan(
        facts=tuple(facts[::-1]),
        text=tuple(text[::-1]),
        keys=tuple(keys[::-1]),
        states=states_to_drop(
            states, active_version=active_version, settings=settings, today=today
        ),
        held=tuple(held[::-1]),
        facts_from=today - timedelta(days=settings.facts_days),
    )


def states_to_drop(
    states: Sequence[RoutingStateRecord],
    *,
    active_version: int,
    settings: RetentionSettings,
    today: date,
) -> tuple[int, ...]:
    """Return the routing states that nobody will go back to.

    Kept: the active one, the newest ``STATES_KEPT``, the last rollback (it may hold a scorer), and
    the last of each day for as long as that day's facts: an operator goes back by a few states, or
    to how it was on a day.
    """
    newest_first = sorted(states, key=lambda state: state.version, reverse=True)
    kept = {active_version, *(state.version for state in newest_first[:STATES_KEPT])}
    kept |= set([s.version for s in newest_first if s.cause == "rollback"][:1])
    closing: dict[date, int] = {}
    for state in newest_first:
        closing.setdefault(day_of(state.published_at), state.version)
    kept |= {v for day, v in closing.items() if (today - day).days <= settings.facts_days}
    return tuple(s.version for s in newest_first[::-1] if s.version not in kept)


def _needed_by(one: KeptDay, later_judged: int) -> Iterator[str]:
    if one.open_tasks:
        yield f"{one.open_tasks} judge tasks are not finished"
    if one.unpublished:
        yield f"{one.unpublished} messages have not left"
    if one.judged and later_judged < LABELS_KEPT:
        yield f"holds some of the newest {LABELS_KEPT:,} judged requests, which learning needs"
