"""Advisory lock keys, all in one place because they share one number space."""

from __future__ import annotations

import hashlib

PARTITIONS = 1
POLICY = 2
MIGRATE = 3
QUARANTINE = 4
"""Shared by those who record what judges said, held alone by who imposes a quarantine."""
RECORDING = 1 << 60
"""Plus the sequence's value when a recorder began: see ``PostgresDecisions.watermark``."""


def role_key(role: str) -> int:
    """Return the key of a leader's role, between the small keys and ``RECORDING``."""
    digest = hashlib.sha256(role.encode()).digest()
    return (1 << 48) + int.from_bytes(digest[:5], "big")
