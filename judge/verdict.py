"""Reading a verdict: one JSON object, or none. What is unclear is never taken for a tie."""

from __future__ import annotations

import json

from store.errors import VerdictUnreadable
from store.records import JsonObject

_PREFERENCES = {"A": 1.0, "B": 0.0, "tie": 0.5}
_FENCE = "```"

VERDICT_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"winner": {"type": "string", "enum": list(_PREFERENCES)}},
    "required": ["winner"],
    "additionalProperties": False,
}
"""What a verdict is, for endpoints that can hold a reply to a JSON Schema."""


def read_verdict(said: str) -> float:
    """Return the preference in a judge's reply: 1 for answer A, 0.5 for a tie, 0 for B.

    A code fence around the object is forgiven, as are further members: models add both unasked.

    Raises
    ------
    VerdictUnreadable
        The reply is anything else. The message holds nothing of it, since judges quote answers.
    """
    try:
        members = json.loads(_unfenced(said), object_pairs_hook=list)
    except (ValueError, RecursionError) as problem:
        raise VerdictUnreadable("the reply is not one JSON object") from problem
    # Objects come as lists of pairs, so that a second "winner" is seen; arrays do too.
    named = [
        pair[1]
        for pair in (members if isinstance(members, list) else [])
        if isinstance(pair, tuple) and pair[0] == "winner"
    ]
    if len(named) != 1:
        raise VerdictUnreadable(f"the reply names a winner {len(named)} times")
    winner = named[0]
    if not isinstance(winner, str) or winner not in _PREFERENCES:
        raise VerdictUnreadable("the winner is none of A, B and tie")
    return _PREFERENCES[winner]


def _unfenced(said: str) -> str:
    text = said.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        return text[text.index("\n") : -len(_FENCE)]
    return text
