"""``steersman judge tasks`` and ``retry``: what waits for the judge, what it gave up, and why."""

from __future__ import annotations

import json as json_text
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from ingest.cli_opening import opened_backbone, printable
from store.errors import NotFound
from store.records import JsonObject, JudgeTask, TaskStatus

LONGEST_ERROR = 200
MOST = 10_000
LAST_ID = 2**63 - 1


def tasks(
    status: Annotated[TaskStatus | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(help="Show the newest so many.", min=1, max=MOST)] = 20,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print judge tasks, the newest first, and why those that failed did.

    Example: steersman judge tasks --status dead

    A pending task with an error was given back and waits for another try; a dead one was tried
    five times, or cannot be done. Never prints the text of a prompt or an answer.
    """
    with opened_backbone() as backbone:
        with backbone.ledger.begin() as tx:
            found, counts = tx.tasks.listed(status=status, limit=limit), tx.tasks.counts()
        now = backbone.clock.now()
    if json:
        whole = {"counts": counts, "tasks": [_fields(task, now) for task in found]}
        typer.echo(json_text.dumps(whole, ensure_ascii=False, indent=2))
        return
    typer.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    typer.echo("\n".join(line for task in found for line in _told(task, now)), nl=bool(found))
    for error, count in Counter(_error(task) for task in found if task.last_error).most_common():
        typer.echo(f"{count:,} of the {len(found):,} shown: {error}")


def retry(
    ids: Annotated[
        list[int],
        typer.Argument(help="As `judge tasks --status dead` shows them.", min=1, max=LAST_ID),
    ],
) -> None:
    """Put dead judge tasks back, as if they had never been tried; mend the cause first.

    Example: steersman judge retry 4711 4712

    A label that a task brought stays, for the first of an answer counts: an expert that did not
    answer five times keeps its loss there.
    """
    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        retried = tx.tasks.retry(ids, actor="cli", now=backbone.clock.now())
    left = sorted(set(ids) - set(retried))
    typer.echo(f"{len(retried):,} tasks wait for a judge again")
    if left:
        raise NotFound("not_dead", f"no dead task has the id {', '.join(map(str, left))}")


def _fields(task: JudgeTask, now: datetime) -> JsonObject:
    return {
        "task_id": task.task_id,
        "status": str(task.status),
        "request_id": task.request_id,
        "experts": list(task.experts),
        "tenant": task.tenant,
        "purpose": task.purpose,
        "attempts": task.attempts,
        "age_s": round(_age_s(task, now)),
        "last_error": task.last_error,
    }


def _told(task: JudgeTask, now: datetime) -> Sequence[str]:
    whose = f"{printable(task.request_id)} of {printable(task.tenant)}"
    head = (
        f"{task.task_id}  {task.status}  {whose}  {task.purpose}: {', '.join(task.experts) or '-'}"
        f"  {task.attempts} attempts, {_age(_age_s(task, now))} old"
    )
    return [head, f"    {_error(task)}"] if task.last_error else [head]


def _error(task: JudgeTask) -> str:
    text = printable(task.last_error or "")
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"


def _age_s(task: JudgeTask, now: datetime) -> float:
    return max(0.0, (now - task.created_at).total_seconds())


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
