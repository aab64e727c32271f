"""LOOP BODY: labels → learning → certification → alarms → λ → guard → publish.

One leader runs it. A cycle is a pure function of the ledger's labels, experts and policy; what it
publishes is absolute, so a crash anywhere means that the next cycle starts over and arrives at the
same state. Publishing compares and sets on the version it was computed from.
"""

from __future__ import annotations

import logging

from online.learner import LabelWindow
from online.state import RoutingState, pool_of
from recalibrate import alarms
from recalibrate.guard import approved, recompute
from recalibrate.inputs import Inputs, Published, cause_of, is_due, read_inputs
from recalibrate.lifecycle import Lifecycle, certified_names
from recalibrate.publication import AnnounceAlert, Outcome, publish, raise_alerts
from recalibrate.scoring import ScorerSource
from recalibrate.window import rescore, settled
from store.clock import Clock
from store.errors import StateRefused, StateSuperseded
from store.judging import Quarantine
from store.ledger import Ledger, Publish
from store.records import Alert, AlertKind, ExpertStatus

log = logging.getLogger(__name__)


class Recalibrator:
    """The learn role's work, one step at a time.

    Parameters
    ----------
    encoder
        Identity of the encoder whose embeddings the ledger holds.
    announce
        Turns an alert into the message that leaves with it.
    send
        Sends committed messages at once.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, encoder: str, announce: AnnounceAlert, send: Publish
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._encoder = encoder
        self._announce = announce
        self._send = send
        self._window = LabelWindow(encoder=encoder)
        self._touched: set[int] = set()
        self._scorers = ScorerSource(ledger, clock, encoder=encoder)
        self._lifecycle = Lifecycle(ledger, encoder=encoder)
        self._published = Published()
        self._refused_for = 0
        self._revision = 0
        self._has_read = False
        self._last_seq = 0
        self._quarantines: list[Quarantine] = []
        self._published_under: list[Quarantine] | None = None
        """None before this process has published."""

    @property
    def labels(self) -> int:
        """Return how many labels have been read."""
        return self._window.labels

    def step(self) -> int | None:
        """Run one cycle if one is due; return the version published, None if none was."""
        self._start_over_if_facts_went()
        self._touched |= self._window.read(self._ledger)
        inputs = read_inputs(self._ledger, self._clock)
        if inputs is None:
            return None
        due = is_due(inputs, self._published, labels=self._window.labels)
        if not (due or self._scorers.is_behind or self._is_discredited(inputs)):
            return None
        try:
            return self._cycle(inputs)
        except StateSuperseded as superseded:
            log.warning("state.superseded", extra={"active": superseded.active})
        except StateRefused as refused:
            self._refuse(inputs, str(refused))
        return None

    def _start_over_if_facts_went(self) -> None:
        """Forget what was read once judged requests were dropped or erased, or the ledger was
        restored to an earlier time: what is learnt is a function of what the ledger holds, for
        this process as for one that is started now.

        Looked at before labels are read: what goes while they are is seen at the next step.
        """
        with self._ledger.begin() as tx:
            # Before the revision: floors set by judges of then are doubted again if it has changed.
            self._quarantines = tx.judging.quarantines()
            revision, last_seq = tx.upkeep.revision(), tx.decisions.last_seq()
        was_restored = last_seq < self._last_seq
        self._last_seq = last_seq
        if was_restored or (self._has_read and self._revision != revision):
            log.info("learn.started_over", extra={"judged": len(self._window)})
            self._window, self._touched = LabelWindow(encoder=self._encoder), {0}
            self._published = Published()
        self._revision, self._has_read = revision, True

    def _is_discredited(self, inputs: Inputs) -> bool:
        """Return whether λ must be recomputed however few labels are left: the one in force stems
        from labels that have gone since, as when a judge went into quarantine, or lacks some that
        count again. The state itself says of which ledger it is, so that a process that starts
        knows too, and one that a rollback brought back is not believed beyond its labels.
        """
        return self._is_of_another_revision(inputs) or self._doubts_floors(inputs)

    def _doubts_floors(self, inputs: Inputs) -> bool:
        """Return whether other judges may have set the floors than those that are believed now; a
        process that starts supposes so if the ledger has changed.
        """
        if self._published_under is not None:
            return self._quarantines != self._published_under
        return self._is_of_another_revision(inputs)

    def _is_of_another_revision(self, inputs: Inputs) -> bool:
        return inputs.active is not None and inputs.active.revision != self._revision

    def _cycle(self, inputs: Inputs) -> int | None:
        started = self._clock.monotonic()
        model = self._scorers.scorer(inputs, self._window, self._touched)
        self._touched = set()
        waits = cause_of(inputs, inputs.experts) == "labels" and not self._is_discredited(inputs)
        if self._scorers.is_behind and waits:
            return None  # the active scorer serves already; the next step learns more
        rows = self._window.rows()
        reference = inputs.policy.reference
        known = settled(rows, watermark=inputs.watermark, reference=reference)
        labels = rescore(known, model, inputs.experts) if model is not None and known else None
        experts = self._lifecycle.advanced(inputs, rows, model, labels)
        if self._doubts_floors(inputs):
            experts = alarms.without_floors(experts)
        experts = alarms.with_baselines(experts, known, reference=reference)
        experts, raised = alarms.regressions(experts, known, now=self._clock.now())
        threshold = recompute(
            inputs.policy,
            labels,
            certified_names(experts, reference),
            last_seq=inputs.last_seq,
            from_seq=max(inputs.from_seq, alarms.window_from(raised)),
            is_ramping=any(e.status is ExpertStatus.RAMPING for e in experts),
        )
        starved = alarms.starvation(
            inputs.active, threshold, mode=inputs.policy.mode, now=self._clock.now()
        )
        candidate = RoutingState(
            version=inputs.active_version + 1,
            parent=inputs.active_version,
            policy=inputs.policy,
            policy_version=inputs.policy_version,
            encoder=self._encoder,
            pool=pool_of(experts, output_tokens=inputs.output_tokens),
            model=model,
            threshold=threshold.value,
            safe_reason=threshold.safe_reason,
            effective_labels=threshold.effective_labels,
            revision=self._revision,
        )
        state, payload = approved(candidate, threshold)
        outcome = Outcome(
            state=state,
            payload=payload,
            threshold=threshold,
            experts=tuple(experts),
            alerts=(*raised, starved) if starved else tuple(raised),
            labels=len(self._window),
            new_labels=self._window.labels - self._published.labels,
            took_ms=1e3 * (self._clock.monotonic() - started),
        )
        return self._publish(inputs, outcome)

    def _publish(self, inputs: Inputs, outcome: Outcome) -> int:
        self._send(publish(self._ledger, self._clock, inputs, outcome, announce=self._announce))
        self._published = Published(
            labels=self._window.labels, seq=inputs.last_seq, version=outcome.state.version
        )
        self._published_under = self._quarantines
        facts = {
            "version": outcome.state.version,
            "threshold": outcome.threshold.value,
            "effective_labels": outcome.threshold.effective_labels,
            "detail": outcome.threshold.detail,
            "took_ms": round(outcome.took_ms, 1),
        }
        log.info("state.published", extra=facts)
        return outcome.state.version

    def _refuse(self, inputs: Inputs, why: str) -> None:
        """Keep the last good state and say so, once per state that is kept."""
        log.error("state.refused", extra={"why": why, "kept": inputs.active_version})
        self._published = Published(labels=self._window.labels, seq=inputs.last_seq)
        if self._refused_for == inputs.active_version:
            return
        self._refused_for = inputs.active_version
        alert = Alert(
            kind=AlertKind.STATE_REFUSED,
            subject="routing state",
            message=f"a new routing state was refused ({why}); version"
            f" {inputs.active_version} goes on serving",
            guarantee="exact: validation, not a test",
            evidence={"kept_version": float(inputs.active_version)},
            raised_at=self._clock.now(),
        )
        with self._ledger.begin() as tx:
            outgoing = raise_alerts(tx, [alert], announce=self._announce)
        self._send(outgoing)
