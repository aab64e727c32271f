"""Routing states to bytes and back: safetensors with a JSON header, never pickle.

Readers accept unknown header fields (a rollback reads what a newer version wrote) and refuse
unknown formats, wrong checksums and implausible content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from online.categories import NAMES
from online.costs import check_price
from online.scorer import ScorerModel
from online.state import PoolMember, RoutingState
from store.errors import EventRejected, SettingsInvalid, StateRefused
from store.needs import Capabilities, check_capabilities
from store.policy import PolicySettings
from store.records import ExpertId, ExpertStatus, Price, Reason

FORMAT = 1
MAX_BYTES = 16 * 1024 * 1024
_UNREADABLE = (
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
    SafetensorError,
    SettingsInvalid,
    EventRejected,
)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "version": int,
    "parent": int,
    "policy_version": int,
    "encoder": str,
    "threshold": (int, float),
    "effective_labels": (int, float),
}
_ARRAYS = (
    "relative_costs",
    "centroids",
    "table",
    "evidence",
    "descriptors",
    "calibration",
    "gap",
    "comparator",
)
_REGRESSORS = "regressors"
"""States of earlier versions lack this array, and earlier versions leave it unread."""


def dump(state: RoutingState) -> bytes:
    """Return the state as bytes; equal states give equal bytes."""
    header = {
        "kind": "steersman.routing_state",
        "format": FORMAT,
        "version": state.version,
        "parent": state.parent,
        "policy": state.policy.to_json(),
        "policy_version": state.policy_version,
        "encoder": state.encoder,
        "pool": [asdict(m) for m in state.pool],
        "threshold": state.threshold,
        "safe_reason": state.safe_reason,
        "effective_labels": state.effective_labels,
        "revision": state.revision,
        "columns": list(state.model.columns) if state.model else None,
    }
    if state.model and state.model.regressors is not None:
        header["categories"] = list(NAMES)
    arrays = {n: getattr(state.model, n, None) for n in (*_ARRAYS, _REGRESSORS)}
    tensors = {n: np.ascontiguousarray(array) for n, array in arrays.items() if array is not None}
    payload = save(tensors, metadata={"header": json.dumps(header, sort_keys=True)})
    if len(payload) > MAX_BYTES:
        raise StateRefused(f"the state has {len(payload)} bytes, more than {MAX_BYTES}")
    return payload


def load_state(payload: bytes, *, sha256: str) -> RoutingState:
    """Return the state of a payload.

    Raises
    ------
    StateRefused
        Checksum, format, shape or content is wrong; the last good state must go on serving.
    """
    if len(payload) > MAX_BYTES:
        raise StateRefused(f"the state has {len(payload)} bytes, more than {MAX_BYTES}")
    if checksum(payload) != sha256:
        raise StateRefused("the checksum does not match: the stored state is damaged")
    try:
        header = _header(payload)
        tensors = load(payload)
        return _state(header, tensors)
    except _UNREADABLE as problem:
        raise StateRefused(f"the state cannot be read: {problem}") from problem


def checksum(payload: bytes) -> str:
    """Return the payload's sha256."""
    return hashlib.sha256(payload).hexdigest()


def _header(payload: bytes) -> dict[str, object]:
    length = int.from_bytes(payload[:8], "little")
    outer = _mapping(json.loads(payload[8 : 8 + length]))
    header = _mapping(json.loads(str(_mapping(outer["__metadata__"])["header"])))
    if header.get("kind") != "steersman.routing_state" or header.get("format") != FORMAT:
        raise StateRefused(f"unknown kind or format {header.get('format')}; this reads {FORMAT}")
    return header


def _state(header: dict[str, object], tensors: dict[str, Any]) -> RoutingState:
    known = {f.name for f in fields(RoutingState)}
    values: dict[str, object] = {k: v for k, v in header.items() if k in known}
    for name, kind in _KINDS.items():
        if not isinstance(header[name], kind) or isinstance(header[name], bool):
            raise TypeError(f"{name} must be {kind}, got {header[name]!r}")
    columns = header["columns"]
    model = None
    if isinstance(columns, list):
        model = ScorerModel(
            columns=tuple(ExpertId(c) for c in columns),
            **{n: tensors[n] for n in _ARRAYS},
            # Maps of other categories, or of these in another order, are none: the scores' gap is.
            regressors=tensors.get(_REGRESSORS) if header.get("categories") == [*NAMES] else None,
        )
    reason = header["safe_reason"]
    values |= {
        "policy": PolicySettings.from_json(_mapping(header["policy"])),
        "pool": tuple(_member(_mapping(m)) for m in _list(header["pool"])),
        "model": model,
        "safe_reason": Reason(str(reason)) if reason is not None else None,
    }
    return RoutingState(**values)  # type: ignore[arg-type]  # checked by __post_init__ and shape


def _member(stored: dict[str, object]) -> PoolMember:
    price = {k: float(str(v)) for k, v in _mapping(stored["price"]).items()}
    return PoolMember(
        name=ExpertId(str(stored["name"])),
        status=ExpertStatus(str(stored["status"])),
        price=check_price(Price(**price)),
        mean_output_tokens=float(str(stored["mean_output_tokens"])),
        # States from before experts declared anything have no such field.
        capabilities=check_capabilities(
            Capabilities.from_json(_mapping(stored.get("capabilities") or {}))
        ),
    )


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value
