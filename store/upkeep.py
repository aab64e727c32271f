"""The port to what grows with time: days made ahead, days that go, one user's text erased.

Everything here is part of a transaction (``tx.upkeep``), so that what goes and the audit entry that
says so are one fact. Which days may go is decided in ``store/retention.py``, from ``survey``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from store.records import JsonObject, RequestId, day_of

DAYS_AHEAD = 7
DROPPED = "facts.dropped"
ERASED = "text.erased"
REWOUND = "stream.rewound"
QUARANTINED = "judge.quarantined"
LIFTED = "judge.quarantine_lifted"
RETRIED = "judge.tasks_retried"
UNLEARNT = (DROPPED, ERASED, REWOUND, QUARANTINED, LIFTED)
"""Audit actions after which the ledger holds other judged requests than before, not only more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDay:
    """What the ledger holds of the requests decided on one day."""

    day: date
    facts_bytes: int
    text_bytes: int
    """Of the tables that hold text, facts beside it included; part of ``facts_bytes``."""
    has_text: bool
    has_keys: bool
    """Whether ids of requests that were not sampled are still known."""
    judged: int
    """Requests with a label."""
    open_tasks: int
    """Judge tasks that are neither done nor dead."""
    unpublished: int
    """Messages about these requests that have not left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedKeys:
    """One batch of ``drop_keys``."""

    count: int
    last: RequestId | None
    """Where the next batch goes on; None when there is nothing left to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """How many rows lost their text (or, embeddings, went altogether)."""

    prompts: int = 0
    responses: int = 0
    shadow_answers: int = 0
    parked_responses: int = 0
    comments: int = 0
    embeddings: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(
            prompts=self.prompts + other.prompts,
            responses=self.responses + other.responses,
            shadow_answers=self.shadow_answers + other.shadow_answers,
            parked_responses=self.parked_responses + other.parked_responses,
            comments=self.comments + other.comments,
            embeddings=self.embeddings + other.embeddings,
        )


def coming_days(now: datetime, *, ahead: int = DAYS_AHEAD) -> list[date]:
    """Return yesterday (a late batch), today and the days to come."""
    return [day_of(now) + timedelta(days=n) for n in range(-1, ahead + 1)]


def erasure(day: date, tenant: str, session_id: str | None, erased: Erased) -> JsonObject:
    """Return what the audit trail keeps of an erasure: proof of it, but no session's name."""
    session = None if session_id is None else hashlib.sha256(session_id.encode()).hexdigest()
    return {"day": str(day), "tenant": tenant, "session_sha256": session} | asdict(erased)


def revision_of(count: int, newest: datetime | None) -> int:
    """Return ``Upkeep.revision`` from the entries of ``UNLEARNT``. Not their count alone: a
    restored ledger that has lost one entry and got another would be at the number it had.
    """
    return count + int(1e6 * newest.timestamp()) if newest is not None else 0


class Upkeep(Protocol):
    """Days made, surveyed and dropped; texts erased."""

    def prepare_days(self, days: Collection[date]) -> list[date]:
        """Make room for the facts of those days; return the days made, none on a second call."""
        ...

    def days(self) -> list[date]:
        """Return the days that have room for every kind of fact, in order."""
        ...

    def survey(self) -> list[KeptDay]:
        """Return what is held of each day that has room, oldest first."""
        ...

    def drop_facts(self, day: date, *, actor: str, now: datetime) -> bool:
        """Drop every fact of the requests decided that day, with an audit entry; True when done.

        Afterwards their ids are unknown: as if nobody had ever asked. False, and nothing changes,
        while a judge task or an unpublished message needs the day, or when it is gone already.
        Raises ``StoreUnavailable`` while others use the day; try again.
        """
        ...

    def drop_text(self, day: date, *, actor: str, now: datetime) -> bool:
        """Drop the texts of that day's prompts, answers and comments, with an audit entry.

        Decisions, hashes, costs, labels and embeddings stay. False, and nothing changes, while a
        judge task needs the texts, or when they are gone already. Raises like ``drop_facts``.
        """
        ...

    def drop_keys(self, day: date, *, after: RequestId | None, limit: int) -> DroppedKeys:
        """Forget the ids of up to ``limit`` requests of that day that were not sampled, by id.

        A prompt that comes again under such an id is decided anew. Ids of sampled requests stay
        with their labels. ``after`` is None at first, then ``last`` of the call before.
        """
        ...

    def drop_states(self, versions: Collection[int], *, actor: str, now: datetime) -> int:
        """Drop routing states and their acknowledgements, with an audit entry; return how many.

        The active one stays, whatever is asked.
        """
        ...

    def drop_aged(self, *, before: datetime, limit: int) -> int:
        """Drop up to ``limit`` each of published messages, feedback and calibrations from before
        that instant; return how many. Messages that have not left stay.
        """
        ...

    def erase(
        self, day: date, *, tenant: str, session_id: str | None, actor: str, now: datetime
    ) -> Erased:
        """Erase the texts and embeddings of one user's requests of that day, with an audit entry.

        Decisions, hashes, costs and labels stay; a redelivery is still recognised. The whole tenant
        without a session. A second call finds nothing. Sampled requests without an embedding are no
        longer among those that ``decisions.sampled`` returns: they teach nothing any more.
        """
        ...

    def revision(self) -> int:
        """Return a number that changes when judged requests have gone (dropped, erased, with a
        judge's quarantine, or with a ledger that was restored and rewound); 0 while none have. A
        learner that sees it change starts over from what is left, as one that has just been
        started would.
        """
        ...
