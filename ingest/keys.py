"""API keys: shown once, stored as a hash, checked in constant time.

| scope | allows |
|---|---|
| ``admin`` | everything, and alone changing experts, policy and routing state |
| ``route`` | asking for decisions and giving feedback |
| ``read`` | looking at decisions, experts, policy, state and alerts |
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection
from enum import StrEnum

from ingest.settings import HttpSettings
from store.clock import Clock
from store.errors import NotAllowed, SettingsInvalid, StoreUnavailable
from store.ledger import Ledger
from store.records import ApiKey, AuditEntry

PREFIX = "sk-steersman-"
KEY_CREATED = "key.created"
FRESH_S = 30.0
"""Seconds a found key is trusted without asking the ledger again."""
REMEMBERED = 1_000
_SEND_ONE = (
    "send 'Authorization: Bearer <API key>', made with 'steersman keys create'; only what changes"
    " no configuration and is asked of localhost directly, without a proxy, needs none"
)
_WHOLE_TRAIL = 1_000_000


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    ROUTE = "route"
    ADMIN = "admin"


def create(ledger: Ledger, name: str, scopes: Collection[str], clock: Clock) -> str:
    """Store a new key and return it; only its hash is kept, so it cannot be shown again.

    Raises
    ------
    SettingsInvalid
        The name is empty or a scope is unknown.
    """
    valid = [scope.value for scope in Scope]
    unknown = sorted(set(scopes) - set(valid))
    if not name.strip() or not scopes or unknown:
        raise SettingsInvalid(f"a key needs a name and one or more scopes of {', '.join(valid)}")
    key = PREFIX + secrets.token_urlsafe(32)
    granted = tuple(scope for scope in valid if scope in scopes)
    now = clock.now()
    with ledger.begin() as tx:
        tx.operations.add_key(
            ApiKey(key_hash=_hash(key), name=name, scopes=granted, created_at=now)
        )
        detail = {"name": name, "scopes": list(granted)}
        tx.operations.audit(AuditEntry(actor="cli", action=KEY_CREATED, detail=detail, at=now))
    return key


def refuse_unprotected(ledger: Ledger, settings: HttpSettings) -> None:
    """Raise ``SettingsInvalid`` when others could connect but no key was ever created."""
    if settings.is_loopback:
        return
    with ledger.begin() as tx:
        trail = tx.operations.audit_trail(limit=_WHOLE_TRAIL)
    if not any(entry.action == KEY_CREATED for entry in trail):
        raise SettingsInvalid(
            f"STEERSMAN_HTTP_HOST={settings.host} is reachable by others, but there is no API key; "
            "create one with 'steersman keys create NAME --scope admin' or listen on 127.0.0.1"
        )


class KeyRing:
    """Checks keys against the ledger; a known key keeps working while the ledger is away."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()

    def require(self, header: str | None, scope: Scope) -> ApiKey:
        """Return the key of an ``Authorization: Bearer`` header.

        Raises
        ------
        NotAllowed
            Status 401 without a key or with an unknown one, 403 without the scope.
        StoreUnavailable
            The ledger is away and this key was not seen before.
        """
        key_hash = _hash(_bearer(header))
        key = self._find(key_hash)
        # The ledger compares by equality; this comparison takes the same time for any key.
        if key is None or not hmac.compare_digest(key.key_hash, key_hash):
            raise _unauthenticated("unknown_key", "the API key is not known")
        if scope not in key.scopes and Scope.ADMIN not in key.scopes:
            raise NotAllowed("missing_scope", f"the API key lacks the scope '{scope}'")
        return key

    def _find(self, key_hash: str) -> ApiKey | None:
        with self._lock:
            known = self._known.get(key_hash)
        if known and self._clock.monotonic() - known[1] < FRESH_S:
            return known[0]
        try:
            with self._ledger.begin() as tx:
                found = tx.operations.find_key(key_hash)
        except StoreUnavailable:
            if known:
                return known[0]
            raise
        with self._lock:
            self._known.pop(key_hash, None)
            if found is not None:
                self._known[key_hash] = (found, self._clock.monotonic())
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


def _bearer(header: str | None) -> str:
    kind, _, key = (header or "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise _unauthenticated("missing_key", _SEND_ONE)
    return key.strip()


def _unauthenticated(code: str, message: str) -> NotAllowed:
    refusal = NotAllowed(code, message)
    refusal.status = 401
    return refusal


def _hash(key: str) -> str:
    # A plain hash suffices: 32 random bytes cannot be guessed, so nothing slows a guesser down.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
