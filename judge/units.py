"""Units of measure: a closed table, so that an answer's unit is known or nobody converts it.

A library such as pint reads far more: constants as units, names in any case, expressions. Here the
text is a stranger's, "5 in total" is no length, and what is not in the table goes to the judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Unit:
    """A factor to base units and the powers of the base quantities."""

    factor: float = 1.0
    powers: Mapping[str, int] = field(default_factory=lambda: _NONE)


_SYMBOLS = {"n": 1e-9, "μ": 1e-6, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_WORDS = {"nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "centi": 1e-2, "deci": 0.1, "hecto": 1e2}
_WORDS |= {"kilo": 1e3, "mega": 1e6, "giga": 1e9, "tera": 1e12}
_LENGTH, _MASS, _TIME, _DATA = {"m": 1}, {"kg": 1}, {"s": 1}, {"bit": 1}
_ENERGY = {"kg": 1, "m": 2, "s": -2}
_VOLT = {"kg": 1, "m": 2, "s": -3, "A": -1}

# symbol, words, factor, powers; prefixes go with all of these
_PREFIXED: tuple[tuple[str, str, float, dict[str, int]], ...] = (
    ("m", "meter meters metre metres", 1.0, _LENGTH),
    ("g", "gram grams gramme grammes", 1e-3, _MASS),
    ("s", "second seconds", 1.0, _TIME),
    ("A", "ampere amperes amp amps", 1.0, {"A": 1}),
    ("K", "kelvin kelvins", 1.0, {"K": 1}),
    ("mol", "mole moles", 1.0, {"mol": 1}),
    ("L", "liter liters litre litres", 1e-3, {"m": 3}),
    ("l", "", 1e-3, {"m": 3}),
    ("Hz", "hertz", 1.0, {"s": -1}),
    ("N", "newton newtons", 1.0, {"kg": 1, "m": 1, "s": -2}),
    ("Pa", "pascal pascals", 1.0, {"kg": 1, "m": -1, "s": -2}),
    ("J", "joule joules", 1.0, _ENERGY),
    ("W", "watt watts", 1.0, {"kg": 1, "m": 2, "s": -3}),
    ("Wh", "watthour watthours", 3_600.0, _ENERGY),
    ("eV", "electronvolt electronvolts", 1.602176634e-19, _ENERGY),
    ("V", "volt volts", 1.0, _VOLT),
    ("Ω", "ohm ohms", 1.0, {**_VOLT, "A": -2}),
    ("B", "byte bytes", 8.0, _DATA),
    ("bit", "bits", 1.0, _DATA),
)
_PLAIN: tuple[tuple[str, float, dict[str, int]], ...] = (
    ("cm", 1e-2, _LENGTH),
    ("dm", 0.1, _LENGTH),
    ("in inch inches", 0.0254, _LENGTH),
    ("ft foot feet", 0.3048, _LENGTH),
    ("yd yard yards", 0.9144, _LENGTH),
    ("mi mile miles", 1_609.344, _LENGTH),
    ("t ton tons tonne tonnes", 1e3, _MASS),
    ("lb lbs pound pounds", 0.45359237, _MASS),
    ("oz ounce ounces", 0.028349523125, _MASS),
    ("min mins minute minutes", 60.0, _TIME),
    ("h hr hrs hour hours", 3_600.0, _TIME),
    ("d day days", 86_400.0, _TIME),
    ("week weeks", 604_800.0, _TIME),
    ("cl cL", 1e-5, {"m": 3}),
    ("dl dL", 1e-4, {"m": 3}),
    ("ha hectare hectares", 1e4, {"m": 2}),
    ("bar", 1e5, {"kg": 1, "m": -1, "s": -2}),
    ("atm", 101_325.0, {"kg": 1, "m": -1, "s": -2}),
    ("cal", 4.184, _ENERGY),
    ("kcal", 4_184.0, _ENERGY),
    ("mph", 0.44704, {"m": 1, "s": -1}),
    ("kmh km/h kph", 1 / 3.6, {"m": 1, "s": -1}),
    ("KiB", 8.0 * 2**10, _DATA),
    ("MiB", 8.0 * 2**20, _DATA),
    ("GiB", 8.0 * 2**30, _DATA),
    ("KB", 8e3, _DATA),
    # Scales with an offset are compared only with themselves.
    ("°C ℃ degC", 1.0, {"degC": 1}),
    ("°F ℉ degF", 1.0, {"degF": 1}),
    ("° deg degree degrees", 1.0, {"deg": 1}),
    ("rad radian radians", 1.0, {"rad": 1}),
    ("$ usd USD dollar dollars", 1.0, {"USD": 1}),
    ("cent cents", 0.01, {"USD": 1}),
    ("€ eur EUR euro euros", 1.0, {"EUR": 1}),
    ("£ gbp GBP", 1.0, {"GBP": 1}),
    ("% percent", 0.01, {}),
    ("dozen", 12.0, {}),
    ("hundred", 1e2, {}),
    ("thousand", 1e3, {}),
    ("million", 1e6, {}),
    ("billion", 1e9, {}),
    ("trillion", 1e12, {}),
)
# A lone letter that is another unit, a scale or a word as often: left to the judge.
_AMBIGUOUS = {"B"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_FACTOR = re.compile(r"(?P<name>[%°$€£℃℉]?[A-Za-zμΩ]*)(?:\^?(?P<power>-?[0-9]))?")


@cache
def _table() -> Mapping[str, Unit]:
    units = {
        name: Unit(factor, powers) for names, factor, powers in _PLAIN for name in names.split()
    }
    for name, unit in _with_prefixes():
        units.setdefault(name, unit)
    return MappingProxyType({name: u for name, u in units.items() if name not in _AMBIGUOUS})


def _with_prefixes() -> Iterator[tuple[str, Unit]]:
    for symbol, words, factor, powers in _PREFIXED:
        yield symbol, Unit(factor, powers)
        for prefix, scale in _SYMBOLS.items():
            yield prefix + symbol, Unit(scale * factor, powers)
        for word in words.split():
            yield word, Unit(factor, powers)
            for prefix, scale in _WORDS.items():
                yield prefix + word, Unit(scale * factor, powers)


def unit_of(text: str) -> Unit | None:
    """Return the unit that a text names, such as ``km/h``, ``kg·m^2`` or ``m s⁻¹``; None if it is
    none. Words may be in any case, symbols may not: ``mW`` is not ``MW``.
    """
    plain = text.strip().replace("µ", "μ").replace("Ω", "Ω").translate(_SUPERSCRIPTS)
    if (known := _named(plain)) is not None:
        return known
    parts = re.split(r"\s*(/|\bper\b|[·⋅*×]|\s)\s*", plain)
    factor, powers, sign = 1.0, dict[str, int](), 1
    for place, part in enumerate(parts):
        if place % 2:
            sign = -1 if part in {"/", "per"} else sign
            continue
        match = _FACTOR.fullmatch(part)
        unit = _named(match["name"]) if match else None
        if match is None or unit is None:
            return None
        power = sign * int(match["power"] or 1)
        factor *= unit.factor**power
        for base, exponent in unit.powers.items():
            powers[base] = powers.get(base, 0) + power * exponent
    return Unit(factor, {base: power for base, power in powers.items() if power})


def _named(name: str) -> Unit | None:
    table = _table()
    found = table.get(name)
    if found is None and len(name) > 3:
        found = table.get(name.lower())
    return found
