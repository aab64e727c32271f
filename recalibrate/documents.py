"""Reports for machines: JSON with a kind and a format; readers refuse a format they do not know."""

from __future__ import annotations

import json
from datetime import datetime


def as_json(kind: str, version: int, **parts: object) -> str:
    """Return a document; instants as ISO 8601, never NaN or an infinite number."""
    made = {"kind": kind, "format": version, **parts}
    return json.dumps(made, default=_plain, allow_nan=False, ensure_ascii=False, indent=2)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a report")
