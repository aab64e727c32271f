"""Accuracy profiles as descriptors: how an expert whose answers are judged is described."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from online.scorer import MIN_EVIDENCE
from online.state import RoutingState
from store.describing import Descriptor, DescriptorKind
from store.records import Expert

_ENTRY = 0
"""The scorer's entry that learnt from every fold but 0, which trains nothing anyway."""


def profiles(
    state: RoutingState, before: Sequence[Expert], after: Sequence[Expert], *, now: datetime
) -> Iterator[Descriptor]:
    """Yield the profile of each expert that takes a step in this state and has evidence.

    The vector is the row by which the state retrieves the expert: judged quality by cluster around
    its own mean, unit length. Kept at each step, so that it says how the expert was described when.
    """
    model = state.model
    if model is None:
        return
    for old, new in zip(before, after, strict=True):
        if old.status is new.status or new.name not in model.columns:
            continue
        column = model.columns.index(new.name)
        vector = model.descriptors[_ENTRY, column].astype(np.float32)
        evidence = float(model.evidence[_ENTRY, column])
        # An expert that is alike in all clusters has no direction: zeros, or what rounding left.
        if evidence >= MIN_EVIDENCE and np.linalg.norm(vector) > 0.5:
            yield Descriptor(
                expert=new.name,
                kind=DescriptorKind.PROFILE,
                recipe=_recipe(state),
                vector=vector,
                made_at=now,
                details={"effective_labels": round(evidence, 1), "status": str(new.status)},
            )


def _recipe(state: RoutingState) -> str:
    """Return the name of what is measured: profiles compare only over the same clusters."""
    digest = hashlib.sha256(state.encoder.encode())
    if state.model is not None:
        digest.update(np.ascontiguousarray(state.model.centroids[_ENTRY]).tobytes())
    return "profile-" + digest.hexdigest()[:16]
