"""Who judges, unless they may not be believed: a panel with a quarantined member judges nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

from judge.pairs import Panel
from store.clock import Clock
from store.errors import JudgeUnavailable
from store.ledger import Ledger

FRESH_S = 1.0
"""Seconds before the quarantines are read again."""


class Trusted:
    """The panel given, while neither it nor a judge of it is in quarantine.

    Otherwise it is away, as in an outage: tasks wait, uncounted, for another judge version.
    """

    def __init__(self, panel: Callable[[], Panel], ledger: Ledger, clock: Clock) -> None:
        self._panel = panel
        self._ledger = ledger
        self._clock = clock
        self._quarantined: frozenset[str] = frozenset()
        self._look_again = -math.inf

    def __call__(self) -> Panel:
        """Return who judges now. Raises ``JudgeUnavailable``."""
        panel = self._panel()
        if self._clock.monotonic() >= self._look_again:
            with self._ledger.begin() as tx:
                found = tx.judging.quarantines()
            self._quarantined = frozenset(one.judge_version for one in found)
            self._look_again = self._clock.monotonic() + FRESH_S
        if self._quarantined and (held := self._quarantined & versions_of(panel)):
            raise JudgeUnavailable(
                f"in quarantine: {', '.join(sorted(held))}; tasks wait for another judge, or for"
                " `steersman judge lift`"
            )
        return panel


def versions_of(panel: Panel) -> frozenset[str]:
    """Return the version of the whole, which labels carry, and that of each member."""
    return frozenset({panel.version, *(judge.version for judge in panel.judges)})
