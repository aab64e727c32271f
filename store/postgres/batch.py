"""Set-based writes: one statement for any number of rows, by ``unnest`` over one array a column.

``executemany`` and multi-row ``VALUES`` send more statements or a new text for each batch size;
arrays keep one prepared statement.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.expression import CollectionAggregate
from sqlalchemy.types import TypeEngine

Row = Mapping[str, object]


def given(rows: Sequence[Row], columns: Sequence[Column[Any]]) -> FromClause:
    """Return the rows as a table ``given``, with their number in ``ord`` (from 1).

    JSON travels as text and ``value`` casts it back: an array of JSON would be parsed twice.
    """
    arrays = [_array(rows, one) for one in columns]
    names = [column(one.name, _wire_type(one)) for one in columns]
    table = func.unnest(*arrays).table_valued(*names, with_ordinality="ord", name="given")
    return table.render_derived()


def value(source: FromClause, target: Column[Any]) -> ColumnElement[Any]:
    """Return a column of ``given`` in the type of the column it goes to."""
    held: ColumnElement[Any] = source.c[target.name]
    return cast(held, JSONB) if isinstance(target.type, JSONB) else held


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows with the columns of the first one, in key order; those that exist stay."""
    columns = [table.c[name] for name in rows[0]]
    source = given(rows, columns)
    key = [source.c[one.name] for one in table.primary_key]
    ordered = select(*[value(source, one) for one in columns]).order_by(*key)
    names = [one.name for one in columns]
    connection.execute(insert(table).from_select(names, ordered).on_conflict_do_nothing())


def any_of(names: Collection[str]) -> CollectionAggregate[bool]:
    """Return ``ANY(array)``: one statement for any number of names, unlike ``IN``."""
    return any_(cast(literal(list(names), ARRAY(Text)), ARRAY(Text)))


def _wire_type(target: Column[Any]) -> TypeEngine[Any]:
    return Text() if isinstance(target.type, JSONB) else target.type


def _array(rows: Sequence[Row], target: Column[Any]) -> ColumnElement[Any]:
    values: list[object] = [row[target.name] for row in rows]
    if isinstance(target.type, JSONB):
        values = [None if one is None else json.dumps(one, allow_nan=False) for one in values]
    array_type: ARRAY[Any] = ARRAY(_wire_type(target))
    return cast(literal(values, array_type), array_type)
