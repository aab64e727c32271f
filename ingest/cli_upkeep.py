"""``steersman retention`` and ``steersman erase``: what the ledger gives up, on purpose."""

from __future__ import annotations

from typing import Annotated

import typer

from ingest.cli_opening import opened_backbone


def retention(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for a scheduler.")] = False,
) -> None:
    """Drop facts, texts and ids older than STEERSMAN_RETENTION_* says; run it daily.

    Nothing that learning, a judge task or an unpublished message needs is dropped. Topics keep
    their own copies until their retention: see docs/retention.md.
    """
    from ingest.retention import Retention, told  # noqa: PLC0415

    with opened_backbone() as backbone:
        work = Retention(backbone.ledger, backbone.clock, backbone.settings.retention)
        with work.alone():
            plan = work.plan()
            typer.echo("\n".join(told(plan)))
            if dry_run:
                return
            if not yes:
                typer.confirm("Drop this for good?", abort=True)
            for line in work.carry_out(plan):
                typer.echo(line)


def erase(
    tenant: Annotated[str, typer.Option(help="Whose requests.")],
    session: Annotated[str, typer.Option(help="Only this session_id; default: all.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase the texts and embeddings of a tenant's or one session's requests; facts stay.

    Example: steersman erase --tenant acme --session 7f3a

    Safe to repeat, and to be repeated once answers that are under way have come in. Kafka topics,
    dead letters among them, keep what they hold until their retention, backups and the embedding
    cache until they are deleted: see docs/retention.md.
    """
    from ingest.retention import erase_texts  # noqa: PLC0415

    with opened_backbone() as backbone:
        whose = f"session {session!r} of tenant {tenant!r}" if session else f"tenant {tenant!r}"
        if not yes:
            typer.confirm(f"Erase the texts of {whose} for good?", abort=True)
        for line in erase_texts(
            backbone.ledger, backbone.clock, tenant=tenant, session_id=session or None
        ):
            typer.echo(line)
