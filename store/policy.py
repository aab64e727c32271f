"""The operator's settings: absolute, audited, in force everywhere within seconds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from store.errors import RequestConflict, SettingsInvalid
from store.records import ExpertId, JsonObject

LARGEST = 2**31 - 1
"""Whole numbers end up in integer columns: a larger one would fail at each request, not here."""
APPLY, OBSERVE, OFF = "apply", "observe", "off"
MOST_USD = 1e9
"""A larger budget is a slip of the keyboard, and its micro-dollars must fit a column."""
_SMALLEST = {"judge_budget_per_day": 0, "age_half_life_requests": 1, "cluster_prompts": 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """What the operator may set with ``steersman policy set name=value``."""

    reference: ExpertId
    """The expert whose quality is the yardstick and the safe fallback."""
    mode: str = APPLY
    """``apply`` serves what was chosen; ``observe`` chooses, judges and learns while the reference
    serves; ``off`` only serves the reference. A pin is served in every mode."""
    policy: str = "auto"
    """``auto``, ``reference`` (always the reference) or ``cheapest`` (inside C_lambda)."""
    alpha: float = 0.10
    """Risk target: the share of requests with an unacceptable answer, at most."""
    delta: float = 0.10
    """One minus the confidence of the ``pac`` and ``anytime`` modes."""
    margin: float = 0.05
    """An answer is acceptable if its score is at least the reference's minus this."""
    label_rate: float = 0.05
    """Uniform inclusion probability: the share of requests that is judged."""
    judge_budget_per_day: int = 100_000
    """Judge tasks a day over all tenants; when spent, sampling stops and an alert is raised."""
    judge_usd_per_day: float = 20.0
    """USD a UTC day for the judge's verdicts, over all tenants; when spent, tasks wait for the next
    day or a higher limit, sampling stops and an alert is raised. Below what one request may cost at
    most, such requests count as losses; 0 spends nothing and samples nothing."""
    judge_usd_per_tenant_day: float = 20.0
    """USD a day for verdicts on one tenant's requests; when spent, that tenant's wait."""
    shadow_usd_per_day: float = 20.0
    """USD a day for shadow answers, that is answers asked for only to be judged."""
    unjudged_tenants: str = ""
    """Tenants that opted out, comma-separated: never sampled, shown to no judge and no other
    expert; the promise does not cover them."""
    judge: str = "recorded"
    """Which judge labels: ``recorded`` (recorded scores) or ``llm`` (the configured model)."""
    epsilon: float = 0.02
    """Share of served exploration, inside C_lambda and the reference only."""
    ramp_quota: float = 0.01
    """Share of traffic a ramping expert serves; charged to alpha."""
    cost_weight: float = 1.0
    """Judged quality given up per mean reference cost saved, in the choice inside C_lambda."""
    tau: float = 0.7
    """Below this gap confidence the comparator is asked which of the two best to serve."""
    label_discount: float = 0.995
    """Weight of a label relative to the next one in the window behind lambda."""
    age_half_life_requests: int = 20_000
    """Requests after which unrefreshed labels count half: lambda ages when labels stop."""
    cluster_prompts: int = 400
    """Sampled prompts (folds 1-4) on which the clusters are fitted once."""
    hold: bool = False
    """Keep the scorer of the active state; only lambda is recomputed. Set by a rollback."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be in (0, 1), got {getattr(self, name)}"
            for name in ("alpha", "delta", "tau")
            if not 0.0 < getattr(self, name) < 1.0
        ]
        problems += [
            f"{name} must be in [0, {top}], got {getattr(self, name)}"
            for name, top in (("epsilon", 0.05), ("ramp_quota", 0.01), ("margin", 1.0))
            if not 0.0 <= getattr(self, name) <= top
        ]
        if not 0.0 <= self.label_rate <= 1.0:
            problems.append(f"label_rate must be in [0, 1], got {self.label_rate}")
        if not 0.99 < self.label_discount <= 1.0:
            problems.append(
                f"label_discount must be above 0.99 and at most 1, got {self.label_discount}: with"
                " less, 100 effective labels cannot come together and λ stays SAFE"
            )
        if self.alpha <= self.ramp_quota:
            problems.append(
                f"alpha ({self.alpha}) must exceed ramp_quota ({self.ramp_quota}), which is"
                " charged to it"
            )
        if not (math.isfinite(self.cost_weight) and self.cost_weight >= 0.0):
            problems.append(f"cost_weight must be finite and >= 0, got {self.cost_weight}")
        problems += [
            f"{name} must be in [{low}, {LARGEST}], got {getattr(self, name)}"
            for name, low in _SMALLEST.items()
            if not low <= getattr(self, name) <= LARGEST
        ]
        problems += [
            f"{name} must be in [0, {MOST_USD:g}], got {getattr(self, name)}"
            for name in ("judge_usd_per_day", "judge_usd_per_tenant_day", "shadow_usd_per_day")
            if not 0.0 <= getattr(self, name) <= MOST_USD
        ]
        if self.policy not in {"auto", "reference", "cheapest"}:
            problems.append(f"policy must be auto, reference or cheapest, got {self.policy!r}")
        if self.judge not in {"recorded", "llm"}:
            problems.append(f"judge must be recorded or llm, got {self.judge!r}")
        if self.mode not in {APPLY, OBSERVE, OFF}:
            problems.append(f"mode must be apply, observe or off, got {self.mode!r}")
        if not self.reference:
            problems.append("reference must name an expert")
        if problems:
            raise SettingsInvalid("; ".join(problems))

    @property
    def opted_out(self) -> frozenset[str]:
        """The tenants whose requests nobody judges."""
        names = (name.strip() for name in self.unjudged_tenants.split(","))
        return frozenset(name for name in names if name)

    def to_json(self) -> JsonObject:
        """Return a JSON-ready mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: JsonObject) -> PolicySettings:
        """Read stored settings; unknown fields are ignored (a newer version wrote them)."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in stored.items() if name in known}
        return cls(**values)

    def changed(self, changes: dict[str, str]) -> PolicySettings:
        """Return a copy with textual changes applied.

        Raises
        ------
        SettingsInvalid
            An unknown name or an unreadable or forbidden value; lists the valid names.
        """
        kinds = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        if unknown := sorted(set(changes) - set(kinds)):
            raise SettingsInvalid(f"unknown: {', '.join(unknown)}; valid: {', '.join(kinds)}")
        values: dict[str, Any] = {}
        for name, text in changes.items():
            values[name] = _parsed(name, text, kinds[name])
        return replace(self, **values)


def check_not_changed(version: int, after: int | None) -> None:
    """Raise ``RequestConflict`` if the settings are no longer those a change was made from."""
    if after is not None and version != after:
        raise RequestConflict(
            "policy_changed", f"the settings have just changed to version {version}; look again"
        )


def _parsed(name: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise SettingsInvalid(f"{name} must be true or false, got {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as problem:
        raise SettingsInvalid(f"{name} must be a {kind.__name__}, got {text!r}") from problem
