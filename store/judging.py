"""The port to what is known of judges: canaries, quarantines, audits by people, kept verdicts.

Part of ``store.ledger.Transaction`` (``tx.judging``); what is said there holds here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from store.records import ExpertId, RequestId

VERIFIED = "verifier-"
"""How the judge versions of verifiers begin: they are right or wrong, and no person is asked."""
PANEL = "panel-"
"""How the versions of panels begin; each member's mark follows, so that none is forgotten."""
MARK_CHARACTERS = 12

LOOK_BACK = 10_000
"""Labels among which the newest judge version is sought: the look must not grow with the ledger."""


def panel_version(members: Sequence[str]) -> str:
    """Return the version of judges that judge together: theirs by hash, in their order."""
    return PANEL + "-".join(_mark(member) for member in members)


def stands_on(label_version: str, judge_version: str) -> bool:
    """Return whether labels of a version are that judge's, or of a panel with it."""
    if label_version == judge_version:
        return True
    is_panel = label_version.startswith(PANEL)
    return is_panel and _mark(judge_version) in label_version.removeprefix(PANEL).split("-")


def _mark(judge_version: str) -> str:
    return hashlib.sha256(judge_version.encode()).hexdigest()[:MARK_CHARACTERS]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVerdict:
    """A verdict under the hash of everything that shaped it, so that it is paid for once."""

    key: bytes
    """SHA-256 of judge version, prompt and both texts in the order shown."""
    judge_version: str
    preference: float
    """1 the first answer is better, 0.5 tie, 0 the second is better."""
    grade_a: float | None
    grade_b: float | None
    kept_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """What a judge made of a comparison whose right verdict is known."""

    judge_version: str
    ran_at: datetime
    """One instant for all canaries of a run."""
    name: str
    is_right: bool | None
    """None: the reply was no verdict."""
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A judge version whose labels, and those of panels with it, may not move λ."""

    judge_version: str
    since: datetime
    """Its labels given at or after this instant are left out."""
    reason: str
    imposed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedPair:
    """A person's view of an answer against the reference's, given blind, beside the judge's."""

    request_id: RequestId
    expert: ExpertId
    auditor: str
    reference: ExpertId
    preference: float
    """1 the expert's answer is better, 0.5 as good, 0 the reference's is better."""
    judge_version: str
    judge_outcome: int
    """The outcome of the label that was audited."""
    inclusion_probability: float
    """With which the label was drawn for the audit, times that of its request."""
    category: str
    audited_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCandidate:
    """A judged pair of sampled traffic that a person can still look at."""

    request_id: RequestId
    expert: ExpertId
    reference: ExpertId
    judge_version: str
    outcome: int
    inclusion_probability: float
    """Of its request among the traffic."""
    category: str
    longer_by: int
    """Bytes of UTF-8 by which the expert's answer is longer than the reference's."""
    judged_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """How often a judge said the same of a pair in both orders."""

    pairs: int
    """Compared in both orders."""
    inconsistent: int
    """Of these, where the two orders disagreed; what a third call said does not matter."""
    first_at: datetime | None
    """When the oldest of them was judged; None without any."""

    @property
    def share(self) -> float:
        """Return the inconsistent share, 0 without pairs."""
        return self.inconsistent / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAgreement:
    """How often a source of feedback said what judges found of the same answers."""

    source: str
    ratings: int
    judged: int
    """Of these, those above or below 0.5 on an answer of another expert than the reference that
    has a counted label."""
    agreeing: int
    """Of the judged, above 0.5 where the outcome is 1, below where it is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLabels:
    """A judge version's labels."""

    judge_version: str
    labels: int
    left_out: int
    """Of these, out of λ: given while the version was in quarantine."""
    first_at: datetime
    last_at: datetime


class Judging(Protocol):
    """What judges said of what is known, and who may not be believed."""

    def kept(self, keys: Collection[bytes]) -> dict[bytes, KeptVerdict]:
        """Return the kept verdicts among those keys."""
        ...

    def keep(self, verdicts: Sequence[KeptVerdict]) -> None:
        """Keep verdicts; the first of a key stays."""
        ...

    def forget(self, *, before: datetime, limit: int) -> int:
        """Drop up to ``limit`` verdicts kept before that instant; return how many."""
        ...

    def record_canaries(self, results: Sequence[CanaryResult]) -> None:
        """Store the results of a run; a repeat (version, instant, name) changes nothing."""
        ...

    def canaries(self, judge_version: str, *, since: datetime) -> list[CanaryResult]:
        """Return a version's results since, by instant, then name."""
        ...

    def canary_runs(self) -> dict[str, datetime]:
        """Return when each version's canaries ran last, of all versions that ever had any."""
        ...

    def last_canaries_at(self, judge_version: str) -> datetime | None:
        """Return when a version's canaries ran last."""
        ...

    def consistency(self, judge_version: str, *, since: datetime, limit: int) -> Consistency:
        """Return how consistent one judge was on the newest ``limit`` pairs that it compared in
        both orders since; those of requests decided on a day more than one before may be missing.
        """
        ...

    def labelled(self, *, since: datetime) -> list[VersionLabels]:
        """Return the labels given since, by judge version; those of requests decided on a day more
        than one before may be missing.
        """
        ...

    def quarantine(self, quarantine: Quarantine, *, actor: str) -> int:
        """Leave out the labels that stand on a version, its own and those of every panel with it,
        from ``since`` on or from the earlier instant that held already, with an audit entry; return
        how many of them are left out now. Those that are still to come are left out as well.

        ``labels.settled_since`` no longer returns them, ``upkeep.revision`` changes, and the tasks
        that brought them are pending again, for another judge version to do, unless a label that
        counts is there already; the watermark waits for those of traffic as if they had never been
        done. What the version said since is no longer kept: mended, it is to be asked anew.
        """
        ...

    def lift(self, judge_version: str, *, actor: str, now: datetime) -> bool:
        """Let the labels count again that only this version's quarantine held, with an audit entry;
        False if it is in none. Tasks that are pending although their labels now count are done.
        """
        ...

    def lifted_at(self, judge_version: str) -> datetime | None:
        """Return when a version's quarantine was lifted last, None if none ever was."""
        ...

    def quarantines(self) -> list[Quarantine]:
        """Return the quarantines in force, by version."""
        ...

    def quarantines_until_end(self) -> list[Quarantine]:
        """Return the quarantines in force, of which there will be no more until this transaction
        ends: one that is being imposed is waited for, and a later one sees what was recorded here.
        """
        ...

    def feedback_agreement(self) -> list[SourceAgreement]:
        """Return how far each source of feedback agrees with the labels of the answers served, by
        source; of several labels of one answer that counts which learning takes.
        """
        ...

    def audit_pair(self, pair: AuditedPair) -> bool:
        """Store what a person said, once per request, expert and auditor; False on a repeat."""
        ...

    def audited(self) -> list[AuditedPair]:
        """Return every audited pair, by instant, request, expert and auditor."""
        ...

    def newest_version(self) -> str | None:
        """Return which judge gave the traffic label that came last, verifiers and versions in
        quarantine left out; None if none of the last ``LOOK_BACK`` labels is such a one.
        """
        ...

    def auditable(self, judge_version: str, *, limit: int) -> list[AuditCandidate]:
        """Return, newest first, the pairs among a version's last ``limit`` labels on traffic whose
        prompt and two answers are still there with their text; labels in quarantine are left out.
        """
        ...
