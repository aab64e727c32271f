"""What describes experts, and what became of them, on PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from store.describing import (
    Descriptor,
    DescriptorKind,
    ProbeAnswer,
    loaded_vector,
    stored_vector,
)
from store.lives import FirstRoute, Share, Step
from store.newer import known_or_newer
from store.postgres.describing_tables import expert_descriptors, expert_steps, probe_answers
from store.postgres.labels import IS_LEFT_OUT
from store.postgres.partitions import listed
from store.postgres.rows import utc
from store.postgres.tables import decisions, labels
from store.records import OUTSIDE_PROMISE, TRAFFIC, ExpertId, ExpertStatus, Reason, day_of


class PostgresDescribing:
    """``store.describing.Describing``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(self, descriptor: Descriptor) -> None:
        said = {
            "dimension": len(descriptor.vector),
            "vector_f32": stored_vector(descriptor.vector),
            "made_at": descriptor.made_at,
            "details": dict(descriptor.details),
        }
        key = {"expert": descriptor.expert, "kind": descriptor.kind, "recipe": descriptor.recipe}
        kept = insert(expert_descriptors).values(**key, **said)
        self._connection.execute(
            kept.on_conflict_do_update(constraint=expert_descriptors.primary_key, set_=said)
        )

    def descriptors(self, expert: ExpertId | None = None) -> list[Descriptor]:
        held = expert_descriptors.c
        found = select(expert_descriptors).order_by(
            held.expert.collate("C"), held.kind.collate("C"), held.recipe.collate("C")
        )
        if expert is not None:
            found = found.where(held.expert == expert)
        return [_descriptor(row) for row in self._connection.execute(found).mappings()]

    def answer(self, answer: ProbeAnswer) -> bool:
        said = {
            "text_utf8": None if answer.text is None else answer.text.encode(errors="replace"),
            "grade": answer.grade,
            "cost_usd": answer.cost_usd,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "answered_at": answer.answered_at,
        }
        key = {"expert": answer.expert, "probe_set": answer.probe_set, "number": answer.number}
        stored = (
            insert(probe_answers)
            .values(**key, **said)
            .on_conflict_do_update(
                constraint=probe_answers.primary_key,
                set_=said,
                where=probe_answers.c.text_utf8.is_(None),
            )
            .returning(probe_answers.c.number)
        )
        return self._connection.scalar(stored) is not None

    def answers(self, expert: ExpertId, *, probe_set: str) -> list[ProbeAnswer]:
        held = probe_answers.c
        found = (
            select(probe_answers)
            .where(held.expert == expert, held.probe_set == probe_set)
            .order_by(held.number)
        )
        return [_answer(row) for row in self._connection.execute(found).mappings()]

    def spent(self, expert: ExpertId) -> tuple[int, float]:
        held = probe_answers.c
        total = select(func.count(), func.coalesce(func.sum(held.cost_usd), 0.0))
        count, cost = self._connection.execute(total.where(held.expert == expert)).one()
        return count, cost

    def drop_texts(self, *, before: datetime, limit: int) -> int:
        held = probe_answers.c
        key = tuple_(held.expert, held.probe_set, held.number)
        old = select(held.expert, held.probe_set, held.number).where(
            held.answered_at < before, held.text_utf8.is_not(None)
        )
        dropped = update(probe_answers).where(key.in_(old.limit(limit))).values(text_utf8=None)
        return self._connection.execute(dropped).rowcount

    def forget(self, expert: ExpertId) -> int:
        return sum(
            self._connection.execute(delete(table).where(table.c.expert == expert)).rowcount
            for table in (expert_descriptors, probe_answers)
        )


class PostgresLives:
    """``store.lives.Lives``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def steps(self, expert: ExpertId) -> list[Step]:
        held = expert_steps.c
        found = select(held.status, held.at).where(held.expert == expert).order_by(held.step_id)
        return [
            Step(known_or_newer(ExpertStatus, row.status), utc(row.at))
            for row in self._connection.execute(found)
        ]

    def first_route(self, expert: ExpertId, *, since: datetime) -> FirstRoute | None:
        """Days are looked through one after the other, by time of the decision: there is no index
        on experts, and the first day as a rule holds the first route.
        """
        made = decisions.c
        is_routed = _routed(since)
        for day in listed(self._connection):
            if day < day_of(since):
                continue
            found = (
                select(made.decided_at, made.state_version)
                .where(is_routed, made.day == day, made.expert == expert)
                .order_by(made.seq)
                .limit(1)
            )
            if (row := self._connection.execute(found).one_or_none()) is not None:
                return FirstRoute(at=utc(row.decided_at), state_version=row.state_version)
        return None

    def share(self, expert: ExpertId, *, since: datetime) -> Share:
        made = decisions.c
        own = made.expert == expert
        counted = select(
            func.count().filter(own),
            func.count().filter(own, made.reason == Reason.RAMP),
            func.count(),
        ).where(_routed(since))
        served, ramped, total = self._connection.execute(counted).one()
        return Share(served=served, ramped=ramped, decisions=total)

    def labels(self, expert: ExpertId, *, since: datetime, until: datetime) -> int:
        given = labels.c
        counted = select(func.count(given.request_id.distinct())).where(
            given.day >= day_of(since - timedelta(days=1)),
            given.expert == expert,
            given.purpose == TRAFFIC,
            given.labelled_at.between(since, until),
            ~IS_LEFT_OUT,
        )
        return self._connection.scalar(counted) or 0


def record_step(
    connection: Connection, expert: ExpertId, status: ExpertStatus, *, at: datetime
) -> None:
    """Add a status to an expert's history, in the transaction that gives it that status."""
    connection.execute(insert(expert_steps).values(expert=expert, status=status, at=at))


def _routed(since: datetime) -> ColumnElement[bool]:
    made = decisions.c
    return and_(
        made.day >= day_of(since), made.decided_at >= since, made.reason.not_in(OUTSIDE_PROMISE)
    )


def _descriptor(row: RowMapping) -> Descriptor:
    return Descriptor(
        expert=ExpertId(row["expert"]),
        kind=known_or_newer(DescriptorKind, row["kind"]),
        recipe=row["recipe"],
        vector=loaded_vector(row["vector_f32"], row["dimension"]),
        made_at=utc(row["made_at"]),
        details=row["details"],
    )


def _answer(row: RowMapping) -> ProbeAnswer:
    text = row["text_utf8"]
    return ProbeAnswer(
        expert=ExpertId(row["expert"]),
        probe_set=row["probe_set"],
        number=row["number"],
        text=None if text is None else text.decode(),
        grade=row["grade"],
        cost_usd=row["cost_usd"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        answered_at=utc(row["answered_at"]),
    )
