"""Settings from the environment: a frozen dataclass in, every problem reported at once.

``STEERSMAN_HTTP_PORT`` is field ``port`` of the dataclass in field ``http`` of the one that was
read with prefix ``STEERSMAN``. A field's help is the first sentence of the docstring under it (or
its metadata ``help``); metadata ``secret=True`` keeps a value out of every message and listing.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from store.errors import SettingsInvalid

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PREFIX = "STEERSMAN"
SettingsT = TypeVar("SettingsT", bound="DataclassInstance")


class Variable(NamedTuple):
    """One environment variable as documented."""

    name: str
    kind: str
    default: str
    """``required`` when there is none; ``(secret)`` in place of a secret's default."""
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """A field, the variable it is read from and the type it becomes."""

    field: Field[Any]
    variable: str
    kind: Any
    owner: type

    @property
    def is_group(self) -> bool:
        return is_dataclass(self.kind)

    @property
    def is_secret(self) -> bool:
        return bool(self.field.metadata.get("secret", False))


def read(
    cls: type[SettingsT], environment: Mapping[str, str], *, prefix: str = PREFIX
) -> SettingsT:
    """Return ``cls`` filled from the variables that begin with ``prefix``.

    Raises
    ------
    SettingsInvalid
        Lists every unreadable, missing, forbidden and unknown variable, with the nearest valid
        name for an unknown one.
    """
    problems: list[str] = []
    settings = _filled(cls, environment, prefix, problems)
    valid = [slot.variable for slot in _leaves(cls, prefix)]
    for name in sorted(environment):
        if name.startswith(f"{prefix}_") and name not in valid:
            near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
            problems.append(f"{name} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
    if problems or settings is None:
        raise SettingsInvalid("\n".join(problems))
    return settings


def describe(cls: type[DataclassInstance], *, prefix: str = PREFIX) -> Iterator[Variable]:
    """Yield every variable of ``cls`` in the order of its fields."""
    for slot in _leaves(cls, prefix):
        yield Variable(slot.variable, _kind_name(slot.kind), _shown_default(slot), _help(slot))


def shown(settings: DataclassInstance, *, prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    """Yield variable and value in force, secrets as ``(secret)``: for people and logs."""
    for slot in _slots(type(settings), prefix):
        value = getattr(settings, slot.field.name)
        if slot.is_group:
            yield from shown(value, prefix=slot.variable)
        else:
            yield slot.variable, _text(slot, value)


def _slots(cls: type[DataclassInstance], prefix: str) -> list[_Slot]:
    hints = hints_of(cls)
    return [
        _Slot(
            field=field,
            variable=f"{prefix}_{field.name.upper()}",
            kind=hints[field.name],
            owner=cls,
        )
        for field in fields(cls)
    ]


def _leaves(cls: type[DataclassInstance], prefix: str) -> Iterator[_Slot]:
    for slot in _slots(cls, prefix):
        if slot.is_group:
            yield from _leaves(slot.kind, slot.variable)
        else:
            yield slot


def _filled(
    cls: type[SettingsT], environment: Mapping[str, str], prefix: str, problems: list[str]
) -> SettingsT | None:
    """Build ``cls``; on problems, note them and use defaults so that later ones are seen too."""
    values: dict[str, object] = {}
    complete = True
    for slot in _slots(cls, prefix):
        if slot.is_group:
            group = _filled(slot.kind, environment, slot.variable, problems)
            if group is not None:
                values[slot.field.name] = group
            complete = complete and (group is not None or not _is_required(slot.field))
            continue
        text = environment.get(slot.variable)
        try:
            if text is not None:
                values[slot.field.name] = _parsed(text, slot.kind)
            elif _is_required(slot.field):
                problems.append(f"{slot.variable} must be set ({_kind_name(slot.kind)})")
                complete = False
        except ValueError:
            got = "(secret)" if slot.is_secret else repr(text)
            problems.append(f"{slot.variable} must be {_expected(slot.kind)}, got {got}")
            complete = complete and not _is_required(slot.field)
    if not complete:
        return None
    try:
        return cls(**values)
    except (SettingsInvalid, ValueError) as refused:
        problems.append(f"{prefix}_*: {refused}")
        return None


def _parsed(text: str, kind: Any) -> object:
    """Return the value of ``text``; ValueError when it cannot be read as ``kind``."""
    inner, is_optional = _unwrapped(kind)
    if is_optional and not text:
        return None
    if get_origin(inner) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if inner is bool:
        return _BOOLEANS[text.lower()] if text.lower() in _BOOLEANS else _refuse(text)
    if inner is float:
        number = float(text)
        return number if math.isfinite(number) else _refuse(text)
    if inner is Path and not text:
        return _refuse(text)
    if inner in (str, int, Path):
        return inner(text)
    raise TypeError(f"settings cannot hold {kind}")


_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    Path: "a path",
}


def _refuse(text: str) -> object:
    raise ValueError(text)


def _unwrapped(kind: Any) -> tuple[Any, bool]:
    """Return the type inside ``X | None`` and a ``NewType``, and whether None is allowed."""
    is_optional = False
    if get_origin(kind) in (Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not types.NoneType]
        is_optional = len(inner) < len(get_args(kind))
        kind = inner[0]
    return getattr(kind, "__supertype__", kind), is_optional


def _kind_name(kind: Any) -> str:
    inner, is_optional = _unwrapped(kind)
    name = "list, comma-separated" if get_origin(inner) is tuple else inner.__name__.lower()
    return f"{name}, may be empty" if is_optional else name


def _expected(kind: Any) -> str:
    return _EXPECTED.get(_unwrapped(kind)[0], _kind_name(kind))


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _shown_default(slot: _Slot) -> str:
    if _is_required(slot.field):
        return "required"
    if slot.field.default is not MISSING:
        return _text(slot, slot.field.default)
    factory = slot.field.default_factory
    # A made default (host name, time) differs by machine, so documentation shows its maker.
    return str(slot.field.metadata.get("default", getattr(factory, "__name__", "computed")))


def _text(slot: _Slot, value: object) -> str:
    if value is None or value in ("", ()):
        return ""
    if slot.is_secret:
        return "(secret)"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _help(slot: _Slot) -> str:
    given = slot.field.metadata.get("help")
    text = str(given) if given else _attribute_docstrings(slot.owner).get(slot.field.name, "")
    first, stop, _ = " ".join(text.split()).partition(". ")
    return first + "." if stop else first


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the string under each annotated field: Python does not keep it, its source does."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    if not isinstance(tree, ast.ClassDef):
        return {}
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[before.target.id] = after.value.value
    return found
