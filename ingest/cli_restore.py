"""``steersman rewind`` and ``steersman republish``: ledger and stream after one was restored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone, read_settings
from store.errors import SettingsInvalid

if TYPE_CHECKING:
    from ingest.backbone import Backbone
    from ingest.rewind import Found, Rewind

TIME = "%Y-%m-%dT%H:%M:%SZ"


def rewind(
    to: Annotated[
        datetime | None,
        typer.Option(
            formats=[TIME],
            help="Read again what was sent since, in UTC; default: an hour before the ledger ends."
            " An interrupted rewind goes on from where it began, whatever is asked.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Bring Kafka's consumers back behind a ledger that was restored from a backup.

    Example: steersman rewind --to 2026-11-25T09:30:00Z

    Decisions that were published since the backup are taken back into the ledger as they were;
    prompts without one, responses and feedback are consumed again. Stop every role first.
    Consumers that lagged by more than an hour at the time of the backup need an earlier --to.
    If serve has run since the restore, even for a moment, the ledger ends later than the backup
    did: give --to then, an hour before the backup.
    Safe to repeat, also when it was interrupted: whatever comes twice is recognised by its id. See
    docs/operations.md.
    """
    if not read_settings().kafka.bootstrap_servers:
        raise SettingsInvalid(
            "the embedded broker keeps its topics in memory, so there is nothing to read again:"
            " name a Kafka with STEERSMAN_KAFKA_BOOTSTRAP_SERVERS"
        )
    with opened_backbone() as backbone:
        work = _rewind(backbone)
        ends = work.ledgers_end()
        typer.echo(f"the ledger ends at {_told(ends)}" if ends else "the ledger is empty")
        since = work.since(to.replace(tzinfo=UTC) if to else None)
        typer.echo(f"reading what was sent since {_told(since)}")
        if dry_run:
            typer.echo(_said(work.look(since)))
            return
        work.check_nobody_reads()
        if not yes:
            typer.confirm("Take decisions back and move the consumers?", abort=True)
        found, moved = work.carry_out(since)
    typer.echo(_said(found))
    for role, places in moved.items():
        for (topic, partition), (before, after) in sorted(places.items()):
            typer.echo(f"{role}: {topic} {partition} from {before} back to {after}")
        if not places:
            typer.echo(f"{role}: nothing to move")


def _rewind(backbone: Backbone) -> Rewind:
    from ingest.broker_upkeep import KafkaGroups, KafkaReader  # noqa: PLC0415
    from ingest.rewind import Rewind  # noqa: PLC0415
    from online.encode import CachedEncoder, Encoder, SentenceEncoder  # noqa: PLC0415

    settings = backbone.settings

    def encoder() -> Encoder:
        return CachedEncoder(SentenceEncoder(settings.encoder), settings.embedding_cache)

    return Rewind(
        backbone.ledger,
        KafkaGroups(settings.kafka),
        KafkaReader(settings.kafka),
        encoder,
        backbone.clock,
        prefix=settings.kafka.topic_prefix,
        limit=settings.http.max_prompt_bytes,
    )


def republish(
    since: Annotated[
        datetime, typer.Option(formats=[TIME], help="Messages written since, in UTC.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Publish decisions, labels and alerts again, after a broker lost them or was replaced.

    Example: steersman republish --since 2026-11-25T09:30:00Z

    A running serve, judge or learn sends them within seconds. Consumers may get a message twice
    and recognise it by its id.
    """
    with opened_backbone() as backbone:
        if not yes:
            typer.confirm(f"Publish again what was written since {_told(since)}?", abort=True)
        with backbone.ledger.begin() as tx:
            count = tx.outbox.unmark(since=since.replace(tzinfo=UTC))
    typer.echo(f"{count} messages will be published again")


def _told(instant: datetime) -> str:
    return f"{instant:{TIME}}"


def _said(found: Found) -> str:
    return (
        f"prompts: {found.known} are in the ledger, {found.taken_back} were decided and published"
        f" and are taken back, {found.again} are to be decided again, {found.unreadable} were"
        " refused when they came"
    )
