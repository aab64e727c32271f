"""Near-duplicate groups and the fold that each belongs to, for ever (promise.md section 1)."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from datasketch import MinHash

from store.records import FOLDS

_SALT = "steersman-fold-1"
_BAND_ROWS = 4
"""Rows of the one MinHash band that keys a group. Two texts of Jaccard similarity s share the
key with probability s**4: 0.81 at 0.95, 0.41 at 0.8. Offline splits use full clusters."""
_MAX_SHINGLES = 2_000
_SPACE = re.compile(r"\s+")


def group_of(text: str, session_id: str | None, *, tenant: str) -> str:
    """Return the unit that must never straddle folds: the session, else the MinHash band key."""
    if session_id is not None:
        return "session:" + hashlib.sha256(f"{tenant}\x1f{session_id}".encode()).hexdigest()[:24]
    return "text:" + _band_key(text)


def fold_of(group: str) -> int:
    """Return the fold in 0..4 of a group: ``sha256(salt | group) mod 5``."""
    digest = hashlib.sha256(f"{_SALT}|{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % FOLDS


def normalised(text: str) -> str:
    """Return the text in the form whose near-duplicates are sought: NFKC, folded, single spaces."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def sketch(text: str, *, size: int) -> MinHash:
    """Return the MinHash of ``size`` values over a text's shingles of three words."""
    words = normalised(text).split(" ")[:_MAX_SHINGLES]
    shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    made = MinHash(num_perm=size, seed=1)
    made.update_batch([s.encode() for s in sorted(shingles)])
    return made


def _band_key(text: str) -> str:
    return bytes(sketch(text, size=_BAND_ROWS).digest().tobytes()).hex()[:32]
