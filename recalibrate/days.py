"""LOOP BODY of upkeep: the days ahead have room, and an alert when they have not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from recalibrate.publication import AnnounceAlert, raise_alerts
from store.clock import Clock
from store.errors import StoreError, StoreUnavailable
from store.ledger import Ledger, Publish
from store.records import Alert, AlertKind
from store.upkeep import coming_days

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)


class DayWatch:
    """Makes room for the days to come and sees that it is there.

    Parameters
    ----------
    announce, send
        As of ``Recalibrator``.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, announce: AnnounceAlert, send: Publish
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._announce = announce
        self._send = send
        self._looked_at: datetime | None = None
        self._is_raised = False

    def step(self) -> None:
        """Prepare and check the coming days, once an hour.

        Raises ``StoreUnavailable``; whatever else keeps a day from being made becomes the alert.
        """
        now = self._clock.now()
        if self._looked_at is not None and now - self._looked_at < EVERY:
            return
        expected = coming_days(now)
        for day in self._missing(expected):
            self._prepare(day)
        missing = self._missing(expected)
        if missing and not self._is_raised:
            self._raise(missing, now)
        if self._is_raised and not missing:
            log.info("days.complete_again")
        self._is_raised = bool(missing)
        self._looked_at = now

    def _missing(self, expected: Sequence[date]) -> list[date]:
        with self._ledger.begin() as tx:
            return sorted(set(expected) - set(tx.upkeep.days()))

    def _prepare(self, day: date) -> None:
        """Make one day in a transaction of its own: one that cannot be made costs no other."""
        try:
            with self._ledger.begin() as tx:
                tx.upkeep.prepare_days([day])
        except StoreUnavailable:
            raise
        except StoreError as problem:
            log.error(  # noqa: TRY400  the message says it; a trace each hour would not help
                "days.not_made", extra={"day": str(day), "problem": str(problem)}
            )

    def _raise(self, missing: Sequence[date], now: datetime) -> None:
        alert = Alert(
            kind=AlertKind.PARTITION_MISSING,
            subject="ledger",
            message=(
                f"{len(missing)} of the coming days have no room for facts, the first is"
                f" {missing[0]}: decisions of that day will try to make it themselves and fail for"
                " the same reason; the log line days.not_made says why"
            ),
            guarantee="exact: a count, not a test",
            evidence={
                "missing_days": float(len(missing)),
                "days_until_first": float((missing[0] - now.date()).days),
            },
            raised_at=now,
        )
        with self._ledger.begin() as tx:
            outgoing = raise_alerts(tx, [alert], announce=self._announce)
        self._send(outgoing)
