"""Erasing one user's texts and embeddings of one day: row by row, for it is a few rows."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection, text

from store.upkeep import Erased

_THEIRS = (
    "(SELECT request_id FROM prompts WHERE day = :day AND tenant = :tenant"
    " AND (CAST(:session AS text) IS NULL OR session_id = :session))"
)
_ANSWERS = (
    "UPDATE {table} SET text_utf8 = NULL"  # noqa: S608  ours
    f" WHERE day = :day AND text_utf8 IS NOT NULL AND request_id IN {_THEIRS}"
)
_STEPS = {
    "responses": text(_ANSWERS.format(table="responses")),
    "shadow_answers": text(_ANSWERS.format(table="shadow_answers")),
    "embeddings": text(
        f"DELETE FROM embeddings WHERE day = :day AND request_id IN {_THEIRS}"  # noqa: S608  ours
    ),
    "comments": text(
        "UPDATE feedback SET comment = NULL"  # noqa: S608  ours
        f" WHERE comment IS NOT NULL AND request_id IN {_THEIRS}"
    ),
    "parked_responses": text(
        "UPDATE parked_responses SET text_utf8 = NULL, original = ''"  # noqa: S608  ours
        f" WHERE original <> '' AND request_id IN {_THEIRS}"
    ),
    "prompts": text(
        "UPDATE prompts SET text_utf8 = NULL, check_utf8 = NULL"  # noqa: S608  ours
        f" WHERE day = :day AND text_utf8 IS NOT NULL AND request_id IN {_THEIRS}"
    ),
}


def erase_user(connection: Connection, day: date, *, tenant: str, session_id: str | None) -> Erased:
    """Set texts to null and remove embeddings; return how many there were."""
    whose = {"day": day, "tenant": tenant, "session": session_id}
    return Erased(**{name: connection.execute(s, whose).rowcount for name, s in _STEPS.items()})
