"""The routing state in force: prepare (may fail), then swap (cannot)."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import numpy as np

from ingest.announce import announce_alert
from online.categories import UNKNOWN
from online.route import route
from online.snapshot import load_state
from online.state import RoutingState
from store.clock import Clock
from store.errors import EventRejected, StateRefused
from store.ledger import Ledger, Notifications, Publish
from store.records import (
    FOLDS,
    Alert,
    AlertKind,
    JsonObject,
    PromptReceived,
    RequestId,
    RoutingStateRecord,
)

log = logging.getLogger(__name__)

POLL_S = 0.5
LOOK_BACK = 20
"""How many older states a start tries when the active one is refused."""
KNOWN = 100
"""Alerts of refused states, the newest, among which one by another replica is looked for."""


class Live:
    """Many readers, one writer; a reader keeps its state to the end of its request.

    Parameters
    ----------
    encoder
        Identity of this process's encoder: a state bound to another one is refused.
    dimension
        The encoder's d.
    """

    def __init__(self, *, encoder: str, dimension: int) -> None:
        self._encoder = encoder
        self._dimension = dimension
        self._state: RoutingState | None = None

    def current(self) -> RoutingState | None:
        """Return the state in force; None before the first."""
        return self._state

    def version(self) -> int:
        """Return the version in force, 0 before the first."""
        state = self._state
        return state.version if state is not None else 0

    def describe(self) -> JsonObject:
        """Return what this process serves, for people and probes."""
        state = self._state
        if state is None:
            return {"version": 0}
        return {
            "version": state.version,
            "binding": state.binding,
            "lambda": state.threshold,
            "alpha": state.policy.alpha,
            "mode": state.policy.mode,
            "effective_labels": state.effective_labels,
            "safe_reason": state.safe_reason,
            "experts": {m.name: m.status for m in state.pool},
            "index_size": len(state.model.index(0, state.nominal_costs)) if state.model else 0,
        }

    def prepare(self, record: RoutingStateRecord) -> RoutingState:
        """Load, verify and warm a stored state.

        Raises
        ------
        StateRefused
            It is damaged, of an unknown format, bound to another encoder, or cannot route.
        """
        state = load_state(record.payload, sha256=record.sha256)
        if state.version != record.version:
            raise StateRefused(f"row {record.version} holds state {state.version}")
        if state.encoder != self._encoder:
            raise StateRefused("the state is bound to another encoder; λ does not carry over")
        if state.model is not None:
            for fold in range(FOLDS):
                state.model.index(fold, state.nominal_costs)
        probe = np.zeros(self._dimension, dtype=np.float32)
        probe[0] = 1.0
        try:
            for fold in range(FOLDS):
                # A reference with too small a window: requests are told so, one by one.
                with suppress(EventRejected):
                    route(_warm_up(record), probe, state, fold=fold, category=UNKNOWN)
        except (ValueError, IndexError, KeyError) as problem:
            raise StateRefused(f"the state cannot route: {problem!r}") from problem
        return state

    def swap(self, prepared: RoutingState) -> None:
        """Put a prepared state in force, also an older one: the ledger says which is active."""
        self._state = prepared


class StateWatcher:
    """LOOP: follow the active state; a notification is a hint, the table is the truth.

    States are told apart by checksum: a ledger that was restored from a backup goes back to an
    older version and gives the numbers after it to other states.

    Parameters
    ----------
    send
        Sends an alert at once.
    """

    def __init__(
        self, live: Live, ledger: Ledger, clock: Clock, *, replica: str, send: Publish
    ) -> None:
        self._live = live
        self._ledger = ledger
        self._clock = clock
        self._replica = replica
        self._send = send
        self._in_force = ""
        self._acknowledged = ""
        self._refused: set[str] = set()

    def run(self, stop: threading.Event, hints: Notifications) -> None:
        """Follow until stopped."""
        while not stop.is_set():
            self.step()
            hints.wait(POLL_S)

    def step(self) -> bool:
        """Load and acknowledge the active state if it is new; True when swapped."""
        record = self._unknown()
        swapped = record is not None and self._follow(record)
        self._acknowledge()
        return swapped

    def _unknown(self) -> RoutingStateRecord | None:
        """Return the active state unless it is in force or was refused."""
        with self._ledger.begin() as tx:
            active = tx.states.active_checksum()
            if active == self._in_force:  # a ledger restored to before we said so is told again
                told = tx.states.acknowledged(self._live.version())
                self._acknowledged = active if self._replica in told else ""
                return None
            return None if active in self._refused else tx.states.active()

    def _follow(self, record: RoutingStateRecord) -> bool:
        found = self._prepared(record)
        if isinstance(found, RoutingState):
            self._swap(found, record.sha256)
            return True
        swapped = self._live.version() == 0 and self._serve_last_good(record.version)
        self._alert(record.version, why=found)  # if the ledger is away by now, with the next step
        self._refused.add(record.sha256)
        return swapped

    def _prepared(self, record: RoutingStateRecord) -> RoutingState | str:
        """Return the state ready to be swapped in, or why it is refused."""
        try:
            return self._live.prepare(record)
        except StateRefused as refused:
            facts = {"version": record.version, "kept": self._live.version(), "why": str(refused)}
            log.exception("state.refused", extra=facts)
            return str(refused)

    def _serve_last_good(self, before: int) -> bool:
        """Serve the newest older state that can: a restart must not need the learner."""
        for version in range(before - 1, max(0, before - 1 - LOOK_BACK), -1):
            with self._ledger.begin() as tx:
                older = tx.states.find(version)
            if older is None or older.sha256 in self._refused:
                continue
            found = self._prepared(older)
            if isinstance(found, RoutingState):
                self._swap(found, older.sha256)
                return True
            self._refused.add(older.sha256)
        return False

    def _swap(self, prepared: RoutingState, sha256: str) -> None:
        before = self._live.version()
        self._live.swap(prepared)
        self._in_force = sha256
        went_back = prepared.version <= before
        log.log(
            logging.WARNING if went_back else logging.INFO,
            "state.went_back" if went_back else "state.swapped",
            extra={"from_version": before, "to_version": prepared.version},
        )

    def _alert(self, version: int, *, why: str) -> None:
        """Raise the alarm, unless another replica has: they all see one table."""
        served = self._live.version()
        goes_on = f"serves state {served}" if served else "serves nothing and answers 503"
        alert = Alert(
            kind=AlertKind.STATE_REFUSED,
            subject="routing state",
            message=f"{self._replica} refused routing state {version} ({why}); it {goes_on}",
            guarantee="exact: validation, not a test",
            evidence={"refused_version": float(version)},
            raised_at=self._clock.now(),
        )
        with self._ledger.begin() as tx:
            known = tx.operations.alerts(limit=KNOWN, kind=alert.kind)
            if any(a.evidence == alert.evidence for a in known):
                return
            outgoing = tx.outbox.add([announce_alert(tx.operations.raise_alert(alert))])
        self._send(outgoing)

    def _acknowledge(self) -> None:
        """Say which state is in force; said again if the ledger went away meanwhile."""
        if self._in_force == self._acknowledged:
            return
        version = self._live.version()
        with self._ledger.begin() as tx:
            tx.states.acknowledge(version, replica=self._replica, now=self._clock.now())
        self._acknowledged = self._in_force


def _warm_up(record: RoutingStateRecord) -> PromptReceived:
    return PromptReceived(
        request_id=RequestId("warm-up"), text="warm-up", received_at=record.published_at
    )
