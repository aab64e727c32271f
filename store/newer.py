"""Reading what a newer version of the program wrote, while both run beside each other."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=StrEnum)


def known_or_newer(kind: type[E], value: str) -> E:
    """Return the member of that value; one that this version does not know keeps its value.

    Such a member equals no other: an expert of an unknown status is neither routed to nor judged,
    a decision for an unknown reason is shown with it. For rows of the ledger only: input is
    checked, and a routing state with a word that cannot be understood is refused as a whole, so
    that the last good one stays in force.
    """
    try:
        return kind(value)
    except ValueError:
        newer = str.__new__(kind, value)
        newer._name_ = newer._value_ = value
        return newer
