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
    """Return λ for a pool of certified experts by the controller in force."""
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
    window = calibration_window(
        labels,
        certified,
        last_seq=last_seq,
        from_seq=from_seq,
        policy=policy,
    )
    return controller.threshold(window)


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
