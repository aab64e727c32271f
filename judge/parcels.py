"""Plain data between two processes that do not trust each other, as JSON that keeps types apart."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction


def pack(  # noqa: PLR0911  one for each kind
    value: object, keep: Callable[[object], int]
) -> object:
    """Return plain data as JSON that tells its types apart; ``keep`` numbers whatever is not."""
    if value is None or isinstance(value, bool):
        return value
    for scalar in (int, float, str):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, _PLAIN):
        return _pack_plain(value)
    if isinstance(value, list | tuple | set | frozenset):
        name = next(name for name, kind in _COLLECTIONS.items() if isinstance(value, kind))
        return [name, *(pack(one, keep) for one in value)]
    if isinstance(value, dict):
        return ["dict", *([pack(k, keep), pack(v, keep)] for k, v in value.items())]
    if isinstance(value, type) and issubclass(value, Exception):
        return ["error", *(kind.__name__ for kind in value.__mro__)]
    return ["kept", keep(value)]


def _pack_plain(value: _Plain) -> object:
    match value:
        case bytes() | bytearray():
            return ["bytes", value.hex()]
        case complex():
            return ["complex", value.real, value.imag]
        case Fraction():
            return ["Fraction", value.numerator, value.denominator]
        case timedelta():
            return ["timedelta", value.days, value.seconds, value.microseconds]
        case Decimal():
            return ["Decimal", str(value)]
        case _:
            kind = next(kind for kind in (datetime, date, time) if isinstance(value, kind))
            return [kind.__name__, value.isoformat()]


_Plain = bytes | bytearray | complex | Fraction | Decimal | timedelta | date | time
_PLAIN = _Plain.__args__
_COLLECTIONS: dict[str, type] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset
}  # fmt: skip
_MADE_OF: dict[str, Callable[..., object]] = {
    "bytes": bytes.fromhex,
    "complex": complex,
    "Fraction": Fraction,
    "Decimal": Decimal,
    "timedelta": timedelta,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
}
"""How each is made of what follows its name."""


def unpack(packed: object, find: Callable[[int], object]) -> object:
    """Return what ``pack`` was given; raises ``ValueError`` for what it never returns."""
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if not isinstance(packed, list) or not packed:
        raise ValueError("no packed value")
    name, *items = packed
    match name:
        case "dict":
            return {unpack(k, find): unpack(v, find) for k, v in items}
        case "error":
            return error_named(items)
        case "kept":
            return find(int(items[0]))
        case _:
            if isinstance(name, str) and name in _MADE_OF:
                return _MADE_OF[name](*items)
            kind = _COLLECTIONS.get(name)
            if kind is None:
                raise ValueError("no packed value")
            unpacked: object = kind(unpack(one, find) for one in items)
            return unpacked


_errors: dict[tuple[str, ...], type[Exception]] = {}


def error_named(names: Sequence[object]) -> type[Exception]:
    """Return the exception of these names, its own first: built in, or one like the answer's."""
    own, *rest = map(str, names)
    known = getattr(builtins, own, None)
    if isinstance(known, type) and issubclass(known, Exception):
        return known
    if not rest:
        return RuntimeError
    place = (own, *rest)
    if place not in _errors:
        _errors[place] = type(own, (error_named(rest),), {})
    return _errors[place]
