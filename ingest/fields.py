"""Strict reading of untrusted JSON: every refusal has a stable code and names its field.

| code | when |
|---|---|
| ``unreadable_json`` | not UTF-8, not JSON, nested too deep, a number of thousands of digits |
| ``not_finite`` | NaN or Infinity anywhere, also as a number too large for a float |
| ``wrong_type`` | another JSON type than the field has |
| ``missing_field``, ``empty_field`` | absent or null; present without content |
| ``id_too_long``, ``text_too_long``, ``prompt_too_long`` | over the limit |
| ``control_character``, ``lone_surrogate`` | text that PostgreSQL or UTF-8 cannot hold |
| ``negative_number``, ``out_of_range`` | a number outside its range |
| ``invalid_time``, ``far_future`` | not RFC 3339 with an offset; over an hour ahead of the clock |
| ``unknown_schema``, ``unknown_version`` | not an event of this topic; not version 1 |
| ``unknown_value`` | not one of the names the field may have |
| ``too_many_items`` | an array over its limit |
| ``conflicting_fields`` | ``prompt`` and ``messages`` at once |
| ``unsupported_content`` | a message part that is not text |
| ``invalid_pattern``, ``invalid_schema`` | a check's regular expression or JSON Schema |

Messages never quote a value, because a value may be a prompt.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from store.errors import EventRejected
from store.records import JsonObject

ID_CHARACTERS = 200
RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
"""Its date-time; leap seconds (``:60``) are refused, as no clock here has them."""
FUTURE = timedelta(hours=1)
"""How far a sender's clock may be ahead of ours."""
E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
LARGEST_COUNT = 2**31 - 1
"""Token counts are PostgreSQL integers."""


def read_object(raw: bytes) -> JsonObject:
    """Return the JSON object in ``raw``; raises ``EventRejected`` for anything else."""
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        # Without the cause: a decoder's error carries the whole document, prompt included.
        raise EventRejected("unreadable_json", "the event is not UTF-8 encoded JSON") from None
    if not isinstance(body, dict):
        raise EventRejected("wrong_type", "the event is not a JSON object")
    return body


def _refuse(_: str) -> float:
    raise EventRejected("not_finite", "NaN and Infinity are not JSON")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise EventRejected("not_finite", "a number is too large for a float")
    return number


