"""What ``steersman retention`` and ``steersman erase`` do, one small transaction after the other.

Interrupted anywhere, what is done is done and audited, and the next run does the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TypeVar

from ingest.commands import actor_name
from store.clock import Clock
from store.errors import RequestConflict, StoreUnavailable
from store.ledger import Ledger, Transaction
from store.records import AuditEntry, JsonObject
from store.retention import VERDICTS_DAYS, RetentionPlan, RetentionSettings, plan_retention
from store.upkeep import Erased

BATCH = 5_000
"""Rows that one transaction deletes."""
STATES_AT_ONCE = 100
EVERY_STATE = 1_000_000
TRIES = 40
RETRY_S = 0.5

T = TypeVar("T")


class Retention:
    """Drops what is older than the settings say and needed by nothing.

    Raises ``StoreUnavailable`` when a day stays in use for ``TRIES`` attempts; run it again.
    """

    def __init__(self, ledger: Ledger, clock: Clock, settings: RetentionSettings) -> None:
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._actor = actor_name()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second run out. Raises ``RequestConflict`` when there is one already."""
        with self._ledger.lead("retention") as leads:
            if not leads:
                raise RequestConflict(
                    "retention_runs", "another `steersman retention` runs; wait for it to end"
                )
            yield

    def plan(self) -> RetentionPlan:
        """Return what would go now."""
        with self._ledger.begin() as tx:
            return plan_retention(
                tx.upkeep.survey(),
                tx.states.history(limit=EVERY_STATE),
                active_version=tx.states.active_version(),
                settings=self._settings,
                today=self._clock.now().date(),
            )

    def carry_out(self, plan: RetentionPlan) -> Iterator[str]:
        """Drop what was planned; yield what was done, line by line, while it is done."""
        counts: JsonObject = {"ids": sum(map(self._forget_ids, plan.keys))}
        counts["states"] = self._drop_states(plan.states)
        counts["aged_rows"] = self._drop_aged(plan.facts_from)
        counts["kept_verdicts"] = self._forget_verdicts()
        counts["probe_texts"] = self._drop_probe_texts()
        text = yield from self._each("text", [one.day for one in plan.text], self._drop_text)
        facts = yield from self._each("facts", [one.day for one in plan.facts], self._drop_facts)
        counts |= {"text_days": text, "facts_days": facts}
        detail = counts | {"settings": asdict(self._settings)}
        with self._ledger.begin() as tx:
            _audit(tx, "retention.finished", detail, actor=self._actor, now=self._clock.now())
        yield (
            f"done: facts of {facts} days, text of {text} days, {counts['ids']} request ids,"
            f" {counts['states']} routing states, {counts['aged_rows']} rows of sent messages,"
            f" feedback and calibrations, {counts['kept_verdicts']} kept verdicts,"
            f" texts of {counts['probe_texts']} probe answers"
        )

    def _each(
        self, kind: str, days: Sequence[date], drop: Callable[[date, Transaction], bool]
    ) -> Generator[str, None, int]:
        done = 0
        for day in days:
            is_done = self._patiently(partial(drop, day))
            done += is_done
            yield f"{day}  {kind} dropped" if is_done else f"{day}  {kind} kept: needed again"
        return done

    def _drop_text(self, day: date, tx: Transaction) -> bool:
        return tx.upkeep.drop_text(day, actor=self._actor, now=self._clock.now())

    def _drop_facts(self, day: date, tx: Transaction) -> bool:
        return tx.upkeep.drop_facts(day, actor=self._actor, now=self._clock.now())

    def _forget_ids(self, day: date) -> int:
        total, after = 0, None
        while True:
            with self._ledger.begin() as tx:
                done = tx.upkeep.drop_keys(day, after=after, limit=BATCH)
            total += done.count
            if (after := done.last) is None:
                return total

    def _drop_states(self, versions: Sequence[int]) -> int:
        total = 0
        for start in range(0, len(versions), STATES_AT_ONCE):
            batch = versions[start : start + STATES_AT_ONCE]
            with self._ledger.begin() as tx:
                total += tx.upkeep.drop_states(batch, actor=self._actor, now=self._clock.now())
        return total

    def _drop_aged(self, facts_from: date) -> int:
        before = datetime.combine(facts_from, time(), tzinfo=UTC)
        return self._in_batches(lambda tx: tx.upkeep.drop_aged(before=before, limit=BATCH))

    def _forget_verdicts(self) -> int:
        before = self._clock.now() - timedelta(days=VERDICTS_DAYS)
        return self._in_batches(lambda tx: tx.judging.forget(before=before, limit=BATCH))

    def _drop_probe_texts(self) -> int:
        before = self._clock.now() - timedelta(days=self._settings.text_days)
        return self._in_batches(lambda tx: tx.describing.drop_texts(before=before, limit=BATCH))

    def _in_batches(self, act: Callable[[Transaction], int]) -> int:
        total = 0
        while True:
            with self._ledger.begin() as tx:
                gone = act(tx)
            if not gone:
                return total
            total += gone

    def _patiently(self, act: Callable[[Transaction], T]) -> T:
        """Try again while others use the day: dropping never makes a decision wait for long."""
        never = threading.Event()
        for _ in range(TRIES - 1):
            try:
                with self._ledger.begin() as tx:
                    return act(tx)
            except StoreUnavailable:
                self._clock.wait(never, RETRY_S)
        with self._ledger.begin() as tx:
            return act(tx)


def erase_texts(
    ledger: Ledger, clock: Clock, *, tenant: str, session_id: str | None
) -> Iterator[str]:
    """Erase day by day; yield the counts."""
    actor, total = actor_name(), Erased()
    with ledger.begin() as tx:
        days = tx.upkeep.days()
    for day in days:
        with ledger.begin() as tx:
            total += tx.upkeep.erase(
                day, tenant=tenant, session_id=session_id, actor=actor, now=clock.now()
            )
    with ledger.begin() as tx:
        _audit(tx, "erase.finished", asdict(total), actor=actor, now=clock.now())
    for what, count in asdict(total).items():
        yield f"{what.replace('_', ' ')}: {count}"


def told(plan: RetentionPlan) -> Iterator[str]:
    """Yield what a plan would do, for a person."""
    for one in plan.facts:
        yield f"{one.day}  all facts  {_megabytes(one.facts_bytes)}"
    for one in plan.text:
        yield f"{one.day}  text       at most {_megabytes(one.text_bytes)}"
    for held in plan.held:
        yield f"{held.day}  stays: {'; '.join(held.reasons)}"
    total = sum(one.facts_bytes for one in plan.facts) + sum(one.text_bytes for one in plan.text)
    yield (
        f"{len(plan.facts)} days of facts, {len(plan.text)} days of text, request ids of"
        f" {len(plan.keys)} days, {len(plan.states)} routing states: at most {_megabytes(total)};"
        f" sent messages, feedback and calibrations from before {plan.facts_from}"
    )


def _audit(tx: Transaction, action: str, detail: JsonObject, *, actor: str, now: datetime) -> None:
    tx.operations.audit(AuditEntry(actor=actor, action=action, detail=detail, at=now))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
