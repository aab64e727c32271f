"""Going back to an earlier scorer with one command.

What is rolled back is what was learnt, not what the operator set: the policy in force stays, with
``hold`` on, so that learning does not bring the unwanted scorer straight back. λ goes on being
recomputed for the held scorer; ``steersman policy set hold=false`` lets learning resume.
"""

from __future__ import annotations

from dataclasses import replace

from online.snapshot import checksum, dump, load_state
from online.state import RoutingState, pool_of
from recalibrate.scoring import held
from store.clock import Clock
from store.errors import NotFound, RequestConflict
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import SAFE, AuditEntry, Reason, RoutingStateRecord


def roll_back(ledger: Ledger, version: int, *, actor: str, clock: Clock) -> int:
    """Publish the scorer of an earlier state as a new version; return that version.

    The earlier λ is kept only if it was computed for at least as strict a target, for the same
    certified experts and against the same yardstick (reference, margin, judge); otherwise the
    reference serves until λ is recomputed.

    Raises
    ------
    NotFound
        There is no such state.
    StateRefused
        The earlier state cannot be read.
    StateSuperseded
        A new state was published meanwhile; try again.
    """
    now = clock.now()
    with ledger.begin() as tx:
        record, active = tx.states.find(version), tx.states.active()
        current = tx.policies.current()
        if record is None or active is None or current is None:
            raise NotFound("unknown_state", f"there is no state {version}", field="version")
        if version == active.version:
            raise RequestConflict("already_active", f"state {version} is active", field="version")
        policy = replace(current[1], hold=True)
        policy_version = tx.policies.set(policy, actor=actor, now=now, after=current[0])
        old = load_state(record.payload, sha256=record.sha256)
        pool = pool_of(tx.experts.all(), output_tokens=tx.responses.mean_output_tokens())
        state = replace(
            old,
            version=active.version + 1,
            parent=active.version,
            policy=policy,
            policy_version=policy_version,
            pool=pool,
            model=held(old, pool, policy.reference, encoder=old.encoder),
        )
        state = _with_threshold(state, old, policy)
        payload = dump(state)
        tx.states.publish(
            RoutingStateRecord(
                version=state.version,
                parent=state.parent,
                payload=payload,
                sha256=checksum(payload),
                threshold=state.threshold,
                risk_target=policy.alpha,
                effective_labels=state.effective_labels,
                cause="rollback",
                note=f"scorer of state {version}, by {actor}",
                published_at=now,
            )
        )
        tx.operations.audit(
            AuditEntry(actor=actor, action="state.rollback", detail={"to": version}, at=now)
        )
    return state.version


def _with_threshold(state: RoutingState, old: RoutingState, policy: PolicySettings) -> RoutingState:
    same_pool = {(m.name, m.status) for m in state.pool} == {(m.name, m.status) for m in old.pool}
    same_yardstick = _yardstick(old.policy) == _yardstick(policy)
    if same_pool and same_yardstick and old.policy.alpha <= policy.alpha:
        return state
    return replace(
        state,
        threshold=SAFE,
        safe_reason=old.safe_reason or Reason.SAFE_STARVED,
        effective_labels=0.0,
    )


def _yardstick(policy: PolicySettings) -> tuple[str, float, str]:
    return policy.reference, policy.margin, policy.judge
