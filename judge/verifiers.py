r"""Grading an answer against a check: right, wrong, or "cannot tell", which goes to the judge.

A grade of 1 needs an answer that *states* what is right and nothing else beside it; an answer that
merely mentions it among others is never right. A grade of 0 needs an answer that states something
else and mentions what is right nowhere. Whatever lies between is left to the judge:

A statement that the text goes on to doubt ("wait", "actually", "mistake") leaves it open.

- ``exact``: right if the whole answer, or every statement of it (``finals.py``), is one of the
  texts once normalised; wrong if none of them is mentioned.
- ``numeric``: right if every statement holds one number and all are within the tolerance; without
  a statement, the only number of a short text counts, or the only one of a last sentence that draws a
  conclusion ("so", "in total", "="). Units are converted; a unit that is not known, another
  dimension, hedges ("or", "not", "at least") and numbers that cannot be read leave it open. A bare
  number is taken in the check's unit only when it is right in it.
- ``choice``: right if every letter stated is the one asked for, as ``C``, ``(C)``, ``C) Paris``, ``\boxed{C}``,
  "the answer is (C)", "C is correct"; or if the answer is the text of that option.
- ``regex``: right if the whole answer matches (a fence around it aside), wrong if not.
- ``json_schema``: the whole answer or its only fence is JSON.
- ``python_tests``: the only fence of Python, or the whole answer, passes every test (``sandbox.py``).

No answer may leave a check that it fails by its shape alone: one that is too long is wrong, and so is
one of several fences of which none is right, neither alone nor, for Python, all together.
"""  # noqa: E501  a line of markup

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import assert_never

from judge import numbers, patterns, schemas
from judge.checks import (
    LETTERS,
    Check,
    Choice,
    Exact,
    Numeric,
    Pattern,
    PythonTests,
    Schema,
)
from judge.finals import (
    LONGEST,
    answered,
    fences,
    first_sentence,
    is_taken_back,
    normalised,
    sentences,
    statements,
)
from judge.units import Unit

SHORT = 120
"""Characters of a text whose only number is its answer, without a word that says so."""

READINGS = 4
"""Fences of Python that are tested by themselves, the longest ones, where an answer has several."""
JSON_READINGS = 16

RunTests = Callable[[str, str], bool | None]
"""``run_tests(code, tests)`` says whether code passes its tests; None if nobody can tell."""

_HEDGED = re.compile(
    r"\b(?:not|nor?|or|either|neither|between|unless|if|may ?be|perhaps|possibly|might|could"
    r"|unsure|unclear|unknown|wrong|incorrect|(?:more|less|fewer|greater|other|rather) than"
    r"|at least|at most|over|under|above|below|up to|to|too|but|except|almost|nearly|instead)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:so|therefore|thus|hence|altogether|in total|total|finally|result|equals|in all)\b|=",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"[;(]|,? (?:because|since|as|which|where)\b|, so\b")
_MARKED = re.compile(r"\(?(?P<letter>[A-Z])(?:\)|[.:,](?=\s|$)|(?=$))")
_LOOSE = re.compile(r"(?<![\w'’])[A-Z](?![\w'’])")
_LETTER_IS_RIGHT = re.compile(
    r"(?<![\w'’])\(?([A-Z])\)? is (?:the )?(?:correct|right|best)(?! (?:to|about|that|if))\b"
)
_LED_BY = re.compile(r"^(?:option|choice|letter|answer)\s+", re.IGNORECASE)


def grade(check: Check, text: str, *, run_tests: RunTests) -> float | None:
    """Return 1 for a right answer, 0 for a wrong one, None if nobody can tell from the check."""
    said = answered(text)
    if len(said) > LONGEST:
        return 0.0
    found: float | None
    match check:
        case Exact():
            found = _exact(check, said)
        case Numeric():
            found = _numeric(check, said)
        case Choice():
            found = _choice(check, said)
        case Pattern():
            found = _pattern(check, said)
        case Schema():
            found = _schema(check, said)
        case PythonTests():
            found = _tested(check, said, run_tests)
        case _:
            assert_never(check)
    return found


def _graded(is_right: bool | None) -> float | None:
    return None if is_right is None else float(is_right)


def _exact(check: Exact, said: str) -> float | None:
    whole = normalised(said)
    if whole in check.answers:
        return 1.0
    stated = statements(said)
    if is_taken_back(said):
        return None
    if stated and all(
        {normalised(one), normalised(first_sentence(one))} & check.answers for one in stated
    ):
        return 1.0
    return None if any(_mentions(whole, answer) for answer in check.answers) else 0.0


