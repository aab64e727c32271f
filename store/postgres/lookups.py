"""Finding a request's facts: its day by its key, then one index probe in that day's partition.

The probes are lateral with ``OFFSET 0``, which the planner does not flatten into a join. It prices
an array as ten keys and every partition as searched, and would read whole tables instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, select, true
from sqlalchemy.sql.selectable import LateralFromClause

from store.postgres.batch import any_of
from store.postgres.tables import embeddings, request_keys


def facts_of(table: Table, request_ids: Collection[str], *extra: ColumnElement[Any]) -> Select[Any]:
    """Select the rows of a day table that belong to those requests, and columns of their keys."""
    held = probe(table, request_keys)
    return (
        select(held, *extra)
        .join_from(request_keys, held, true())
        .where(request_keys.c.request_id == any_of(request_ids))
    )


def with_vectors(chosen: FromClause, *, encoder: str) -> Select[Any]:
    """Select sampled decisions, by ``seq``, with their embeddings by that encoder."""
    vector = probe(embeddings, chosen, embeddings.c.encoder_hash == encoder)
    return (
        select(chosen, vector.c.vector_fp16)
        .join_from(chosen, vector, true())
        .order_by(chosen.c.seq)
    )


def has_vector(facts: Table, encoder: str) -> ColumnElement[bool]:
    """Hold for rows of a day table whose request that encoder embedded; erased ones have none."""
    return (
        select(1)
        .where(
            embeddings.c.day == facts.c.day,
            embeddings.c.request_id == facts.c.request_id,
            embeddings.c.encoder_hash == encoder,
        )
        .exists()
    )


def probe(table: Table, source: FromClause, *only: ColumnElement[bool]) -> LateralFromClause:
    """Return a day table's row of each row of ``source``, which has ``day`` and ``request_id``."""
    held = select(table).where(
        table.c.day == source.c.day, table.c.request_id == source.c.request_id, *only
    )
    return held.offset(0).correlate(source).lateral("held")
