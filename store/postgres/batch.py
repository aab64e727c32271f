"""Set-based writes: one statement for any number of rows, by ``unnest`` over one array a column.

``executemany`` and multi-row ``VALUES`` send more statements or a new text for each batch size;
arrays keep one prepared statement.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.sql.expression import CollectionAggregate
from sqlalchemy.types import TypeEngine

Row = Mapping[str, object]


def given(columns: Sequence[Column[Any]]) -> FromClause:
    """Return the table ``given`` of the rows that ``arrays`` sends, numbered by ``ord`` (from 1).

    JSON travels as text and ``value`` casts it back: an array of JSON would be parsed twice.
    """
    sent = []
    for one in columns:
        array_type: ARRAY[Any] = ARRAY(_wire_type(one))
        sent.append(cast(bindparam(f"{one.name}_array", type_=array_type), array_type))
    names = [column(one.name, _wire_type(one)) for one in columns]
    table = func.unnest(*sent).table_valued(*names, with_ordinality="ord", name="given")
    return table.render_derived()


def arrays(rows: Sequence[Row], columns: Sequence[Column[Any]]) -> dict[str, list[object]]:
    """Return the parameters of a statement over ``given(columns)``."""
    sent: dict[str, list[object]] = {}
    for one in columns:
        values = [row[one.name] for row in rows]
        if isinstance(one.type, JSONB):
            values = [None if v is None else json.dumps(v, allow_nan=False) for v in values]
        sent[f"{one.name}_array"] = values
    return sent


def value(source: FromClause, target: Column[Any]) -> ColumnElement[Any]:
    """Return a column of ``given`` in the type of the column it goes to."""
    held: ColumnElement[Any] = source.c[target.name]
    return cast(held, JSONB) if isinstance(target.type, JSONB) else held


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows with the columns of the first one, in key order; those that exist stay."""
    names = tuple(rows[0])
    columns = [table.c[name] for name in names]
    connection.execute(_insert_new(table, names), arrays(rows, columns))


def insert_returning_new(
    connection: Connection, table: Table, rows: Sequence[Row]
) -> set[tuple[object, ...]]:
    """Insert as ``insert_new`` does; return the keys of the rows that did not exist."""
    names = tuple(rows[0])
    columns = [table.c[name] for name in names]
    added = _insert_new(table, names).returning(*table.primary_key)
    return {tuple(row) for row in connection.execute(added, arrays(rows, columns))}


@cache  # building a statement takes longer than a small one runs
def _insert_new(table: Table, names: tuple[str, ...]) -> Insert:
    columns = [table.c[name] for name in names]
    source = given(columns)
    key = [source.c[one.name] for one in table.primary_key]
    ordered = select(*[value(source, one) for one in columns]).order_by(*key)
    return insert(table).from_select(list(names), ordered).on_conflict_do_nothing()


def any_of(names: Collection[str]) -> CollectionAggregate[bool]:
    """Return ``ANY(array)``: one statement for any number of names, unlike ``IN``."""
    return any_(cast(literal(list(names), ARRAY(Text)), ARRAY(Text)))


def _wire_type(target: Column[Any]) -> TypeEngine[Any]:
    return Text() if isinstance(target.type, JSONB) else target.type