class Fields:
    """Typed access to one JSON object.

    Parameters
    ----------
    body
        The object as parsed by ``read_object``.
    path
        Where it sits in the event, such as ``"messages[0]."``; starts every field's name.
    """

    def __init__(self, body: JsonObject, *, path: str = "") -> None:
        self._body = body
        self._path = path

    def has(self, name: str) -> bool:
        """Return whether a field is present and not null."""
        return self._body.get(name) is not None

    def raw(self, name: str) -> object:
        """Return a required field of any type."""
        if not self.has(name):
            raise self.refusal("missing_field", name, "is required")
        return self._body[name]

    def refusal(self, code: str, name: str, problem: str) -> EventRejected:
        """Return the error that says what is wrong with a field."""
        field = self._path + name
        return EventRejected(code, f"{field} {problem}", field=field)

    def text(self, name: str, *, limit: int, code: str = "text_too_long") -> str:
        """Return a required text of at most ``limit`` bytes of UTF-8; may be empty."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self.refusal("wrong_type", name, "must be a string")
        if "\x00" in value:
            raise self.refusal("control_character", name, "must not contain NUL")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise self.refusal("lone_surrogate", name, "contains a lone surrogate") from None
        if size > limit:
            raise self.refusal(code, name, f"has {size} bytes of UTF-8, the limit is {limit}")
        return value

    def identifier(self, name: str) -> str:
        """Return a required id or name: 1 to 200 characters, none of them a control."""
        value = self.text(name, limit=4 * ID_CHARACTERS, code="id_too_long")
        if not value.strip():
            raise self.refusal("empty_field", name, "must not be empty")
        if len(value) > ID_CHARACTERS:
            raise self.refusal("id_too_long", name, f"has more than {ID_CHARACTERS} characters")
        if any(unicodedata.category(character) == "Cc" for character in value):
            raise self.refusal("control_character", name, "contains a control character")
        return value

    def number(self, name: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a required finite number in [``low``, ``high``]."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refusal("wrong_type", name, "must be a number")
        try:
            number = float(value)
        except OverflowError:
            raise self.refusal("not_finite", name, "is too large for a float") from None
        self._check_range(name, number, low=low, high=high)
        return number + 0.0  # -0.0 becomes 0.0

    def count(self, name: str, *, high: int = LARGEST_COUNT) -> int:
        """Return a required whole number from 0 to ``high``."""
        value = self.raw(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON has one kind of number, and JSON Schema calls 1.0 an integer
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refusal("wrong_type", name, "must be a whole number")
        self._check_range(name, value, low=0, high=high)
        return value

    def _check_range(self, name: str, value: float, *, low: float, high: float) -> None:
        if value < 0 <= low:
            raise self.refusal("negative_number", name, "must not be negative")
        if not low <= value <= high:
            raise self.refusal("out_of_range", name, f"must be from {low} to {high}")

    def flag(self, name: str) -> bool:
        """Return a required boolean."""
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self.refusal("wrong_type", name, "must be true or false")
        return value

    def instant(self, name: str) -> datetime:
        """Return a required RFC 3339 time as an instant in UTC."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self.refusal("wrong_type", name, "must be a string")
        try:
            # Python alone would read week dates and more that others refuse.
            if RFC_3339.fullmatch(value):
                return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # a day that is in no calendar
        raise self.refusal("invalid_time", name, "must be RFC 3339, as 2026-03-01T12:00:00Z")

    def past(self, name: str, *, now: datetime) -> datetime:
        """Return a required instant that is at most an hour ahead of ``now``."""
        instant = self.instant(name)
        if instant - now > FUTURE:
            raise self.refusal("far_future", name, "is more than an hour ahead of the clock")
        return instant

    def items(self, name: str, *, limit: int) -> list[object]:
        """Return a required array of at most ``limit`` items."""
        value = self.raw(name)
        if not isinstance(value, list):
            raise self.refusal("wrong_type", name, "must be an array")
        if len(value) > limit:
            raise self.refusal("too_many_items", name, f"has more than {limit} items")
        return value

    def objects(self, name: str, *, limit: int) -> list[Fields]:
        """Return a required array of objects, each with its own path."""
        return [
            self._nested(f"{name}[{place}]", item)
            for place, item in enumerate(self.items(name, limit=limit))
        ]

    def child(self, name: str) -> Fields:
        """Return a required object."""
        return self._nested(name, self.raw(name))

    def _nested(self, name: str, value: object) -> Fields:
        if not isinstance(value, dict):
            raise self.refusal("wrong_type", name, "must be an object")
        return Fields(value, path=f"{self._path}{name}.")

    def identifiers(self, name: str, *, limit: int) -> tuple[str, ...]:
        """Return a required array of ids, repeats left out."""
        values = self.items(name, limit=limit)
        named = {f"{name}[{place}]": value for place, value in enumerate(values)}
        items = Fields(dict(named), path=self._path)
        return tuple(dict.fromkeys(items.identifier(place) for place in named))

    def names(self) -> tuple[str, ...]:
        """Return the names of this object's fields."""
        return tuple(self._body)

    def counts(self) -> dict[str, int]:
        """Return every field of this object as a whole number."""
        return {name: self.count(name, high=2**63 - 1) for name in self._body}

    def numbers(self) -> dict[str, float]:
        """Return every field of this object as a finite number."""
        return {name: self.number(name) for name in self._body}

    def choice(self, name: str, kind: type[E]) -> E:
        """Return a required member of an enumeration."""
        value = self.text(name, limit=4 * ID_CHARACTERS)
        if value not in {member.value for member in kind}:
            raise self.refusal("unknown_value", name, f"is not a {kind.__name__}")
        return kind(value)

    def optional(self, read: Callable[[str], T], name: str) -> T | None:
        """Return what ``read`` makes of a field, None when it is absent or null."""
        return read(name) if self.has(name) else None
