"""Budgets of money on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Column, Connection, func, select, text, update

from store.money import Budget, Spent
from store.postgres.batch import any_of
from store.postgres.spent import spent
from store.postgres.tables import budgets as held_budgets

_held = held_budgets.c
_RESERVE = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:limits AS bigint[])) AS g (kind, most)
    ), held AS (
        SELECT kind, used FROM budgets
        WHERE day = :day AND kind = ANY(CAST(:kinds AS text[])) ORDER BY kind FOR UPDATE
    ), room AS (
        SELECT count(*) AS budgets FROM held JOIN given USING (kind)
        WHERE held.used + CAST(:amount AS bigint) <= given.most
    ), taken AS (
        UPDATE budgets SET used = used + CAST(:amount AS bigint),
            granted = granted + CAST(:amount AS bigint)
        WHERE day = :day AND kind = ANY(CAST(:kinds AS text[]))
            AND (SELECT budgets FROM room) = cardinality(CAST(:kinds AS text[]))
        RETURNING kind
    )
    SELECT (SELECT count(*) FROM held) AS found, (SELECT count(*) FROM taken) AS taken
""")
"""Rows are locked in the order of their kinds before they are compared with the limits: what is
compared is what everyone has used by now. Of money ``granted`` is what is reserved and not settled.
"""
_OPEN = text("""
    INSERT INTO budgets (kind, day, used, granted)
    SELECT kind, :day, 0, 0 FROM unnest(CAST(:kinds AS text[])) AS g (kind) ORDER BY kind
    ON CONFLICT (kind, day) DO UPDATE SET used = budgets.used
""")
"""Locks the rows that are there, in the order of their kinds: two first calls that each hold one
row and wait for the other's would never end."""


class PostgresMoney:
    """``store.money.Money``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reserve(self, budgets: Sequence[Budget], *, day: str, amount: int) -> bool:
        found, taken = self._reserved(budgets, day, amount)
        if found < len(budgets):  # a day's first call
            kinds = [budget.kind for budget in budgets]
            self._connection.execute(_OPEN, {"kinds": kinds, "day": day})
            _, taken = self._reserved(budgets, day, amount)
        return taken == len(budgets)

    def _reserved(self, budgets: Sequence[Budget], day: str, amount: int) -> tuple[int, int]:
        """Return how many of the budgets have a row for the day, and from how many was taken."""
        sent = {
            "kinds": [budget.kind for budget in budgets],
            "limits": [budget.limit for budget in budgets],
            "day": day,
            "amount": amount,
        }
        row = self._connection.execute(_RESERVE, sent).one()
        return row.found, row.taken

    def settle(self, kinds: Collection[str], *, day: str, reserved: int, cost: int) -> None:
        mine = (_held.day == day, _held.kind == any_of(kinds))
        locked = select(_held.kind).where(*mine).order_by(_held.kind).with_for_update().cte()
        settled = (
            update(held_budgets)
            .where(_held.day == day, _held.kind.in_(select(locked.c.kind)))
            .values(
                used=func.greatest(0, _held.used + (cost - reserved)),
                granted=func.greatest(0, _held.granted - reserved),
            )
        )
        self._connection.execute(settled)

    def used(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        return self._read(_held.used, kinds, day)

    def under_way(self, kinds: Collection[str], *, day: str) -> dict[str, int]:
        return self._read(_held.granted, kinds, day)

    def _read(self, amount: Column[int], kinds: Collection[str], day: str) -> dict[str, int]:
        found = select(_held.kind, amount).where(_held.day == day, _held.kind == any_of(kinds))
        rows = {row[0]: row[1] for row in self._connection.execute(found)}
        return {kind: rows.get(kind, 0) for kind in kinds}

    def spent(self, versions: Collection[str], *, since: datetime) -> list[Spent]:
        return spent(self._connection, versions, since=since)
