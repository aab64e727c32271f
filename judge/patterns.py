"""Regular expressions of strangers on texts of strangers, in Python's syntax: bounded."""

from __future__ import annotations

import math

import regex

CHARACTERS = 1_000
SECONDS = 1.0
"""What a pattern may take on one text; more, and nobody can tell."""

UNROLLED = 300_000
"""Length of a pattern times all its counts in braces: nested ones are unrolled when it is read, at
some 140 bytes for each of these."""

_BRACES = regex.compile(r"\{[^{}]*\}?")
_RECURSION = regex.compile(r"(?<!\\)(?:\\\\)*\(\?(?:R|[+-]?[0-9]+|&\w+|P>\w+)\)")


def problem_of(pattern: str) -> str | None:
    """Return why a pattern cannot be used, None if it can; quotes nothing of it."""
    if len(pattern) > CHARACTERS:
        return f"has more than {CHARACTERS} characters"
    if _RECURSION.search(pattern):
        return "calls itself, which can take any amount of memory"
    if len(pattern) * math.prod(map(_count, _BRACES.findall(pattern))) > UNROLLED:
        return "has counts in braces that multiply to too much; use * or +"
    try:
        regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError, MemoryError):
        return "is no regular expression that Python can read"
    return None


def is_whole(pattern: str, text: str) -> bool | None:
    """Return whether a pattern matches all of a text; None if that takes too much."""
    try:
        return regex.fullmatch(pattern, text, timeout=SECONDS) is not None
    except (TimeoutError, MemoryError):
        return None


def is_in(pattern: str, text: str, *, seconds: float = SECONDS) -> bool | None:
    """Return whether a pattern matches somewhere in a text; None if that takes too much."""
    try:
        return regex.search(pattern, text, timeout=max(seconds, 1e-3)) is not None
    except (TimeoutError, MemoryError):
        return None


def _count(braces: str) -> int:
    """Return the largest number between braces, 1 if there is none."""
    return max((int(digits[:9]) for digits in regex.findall("[0-9]+", braces)), default=0) or 1
