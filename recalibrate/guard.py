"""What must hold before a routing state goes live (promise.md section 8, item 1).

An ordinary cycle changes labels, λ, prices or certification. λ is recomputed here under the rule in
force and never taken from the candidate; that carries the risk.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from online.snapshot import checksum, dump, load_state
from online.state import RoutingState
from recalibrate.controller import Threshold
from recalibrate.rolling import FLOOR, RollingCrc, charged
from recalibrate.window import RescoredLabels, calibration_window
from store.errors import StateRefused
from store.policy import PolicySettings
from store.records import ExpertId, Reason


def recompute(
    policy: PolicySettings,
    labels: RescoredLabels | None,
    certified: Collection[ExpertId],
    *,
    last_seq: int,
    from_seq: int,
    is_ramping: bool,
    floor: float = FLOOR,
) -> Threshold:
    """Return λ for a pool of certified experts by the controller in force.

    It is the safest of the λ of all of them and the λ of those that were never out of service.
    """
    if labels is None:
        return Threshold.safe(Reason.SAFE_COLD, "no scorer yet")
    if not certified:
        return Threshold.safe(Reason.SAFE_COLD, "no certified expert yet")
    alpha = charged(policy.alpha, policy.ramp_quota if is_ramping else 0.0)
    controller = RollingCrc(
        alpha=alpha,
        label_discount=policy.label_discount,
        age_half_life_requests=policy.age_half_life_requests,
        floor=floor,
    )
    found = [
        controller.threshold(
            calibration_window(labels, pool, last_seq=last_seq, from_seq=from_seq, policy=policy)
        )
        for pool in _pools(labels, certified, from_seq=from_seq)
    ]
    return max(found, key=lambda threshold: threshold.value)


def _pools(
    labels: RescoredLabels, certified: Collection[ExpertId], *, from_seq: int
) -> list[set[ExpertId]]:
    """Return the pools that λ must be safe for: all certified, and those who were never out.

    The window of all leaves out what was judged while one of them was out, which may be the newest
    evidence about the others: its return must not make λ forget it.
    """
    recent = np.array([row.request.seq >= from_seq for row in labels.rows], dtype=bool)
    out = dict(zip(labels.columns, labels.absent[recent].any(axis=0), strict=True))
    staying = {name for name in certified if not out.get(name, False)}
    return [set(certified), staying] if 0 < len(staying) < len(certified) else [set(certified)]


def approved(candidate: RoutingState, threshold: Threshold) -> tuple[RoutingState, bytes]:
    """Return the candidate with the recomputed λ, and its bytes.

    Raises
    ------
    StateRefused
        The state does not survive being stored and loaded, or scores implausibly.
    """
    state = replace(
        candidate,
        threshold=threshold.value,
        safe_reason=threshold.safe_reason,
        effective_labels=threshold.effective_labels,
    )
    payload = dump(state)
    if load_state(payload, sha256=checksum(payload)).binding != state.binding:
        raise StateRefused("the state changes when it is stored and loaded")
    if state.model is not None:
        table = state.model.table
        if float(np.min(table)) < -1e-9 or float(np.max(table)) > 1.0 + 1e-9:
            raise StateRefused("the tables leave [0, 1]")
    return state, payload