def _mentions(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _numeric(check: Numeric, said: str) -> float | None:
    text = numbers.plain(said)
    if is_taken_back(said):
        return None
    readings = [reading for zone in _zones(text) if (reading := _quantity_in(zone)) is not False]
    if not readings or None in readings:
        return None
    matches = {_is_match(check, found) for found in readings if isinstance(found, numbers.Quantity)}
    if matches == {True}:
        return 1.0
    if matches == {False} and not numbers.mentions(text, check.quantity.value):
        return 0.0
    return None


def _zones(text: str) -> list[str]:
    """Return the parts of a text that should hold its final number."""
    stated = [first_sentence(one) for one in statements(text)]
    if any(character.isnumeric() for one in stated for character in one):
        return stated
    with_numbers = [
        one for one in sentences(text) if any(character.isnumeric() for character in one)
    ]
    if not with_numbers:
        return []
    alone = len(text) <= SHORT and len(numbers.read(text).quantities) == 1
    return with_numbers[-1:] if alone or _CONCLUDES.search(with_numbers[-1]) else []


def _quantity_in(zone: str) -> numbers.Quantity | bool | None:
    """Return the one quantity of a zone, False if it holds no number, None if that is unclear."""
    if _HEDGED.search(zone):
        return None
    stated = _ASIDE.split(zone.rpartition("=")[2] if "=" in zone else zone, maxsplit=1)[0]
    reading = numbers.read(stated)
    if not reading.is_whole or len(reading.quantities) > 1:
        return None
    return reading.quantities[0] if reading.quantities else False


def _is_match(check: Numeric, found: numbers.Quantity) -> bool | None:
    """Return whether a quantity is within the tolerance; None where units leave it open."""
    unit, wanted = check.quantity.unit, check.quantity.value
    as_written = _close(check, found.value, wanted)
    if found.unit is None:
        # A bare number is in the unit asked for, if it is right in it.
        sure = unit is None or (as_written and not found.word)
        return as_written if sure else None
    if unit is None and found.unit.powers:
        # The question may have named the unit that the answer adds, or another one.
        return as_written or None
    scale = Unit() if unit is None else unit
    if scale.powers != found.unit.powers:
        return None
    is_close = _close(check, found.value * found.unit.factor / scale.factor, wanted)
    # "45%" where "45" was asked for: neither right nor wrong.
    return None if unit is None and as_written and not is_close else is_close


def _close(check: Numeric, value: float, wanted: float) -> bool:
    relative = max(check.tolerance, numbers.CLOSE)
    return math.isclose(value, wanted, rel_tol=0.0, abs_tol=relative * abs(wanted)) or math.isclose(
        value, wanted, rel_tol=0.0, abs_tol=check.absolute
    )


def _choice(check: Choice, said: str) -> float | None:
    whole = normalised(said)
    if whole in check.options:
        named = [LETTERS[n] for n, option in enumerate(check.options) if option == whole]
        return None if len(named) > 1 else float(named[0] == check.letter)
    stated = statements(said)
    if is_taken_back(said):
        return None
    letters = [_letter(one, check) for one in stated]
    letters += _LETTER_IS_RIGHT.findall(said)
    if not letters:
        letters = [_letter(said, check)] if "\n" not in said else []
    if not letters or None in letters or len(set(letters)) > 1:
        return None
    return float(letters[0] == check.letter)


def _letter(stated: str, check: Choice) -> str | None:
    """Return the one letter that a statement names; None if it is unclear."""
    plain = re.sub(r"\\text(?:bf)?\{([^{}]*)\}|[*_`$\"']", r"\1", stated).strip()
    if _HEDGED.search(plain):
        return None
    if (text := normalised(plain)) in check.options:
        return LETTERS[check.options.index(text)]
    plain = _LED_BY.sub("", plain).strip()
    if re.fullmatch(r"\(?[a-z]\)?[.:]?", plain):
        plain = plain.upper()
    marked = _MARKED.match(plain.removesuffix("."))
    if marked is None:
        return None
    rest = plain[marked.end() :].strip(" .:-)")
    is_option = bool(check.options) and normalised(rest) in check.options
    if rest and not is_option and _LOOSE.search(rest):
        return None
    return marked["letter"]


def _pattern(check: Pattern, said: str) -> float | None:
    blocks = fences(said)
    whole = blocks[0][1].strip() if len(blocks) == 1 and said.startswith("```") else said
    return _graded(patterns.is_whole(check.pattern, whole))


def _schema(check: Schema, said: str) -> float | None:
    bodies = [body for _, body in fences(said)] or [said]
    grades = [_json(check, body) for body in _longest(bodies, JSON_READINGS)]
    return grades[0] if len(bodies) == 1 else _of_several(grades)


def _json(check: Schema, text: str) -> float | None:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # no JSON, or digits or brackets by the thousand
        return 0.0
    return _graded(schemas.satisfies(value, check.schema))


def _longest(bodies: list[str], most: int) -> list[str]:
    return sorted(dict.fromkeys(bodies), key=len, reverse=True)[:most]


def _of_several(grades: list[float | None]) -> float | None:
    """Return 0 if an answer is wrong however it is read; which reading was meant nobody knows."""
    return 0.0 if set(grades) == {0.0} else None


def _no_constant(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _tested(check: PythonTests, said: str, run_tests: RunTests) -> float | None:
    readings = _readings(said)
    grades: list[float | None] = []
    for code in readings:
        grades.append(_graded(run_tests(code, check.tests)))
        if grades[-1] == 1.0:
            break
    return grades[0] if len(readings) == 1 else _of_several(grades)


def _readings(said: str) -> list[str]:
    """Return the answer's Python: its only block, or all of it; several where it is not clear."""
    blocks = fences(said)
    if not blocks:
        return [said]
    named = [body for tag, body in blocks if tag in {"python", "python3", "py"}]
    bodies = named or [body for _, body in blocks]
    return list(dict.fromkeys(["\n\n".join(bodies), *_longest(bodies, READINGS)]))
