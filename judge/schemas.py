"""JSON Schema (draft 2020-12): a stranger's schema on a stranger's JSON, bounded, never fetched.

Work is bounded by counting keywords, so that a grade does not depend on the machine's speed;
patterns share a time limit, ``uniqueItems`` goes its own way (jsonschema compares each with each),
and references lead nowhere outside the schema. ``format`` asserts nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from judge import patterns
from store.records import JsonObject

STEPS = 20_000
"""Keywords looked at on one answer."""
PARTS = 1_000
"""Objects and arrays in a schema: checking a larger one takes longer than a decision may."""
PATTERNS_S = 1.0
"""Seconds for all patterns on one answer."""
UNBOUNDED = frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"})
"""Keywords that jsonschema evaluates in ways that cannot be counted from outside."""

Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


class TooMuch(Exception):
    """The schema asks for more work than an answer is worth."""


def problem_of(schema: JsonObject | bool) -> str | None:
    """Return why a schema cannot be used here, None if it can."""
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  .1 s, rarely needed

    try:
        if sum(1 for _ in _parts(schema)) > PARTS:
            return f"has more than {PARTS} parts"
        if any(patterns.problem_of(pattern) for pattern in _patterns(schema)):
            return "holds a pattern that cannot be used"
        Draft202012Validator.check_schema(schema)
        if unbounded := UNBOUNDED & set(_names(schema)):
            return f"uses {', '.join(sorted(unbounded))}, which cannot be bounded in time"
    except SchemaError:
        return "is no JSON Schema of draft 2020-12"
    except RecursionError:
        return "is nested too deep"
    return None


def satisfies(value: object, schema: JsonObject | bool) -> bool | None:
    """Return whether a JSON value satisfies a schema; None if that takes too much, or if the schema
    refers to something that is not in it.
    """
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415  as above
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    budget = _Budget()
    keywords: dict[str, Keyword] = dict(Draft202012Validator.VALIDATORS)
    keywords |= {"pattern": budget.pattern, "uniqueItems": _unique_items}
    counted = {name: budget.counted(keyword) for name, keyword in keywords.items()}
    validator = validators.extend(Draft202012Validator, counted)
    try:
        return bool(validator(schema, registry=Registry()).is_valid(value))
    except (TooMuch, RecursionError, Unresolvable):
        return None


class _Budget:
    def __init__(self) -> None:
        self._steps = STEPS
        self._seconds = PATTERNS_S

    def counted(self, keyword: Keyword) -> Keyword:
        def looked_at(validator: Any, stated: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._steps -= 1
            if self._steps < 0:
                raise TooMuch
            yield from keyword(validator, stated, instance, schema) or ()

        return looked_at

    def pattern(self, _: Any, stated: Any, instance: Any, __: Any) -> Iterator[Any]:
        if not isinstance(instance, str):
            return
        began = time.monotonic()
        found = patterns.is_in(stated, instance, seconds=self._seconds)
        self._seconds -= time.monotonic() - began
        if found is None:
            raise TooMuch
        if not found:
            yield _error("does not match its pattern")


def _unique_items(_: Any, stated: Any, instance: Any, __: Any) -> Iterator[Any]:
    if stated and isinstance(instance, list):
        seen = {json.dumps(_comparable(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield _error("has an item twice")


def _comparable(value: object) -> object:
    """Return a value whose JSON is the same where JSON Schema has 1 and 1.0 equal."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    if isinstance(value, dict):
        return {name: _comparable(one) for name, one in value.items()}
    return value


def _error(message: str) -> Exception:
    from jsonschema import ValidationError  # noqa: PLC0415

    error: Exception = ValidationError(message)
    return error


def _parts(schema: object) -> Iterator[object]:
    """Yield every object and array of a schema, itself first."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            yield part
            waiting.extend(part.values() if isinstance(part, dict) else part)


def _names(schema: object) -> Iterator[str]:
    return (name for part in _parts(schema) if isinstance(part, dict) for name in part)


def _patterns(schema: object) -> Iterator[str]:
    stated = (part.get("pattern") for part in _parts(schema) if isinstance(part, dict))
    return (pattern for pattern in stated if isinstance(pattern, str))
