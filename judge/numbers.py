"""Reading quantities: a number as people and models write it, with its unit.

Read: ``1,234.5``, ``-3``, ``3.5e3``, ``3.5 × 10^3``, ``1/2``, ``45%``, ``$3.50``, ``2 million``,
``3.5 km``. A decimal comma, ``½``, dates, times, ranges and versions are not: whoever asks is told
that there is something unread, and the judge decides.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from judge.units import Unit, unit_of

CLOSE = 1e-9
"""Relative: what binary fractions lose on the way."""

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\{(-?[0-9.]+)\}\{([0-9.]+)\}")
_MATHS = re.compile(r"(?<!\\)\$(?! )([^$\n]*?)(?<![ \\])\$")
_SPELT = {
    "\\,": "", "\\!": "", "{,}": ",", "\\;": " ", "\\ ": " ", "\\%": "%", "\\$": "$",
    "\\times": "×", "\\cdot": "·", "\\circ": "°", "^°": "°", "^{°}": "°", "−": "-",
    "\\(": "", "\\)": "", "\\[": "", "\\]": "",
    "\\approx": "=", "≈": "=", "**": "", "__": "", "`": "",
}  # fmt: skip
_EXPONENT = re.compile(r"\^\{(-?[0-9]+)\}")
_GROUP_SPACE = re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_SPACE = re.compile(r"[ \t\u00a0]+")
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|[0-9]{1,3}[.)])[ \t]+", re.MULTILINE)

_UNIT = (
    r"(?:[%°$€£℃℉]?[A-Za-zµμΩ]*+(?:[²³]|⁻[¹²³]|\^?-?[1-9](?![0-9.]))?"
    r"(?:[ ]?(?:/|per\b|[·⋅*])[ ]?[A-Za-zµμΩ]++(?:[²³]|⁻[¹²³]|\^?-?[1-9](?![0-9.]))?){0,3})"
)
_NUMBER = re.compile(
    r"(?<![\w.,/:%-])(?P<before>-?[$€£]?-?)"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)?(?P<part>\.[0-9]+)?(?<=[0-9])"
    r"(?:[ ]?[×x*][ ]?10\^(?P<power>-?[0-9]{1,3})|[eE](?P<exp>[-+]?[0-9]{1,3})(?![\w.]))?"
    r"(?:[ ]?/[ ]?(?P<below>[0-9]+(?:\.[0-9]+)?))?"
    rf"(?:[ -]?(?P<unit>{_UNIT}))"
    r"(?![0-9/:]|[.,][0-9])"
)
_ANY = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
_PLAIN_WORDS = {"in", "a", "h", "d", "t", "s", "m"}
"""Units that are words or letters too: read as units only where nothing follows them."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what stands behind it."""

    value: float
    unit: Unit | None = None
    """None for a bare number."""
    word: str = ""
    """What follows a number and is no known unit, such as ``apples``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The quantities of a text, and whether everything that looks like a number was read."""

    quantities: tuple[Quantity, ...]
    is_whole: bool


def plain(text: str) -> str:
    """Return a text without LaTeX, Markdown and bullets, with one kind of minus and group."""
    spelt = _WRAPPED.sub(r" \1 ", _MATHS.sub(r"\1", text))
    spelt = _FRACTION.sub(r"\1/\2", spelt)
    for written, meant in _SPELT.items():
        spelt = spelt.replace(written, meant)
    spelt = _EXPONENT.sub(r"^\1", spelt)
    return _SPACE.sub(" ", _BULLET.sub("", _GROUP_SPACE.sub("", spelt)))


def read(text: str) -> Reading:
    """Return the quantities in a text that ``plain`` has been through."""
    found, rest, place = [], [], 0
    for match in _NUMBER.finditer(text):
        if (quantity := _quantity(match, text)) is None:
            return Reading((), is_whole=False)
        found.append(quantity)
        rest.append(text[place : match.start()])
        place = match.end()
    rest.append(text[place:])
    is_whole = not any(character.isnumeric() for part in rest for character in part)
    return Reading(tuple(found), is_whole)


def quantity(text: str) -> Quantity | None:
    """Return the one quantity that a text is; None if it is anything else."""
    spelt = plain(text).strip()
    match = _NUMBER.fullmatch(spelt)
    found = _quantity(match, spelt) if match else None
    return None if found is None or found.word else found


def mentions(text: str, value: float) -> bool:
    """Return whether digits anywhere in a text may stand for a value, whatever its sign."""
    return any(
        math.isclose(abs(value), float(found.replace(",", "")), rel_tol=1e-3, abs_tol=CLOSE)
        for found in _ANY.findall(text)
        if len(found) < 40
    )


def _quantity(match: re.Match[str], text: str) -> Quantity | None:
    """Return what a match says; None if it is out of the range of numbers, or no number after all
    (``3.5M``, ``42nd``, ``10x``).
    """
    value = _value(match)
    written = match["unit"].strip()
    unit = unit_of(written) if written else None
    is_attached = text[match.start("unit") - 1 : match.start("unit")].isdigit()
    if value is None or (written and unit is None and is_attached):
        return None
    if written in _PLAIN_WORDS and re.match(r"[ ]+\w", text[match.end() :]):
        unit = None
    if money := match["before"].strip("-"):
        scale = unit.factor if unit is not None and not unit.powers else 1.0  # $3.5 million
        return Quantity(value * scale, unit_of(money))
    return Quantity(value, unit, "" if unit is not None else written)


def _value(match: re.Match[str]) -> float | None:
    digits = (match["whole"] or "0").replace(",", "") + (match["part"] or "")
    below = float(match["below"] or 1)
    if len(digits) > 40 or not below:
        return None
    value = float(digits) * 10.0 ** int(match["power"] or match["exp"] or 0) / below
    signed = -value if "-" in match["before"] else value
    return signed if math.isfinite(signed) else None
