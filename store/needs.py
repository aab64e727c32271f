"""What an expert can do and what a request needs; ``online/obstacles.py`` compares them.

What is stored was written by this or another version of the program: fields that it lacks get
their defaults, fields that are unknown here are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from store.errors import EventRejected

LARGEST_TOKENS = 2**31 - 1
"""What the ledger can hold; no model reads or writes as many."""
REGIONS = 32
"""Regions that an expert may declare or a request may allow."""
REGION_CHARACTERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an expert declares.

    A limit that is not declared is none. An ability that is not declared is not there: a request
    that asks for it would fail, or its prompt leave the regions it may be processed in.
    """

    context_tokens: int | None = None
    """Tokens of prompt and answer together."""
    max_output_tokens: int | None = None
    tools: bool = False
    json_mode: bool = False
    regions: tuple[str, ...] = ()
    """Where a prompt may be processed; empty: not declared."""

    @property
    def is_limited(self) -> bool:
        """Return whether a request that asks for nothing special may still not fit."""
        return self.context_tokens is not None or self.max_output_tokens is not None

    def to_json(self) -> dict[str, object]:
        """Return what is stored."""
        return asdict(self) | {"regions": list(self.regions)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return what was stored; None is an expert that declared nothing."""
        held = stored or {}
        return cls(
            context_tokens=held.get("context_tokens"),
            max_output_tokens=held.get("max_output_tokens"),
            tools=bool(held.get("tools", False)),
            json_mode=bool(held.get("json_mode", False)),
            regions=tuple(held.get("regions", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a request needs of whoever serves it."""

    tools: bool = False
    json_mode: bool = False
    regions: tuple[str, ...] | None = None
    """Where the prompt may be processed; None: anywhere."""
    output_tokens: int | None = None
    """Length of the answer that the sender expects; None: not said."""
    allowed: tuple[str, ...] | None = None
    """Experts that may serve; None: every one."""
    input_tokens: int = 0
    """The prompt's, estimated with headroom; 0 before it was counted."""

    @property
    def is_stated(self) -> bool:
        """Return whether the sender asked for anything."""
        return (
            self.tools
            or self.json_mode
            or self.regions is not None
            or self.output_tokens is not None
            or self.allowed is not None
        )

    def to_json(self) -> dict[str, object]:
        """Return what is stored."""
        lists = {n: None if (v := getattr(self, n)) is None else list(v) for n in _LISTS}
        return asdict(self) | lists

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return what was stored; None is a request decided before needs were kept."""
        held = stored or {}
        lists = {n: None if held.get(n) is None else tuple(held[n]) for n in _LISTS}
        return cls(
            tools=bool(held.get("tools", False)),
            json_mode=bool(held.get("json_mode", False)),
            output_tokens=held.get("output_tokens"),
            input_tokens=int(held.get("input_tokens", 0)),
            **lists,
        )


_LISTS = ("regions", "allowed")


def check_capabilities(declared: Capabilities) -> Capabilities:
    """Return what an expert declares, or raise ``EventRejected`` naming the part that is wrong."""
    for name in ("context_tokens", "max_output_tokens"):
        limit = getattr(declared, name)
        if limit is not None and not 1 <= limit <= LARGEST_TOKENS:
            raise _refused(name, f"must be from 1 to {LARGEST_TOKENS}, or not declared")
    if len(declared.regions) > REGIONS:
        raise _refused("regions", f"has more than {REGIONS} names")
    for region in declared.regions:
        if not 0 < len(region) <= REGION_CHARACTERS or not region.isprintable():
            raise _refused("regions", f"holds no name of 1 to {REGION_CHARACTERS} characters")
    return declared


def _refused(name: str, problem: str) -> EventRejected:
    return EventRejected(
        "bad_capabilities", f"capabilities.{name} {problem}", field=f"capabilities.{name}"
    )


NO_NEEDS = Needs()
UNDECLARED = Capabilities()
