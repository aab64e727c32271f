"""What a sender or a rule states about right answers: one JSON object, read strictly.

| ``kind`` | members |
|---|---|
| ``exact`` | ``answer``: a text, or an array of texts of which any will do |
| ``numeric`` | ``answer``: a number, or a text such as ``"3.5 km"``; ``tolerance``, relative; ``absolute``, in the answer's unit |
| ``choice`` | ``answer``: a letter; ``options``: the texts of A, B, ... in order |
| ``regex`` | ``pattern``: what the whole answer must match |
| ``json_schema`` | ``schema``: what the answer's JSON must satisfy |
| ``python_tests`` | ``tests``: Python that tests the answer's code |

Members that are not known are accepted, as everywhere in an event. Refusals quote no value: a check
may hold the answer.
"""  # noqa: E501  a table's row is one line

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from judge import numbers, patterns, schemas
from judge.finals import normalised
from store.errors import EventRejected
from store.records import JsonObject

CHECK_BYTES = 64 * 1024
ANSWERS = 100
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Exact:
    """The answer is one of these texts once both are normalised."""

    answers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Numeric:
    """The answer is this quantity; either tolerance will do."""

    quantity: numbers.Quantity
    tolerance: float
    """Relative, in [0, 1]."""
    absolute: float
    """In the quantity's unit."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer names this letter."""

    letter: str
    options: tuple[str, ...]
    """Normalised texts of A, B, ...; empty when they are not known."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The whole answer matches."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The answer is JSON that satisfies a JSON Schema (draft 2020-12)."""

    schema: JsonObject | bool


@dataclass(frozen=True, slots=True)
class PythonTests:
    """The answer is Python that passes these tests."""

    tests: str


Check = Exact | Numeric | Choice | Pattern | Schema | PythonTests


def read_check(body: object) -> Check:
    """Return the check in a JSON value.

    Raises
    ------
    EventRejected
        It is none; ``field`` names the member, beginning with ``check``.
    """
    if not isinstance(body, dict):
        raise _refusal("wrong_type", "", "must be an object")
    try:
        whole = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        raise _refusal("text_too_long", "", "is nested too deep") from None
    size = len(whole.encode("utf-8", "replace"))
    if size > CHECK_BYTES:
        raise _refusal("text_too_long", "", f"has {size} bytes, the limit is {CHECK_BYTES}")
    kind = _required(body, "kind")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise _refusal("unknown_value", "kind", f"must be one of {', '.join(_READERS)}")
    return read(body)


def _exact(body: JsonObject) -> Exact:
    stated = _required(body, "answer")
    texts = _texts(stated, "answer") if isinstance(stated, list) else (_text(body, "answer"),)
    answers = frozenset(map(normalised, texts))
    if not answers or "" in answers:
        raise _refusal("empty_field", "answer", "must hold letters or digits")
    return Exact(answers)


def _numeric(body: JsonObject) -> Numeric:
    stated = _required(body, "answer")
    if isinstance(stated, bool) or not isinstance(stated, str | int | float):
        raise _refusal("wrong_type", "answer", "must be a number or a string")
    quantity = numbers.quantity(stated if isinstance(stated, str) else repr(stated))
    if quantity is None:
        problem = "must be one number, with a unit that is known or none"
        raise _refusal("unknown_value", "answer", problem)
    return Numeric(
        quantity,
        tolerance=_amount(body, "tolerance", high=1.0),
        absolute=_amount(body, "absolute", high=math.inf),
    )


def _choice(body: JsonObject) -> Choice:
    letter = _text(body, "answer").strip().strip("()").upper()
    if len(letter) != 1 or letter not in LETTERS:
        raise _refusal("unknown_value", "answer", "must be a letter from A to Z")
    stated = body.get("options")
    options = () if stated is None else tuple(map(normalised, _texts(stated, "options")))
    if options and LETTERS.index(letter) >= len(options):
        raise _refusal("out_of_range", "answer", f"names none of the {len(options)} options")
    return Choice(letter, options)


def _pattern(body: JsonObject) -> Pattern:
    pattern = _text(body, "pattern")
    if (problem := patterns.problem_of(pattern)) is not None:
        raise _refusal("invalid_pattern", "pattern", problem)
    return Pattern(pattern)


def _schema(body: JsonObject) -> Schema:
    stated = _required(body, "schema")
    if not isinstance(stated, dict | bool):
        raise _refusal("wrong_type", "schema", "must be an object")
    if (problem := schemas.problem_of(stated)) is not None:
        raise _refusal("invalid_schema", "schema", problem)
    return Schema(stated)


def _python_tests(body: JsonObject) -> PythonTests:
    tests = _text(body, "tests")
    if not tests.strip():
        raise _refusal("empty_field", "tests", "must not be empty")
    return PythonTests(tests)


_READERS: dict[str, Callable[[JsonObject], Check]] = {
    "exact": _exact,
    "numeric": _numeric,
    "choice": _choice,
    "regex": _pattern,
    "json_schema": _schema,
    "python_tests": _python_tests,
}
KINDS = tuple(_READERS)


def _required(body: JsonObject, name: str) -> object:
    if body.get(name) is None:
        raise _refusal("missing_field", name, "is required")
    return body[name]


def _text(body: JsonObject, name: str) -> str:
    value = _required(body, name)
    if not isinstance(value, str):
        raise _refusal("wrong_type", name, "must be a string")
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _refusal("wrong_type", name, "must be an array of strings")
    if len(value) > ANSWERS:
        raise _refusal("too_many_items", name, f"has more than {ANSWERS} items")
    return tuple(value)


def _amount(body: JsonObject, name: str, *, high: float) -> float:
    value = body.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal("wrong_type", name, "must be a number")
    if not 0.0 <= value <= high:
        raise _refusal("out_of_range", name, f"must be from 0 to {high:g}")
    return float(value)


def _refusal(code: str, name: str, problem: str) -> EventRejected:
    field = f"check.{name}" if name else "check"
    return EventRejected(code, f"{field} {problem}", field=field)
