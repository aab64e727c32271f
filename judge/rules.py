"""Which check a prompt gets that came without one: an operator's rules, the first that fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from judge import patterns
from judge.checks import Check, read_check
from store.errors import EventRejected, SettingsInvalid
from store.records import JsonObject

PATTERN_S = 0.2
"""Seconds that a pattern may look at a prompt; a rule that needs more does not fit it."""
_MEMBERS = {"tenant", "prompt_pattern", "check"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A check for every prompt of a tenant, or that a pattern is found in, or both."""

    tenant: str | None
    prompt_pattern: str | None
    check: Check

    def fits(self, tenant: str, prompt: str) -> bool:
        """Return whether the rule is for this prompt."""
        if self.tenant not in (None, tenant):
            return False
        if self.prompt_pattern is None:
            return True
        return patterns.is_in(self.prompt_pattern, prompt, seconds=PATTERN_S) is True


def check_for(rules: Sequence[Rule], *, tenant: str, prompt: str) -> Check | None:
    """Return the check of the first rule that fits, None if none does."""
    return next((rule.check for rule in rules if rule.fits(tenant, prompt)), None)


def read_rules(raw: bytes) -> tuple[Rule, ...]:
    """Return the rules in a JSON file: ``{"rules": [{"tenant", "prompt_pattern", "check"}, ...]}``.

    Raises
    ------
    SettingsInvalid
        The message lists every problem, by the number of its rule, and quotes no check.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise SettingsInvalid("the file of rules is no JSON") from None
    stated = body.get("rules") if isinstance(body, dict) else None
    if not isinstance(stated, list):
        raise SettingsInvalid('the file of rules must be {"rules": [...]}')
    rules, problems = [], []
    for number, one in enumerate(stated, start=1):
        try:
            rules.append(_rule(one))
        except (EventRejected, ValueError) as problem:
            problems.append(f"rule {number}: {problem}")
    if problems:
        raise SettingsInvalid("; ".join(problems))
    return tuple(rules)


def _rule(stated: object) -> Rule:
    if not isinstance(stated, dict):
        raise ValueError("must be an object")  # noqa: TRY004  caught above, as a refusal
    if unknown := set(stated) - _MEMBERS:
        names = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(f"has {names}, but only {', '.join(sorted(_MEMBERS))} mean something")
    pattern = _text(stated, "prompt_pattern")
    if pattern is not None and (problem := patterns.problem_of(pattern)) is not None:
        raise ValueError(f"prompt_pattern {problem}")
    return Rule(
        tenant=_text(stated, "tenant"),
        prompt_pattern=pattern,
        check=read_check(stated.get("check")),
    )


def _text(stated: JsonObject, name: str) -> str | None:
    value = stated.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be text")
    return value
