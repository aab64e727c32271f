"""``steersman dlq``: what could not be used, and sending it again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import printable, read_settings
from ingest.topics import INBOUND, dead_letters_of, full_name

if TYPE_CHECKING:
    from ingest.letters import Choice, Letter
    from ingest.topics import KafkaSettings

letters_app = typer.Typer(
    help="Look at dead letters, the events that could not be used, and send them again.",
    no_args_is_help=True,
)
TopicName = Annotated[str, typer.Argument(help=f"One of {', '.join(INBOUND)}.")]
KEY_CHARACTERS = 40


@letters_app.command("list")
def dlq_list(
    limit: Annotated[int, typer.Option(help="Show the newest so many.", min=0)] = 20,
) -> None:
    """Print the dead letters of every topic, the newest first, and how many of each reason."""
    from ingest.broker_upkeep import KafkaReader  # noqa: PLC0415
    from ingest.letters import counted, letters_of  # noqa: PLC0415

    kafka = _broker()
    reader = KafkaReader(kafka)
    everything: list[Letter] = []
    for name in INBOUND:
        topic = full_name(name, prefix=kafka.topic_prefix)
        letters = letters_of(reader, dead_letters_of(topic))
        everything += letters
        replayed = sum(letter.was_replayed for letter in letters)
        what = f": {counted(letters)}; {replayed} replayed" if letters else ""
        typer.echo(f"{topic}: {len(letters)} dead letters{what}")
    newest = sorted(everything, key=lambda letter: letter.sent_at, reverse=True)[:limit]
    for letter in newest:
        typer.echo(_line(letter))


@letters_app.command("show")
def dlq_show(
    topic: TopicName,
    place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `dlq list` shows it.")],
    with_bytes: Annotated[
        bool,
        typer.Option("--bytes", help="Print the original bytes too: a user's prompt text, often."),
    ] = False,
) -> None:
    """Print the headers of one dead letter and, only with --bytes, its original bytes.

    This is the one command that shows prompt text. With --bytes the headers go to standard error,
    so that a file gets the bytes exactly; a terminal gets control characters escaped.

    Example: steersman dlq show prompts 3:17 --bytes > event.json
    """
    from ingest.broker_upkeep import KafkaReader  # noqa: PLC0415
    from ingest.letters import find, letters_of, original_of, place_of  # noqa: PLC0415

    kafka = _broker()
    reader = KafkaReader(kafka)
    dead = dead_letters_of(_inbound(topic, kafka))
    letter = find(letters_of(reader, dead), dead, place_of(place))
    facts = {"topic": letter.topic, "place": str(letter.place), "time": _time(letter)}
    facts |= {"key": letter.key, "bytes": str(letter.size), **letter.headers}
    for name, value in facts.items():
        typer.echo(f"{printable(name)}: {printable(value)}", err=with_bytes)
    if with_bytes:
        original = original_of(reader, letter)
        is_seen = sys.stdout.isatty()
        typer.echo(
            printable(original.decode(errors="replace")) if is_seen else original, nl=is_seen
        )


@letters_app.command("replay")
def dlq_replay(
    topic: TopicName,
    at: Annotated[
        list[str] | None, typer.Option(help="Only the letter at PARTITION:OFFSET; repeatable.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only letters with this reason; repeatable.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Also those that were replayed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send dead letters to their topic again, their bytes unchanged, after the cause is mended.

    A letter stays in its topic and is noted as replayed. One that was cut cannot be replayed.

    Example: steersman dlq replay prompts --reason unknown_version
    """
    from ingest.broker import KafkaSink  # noqa: PLC0415
    from ingest.broker_upkeep import KafkaReader  # noqa: PLC0415
    from ingest.letters import choose, find, letters_of, place_of, replay  # noqa: PLC0415

    kafka = _broker()
    reader = KafkaReader(kafka)
    source = _inbound(topic, kafka)
    dead = dead_letters_of(source)
    letters = letters_of(reader, dead)
    named = [find(letters, dead, place_of(text)) for text in at or ()]
    places = {letter.place for letter in named}
    choice = choose(letters, places=places, reasons=reason or (), again=again)
    _announce(choice, source)
    if choice.chosen:
        if not yes:
            typer.confirm("Send them?", abort=True)
        with closing(KafkaSink(kafka)) as sink:
            sent = replay(reader, sink, choice.chosen, to=source)
        typer.echo(f"{sent} sent to {source}")
    if len(choice.chosen) < len(places):  # asked for by name and not done
        raise typer.Exit(1)


def _announce(choice: Choice, source: str) -> None:
    from ingest.letters import counted  # noqa: PLC0415

    rest = [
        (choice.replayed_before, "replayed before, left alone (--again sends them too)"),
        (choice.cut, "cut when they were set aside: only their sender has the whole"),
    ]
    what = f": {counted(choice.chosen)}" if choice.chosen else ""
    typer.echo(f"{len(choice.chosen)} dead letters to send to {source}{what}")
    for letters, why in rest:
        if letters:
            typer.echo(f"{len(letters)} {why}: {_places(letters)}")


def _places(letters: Sequence[Letter], most: int = 5) -> str:
    shown = " ".join(str(letter.place) for letter in letters[:most])
    return shown if len(letters) <= most else f"{shown} …"


def _line(letter: Letter) -> str:
    key = printable(letter.key)[:KEY_CHARACTERS]
    mark = "  (replayed)" if letter.was_replayed else ""
    return (
        f"{_time(letter)}  {letter.topic}  {letter.place}  {key}  {printable(letter.reason)}:"
        f" {printable(letter.message)}{mark}"
    )


def _time(letter: Letter) -> str:
    return f"{letter.sent_at:%Y-%m-%dT%H:%M:%SZ}"


def _inbound(name: str, kafka: KafkaSettings) -> str:
    topic = full_name(name, prefix=kafka.topic_prefix)
    if topic.removeprefix(kafka.topic_prefix) not in INBOUND:
        raise typer.BadParameter(f"{name} is not one of {', '.join(INBOUND)}")
    return topic


def _broker() -> KafkaSettings:
    from ingest.backbone import named_or_running  # noqa: PLC0415

    return named_or_running(read_settings())
