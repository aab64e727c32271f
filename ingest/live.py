"""The routing state in force: prepare (may fail), then swap (cannot)."""

from __future__ import annotations

import logging
import threading

import numpy as np

from online.route import route
from online.snapshot import load_state
from online.state import RoutingState
from store.clock import Clock
from store.errors import StateRefused
from store.ledger import Ledger, Notifications
from store.records import FOLDS, JsonObject, PromptReceived, RequestId, RoutingStateRecord

log = logging.getLogger(__name__)

POLL_S = 0.5


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
                route(_warm_up(record), probe, state, fold=fold)
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
    """

    def __init__(self, live: Live, ledger: Ledger, clock: Clock, *, replica: str) -> None:
        self._live = live
        self._ledger = ledger
        self._clock = clock
        self._replica = replica
        self._in_force = ""
        self._refused: set[str] = set()

    def run(self, stop: threading.Event, hints: Notifications) -> None:
        """Follow until stopped."""
        while not stop.is_set():
            self.step()
            hints.wait(POLL_S)

    def step(self) -> bool:
        """Load and acknowledge the active state if it is new; True when swapped."""
        with self._ledger.begin() as tx:
            if tx.states.active_checksum() in {self._in_force, *self._refused}:
                return False
            record = tx.states.active()
        if record is None:
            return False
        try:
            prepared = self._live.prepare(record)
        except StateRefused as refused:
            self._refused.add(record.sha256)
            facts = {"version": record.version, "kept": self._live.version(), "why": str(refused)}
            log.exception("state.refused", extra=facts)
            return False
        before = self._live.version()
        self._live.swap(prepared)
        self._in_force = record.sha256
        with self._ledger.begin() as tx:
            tx.states.acknowledge(prepared.version, replica=self._replica, now=self._clock.now())
        went_back = prepared.version <= before
        log.log(
            logging.WARNING if went_back else logging.INFO,
            "state.went_back" if went_back else "state.swapped",
            extra={"from_version": before, "to_version": prepared.version},
        )
        return True


def _warm_up(record: RoutingStateRecord) -> PromptReceived:
    return PromptReceived(
        request_id=RequestId("warm-up"), text="warm-up", received_at=record.published_at
    )
