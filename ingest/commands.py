"""What the command line does to a running router: straight on the ledger, audited."""

from __future__ import annotations

import getpass
import threading
from dataclasses import dataclass

from ingest.expert_changes import declare, set_status
from ingest.fields import Fields
from online.clients import check_client
from online.costs import check_price
from online.snapshot import load_state
from store.clock import Clock
from store.errors import NotFound, SettingsInvalid
from store.ledger import Ledger, Transaction
from store.needs import UNDECLARED, Capabilities, check_capabilities
from store.policy import PolicySettings
from store.records import AuditEntry, Expert, ExpertId, ExpertStatus, Price

WAIT_S = 30.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """When a change reached every replica that was serving."""

    state_version: int
    replicas: tuple[str, ...]
    seconds: float


class Operator:
    """Changes policy and pool in the name of whoever runs the command."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._actor = actor_name()

    def set_policy(self, changes: dict[str, str]) -> tuple[int, PolicySettings]:
        """Store new settings; the first time, ``reference`` must be among them.

        Raises
        ------
        SettingsInvalid
            An unknown name or a forbidden value; nothing was stored.
        RequestConflict
            Somebody else has just changed them; nothing was stored.
        """
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            if current is None and "reference" not in changes:
                raise SettingsInvalid("no policy is set yet: set reference=EXPERT first")
            base = current[1] if current else _first(changes["reference"])
            settings = base.changed(changes)
            if current is not None:
                _check_reference(tx, settings.reference)
            version = tx.policies.set(
                settings,
                actor=self._actor,
                now=self._clock.now(),
                after=current[0] if current else 0,
            )
        return version, settings

    def missing_reference(self) -> ExpertId | None:
        """Return the reference in force if it is not registered yet: no state is made without."""
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            name = current[1].reference if current else None
            return name if name is not None and tx.experts.find(name) is None else None

    def wait_until_in_force(self, policy_version: int) -> InForce | None:
        """Return once every replica that was serving serves the new policy; None if that does not
        happen within ``WAIT_S`` (is ``learn`` running?).
        """
        never, started = threading.Event(), self._clock.monotonic()
        with self._ledger.begin() as tx:
            serving = _serving(tx)
        while self._clock.monotonic() - started < WAIT_S:
            with self._ledger.begin() as tx:
                active = tx.states.active()
                acked = set(tx.states.acknowledged(active.version)) if active else set()
            if active is not None and acked and serving <= acked:
                state = load_state(active.payload, sha256=active.sha256)
                if state.policy_version >= policy_version:
                    return InForce(
                        state_version=active.version,
                        replicas=tuple(sorted(acked)),
                        seconds=self._clock.monotonic() - started,
                    )
            self._clock.wait(never, POLL_S)
        return None

    def add_expert(
        self,
        name: str,
        price: Price,
        client: dict[str, str],
        capabilities: Capabilities = UNDECLARED,
    ) -> Expert:
        """Register an expert; learning takes it from there."""
        expert = self.new_expert(name, price, client, capabilities)
        with self._ledger.begin() as tx:
            tx.experts.add(expert)
            self._audit(tx, "expert.added", {"name": name})
        return expert

    def new_expert(
        self,
        name: str,
        price: Price,
        client: dict[str, str],
        capabilities: Capabilities = UNDECLARED,
    ) -> Expert:
        """Return an expert that could be registered, or raise ``EventRejected``."""
        Fields({"name": name}).identifier("name")
        now = self._clock.now()
        return Expert(
            name=ExpertId(name),
            status=ExpertStatus.REGISTERED,
            price=check_price(price),
            client=check_client(client),
            added_at=now,
            status_changed_at=now,
            capabilities=check_capabilities(capabilities),
        )

    def set_status(self, name: str, after: ExpertStatus) -> None:
        """Pause, bring back to shadow, or retire an expert."""
        with self._ledger.begin() as tx:
            expert = _known(tx, name)
            set_status(tx, expert, after, now=self._clock.now())
            self._audit(tx, "expert.status", {"name": name, "status": after})

    def set_price(self, name: str, price: Price) -> None:
        """Change a price; in force with the next state, exactly."""
        with self._ledger.begin() as tx:
            expert = _known(tx, name)
            tx.experts.set_price(expert.name, check_price(price))
            self._audit(tx, "expert.price", {"name": name})

    def set_client(self, name: str, client: dict[str, str]) -> None:
        """Change how an expert is called, from its next call on."""
        with self._ledger.begin() as tx:
            expert = _known(tx, name)
            tx.experts.set_client(expert.name, check_client(client))
            self._audit(tx, "expert.client", {"name": name})

    def declare(self, name: str, capabilities: Capabilities) -> None:
        """Change what an expert can do; in force with the next state."""
        with self._ledger.begin() as tx:
            expert = _known(tx, name)
            declare(tx, expert, capabilities)
            self._audit(tx, "expert.declared", {"name": name} | capabilities.to_json())

    def _audit(self, tx: Transaction, action: str, detail: dict[str, object]) -> None:
        tx.operations.audit(
            AuditEntry(actor=self._actor, action=action, detail=detail, at=self._clock.now())
        )


def actor_name() -> str:
    """Return who the audit trail says it was."""
    return f"cli:{getpass.getuser()}"


def _first(reference: str) -> PolicySettings:
    return PolicySettings(reference=ExpertId(reference))


def _check_reference(tx: Transaction, name: ExpertId) -> None:
    expert = tx.experts.find(name)
    if expert is None or expert.status in {ExpertStatus.PAUSED, ExpertStatus.RETIRED}:
        raise SettingsInvalid(
            f"reference must name an expert that is neither paused nor retired, got {name!r};"
            " `steersman experts list` shows them"
        )


def _known(tx: Transaction, name: str) -> Expert:
    expert = tx.experts.find(ExpertId(name))
    if expert is None:
        raise NotFound("unknown_expert", f"no expert is called {name!r}", field="name")
    return expert


def _serving(tx: Transaction) -> set[str]:
    version = tx.states.active_version()
    return set(tx.states.acknowledged(version)) if version else set()
