"""What an expert can do, on the command line: ``experts declare`` and ``experts add --can``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ingest.cli_opening import opened_backbone
from store.errors import SettingsInvalid
from store.health import Health
from store.needs import Capabilities

Can = Annotated[
    list[str] | None,
    typer.Option(
        "--can",
        help="context=TOKENS, max_output=TOKENS, tools, json_mode or region=NAME; repeatable.",
    ),
]
_LIMITS = {"context": "context_tokens", "max_output": "max_output_tokens"}


def declared(words: Sequence[str]) -> Capabilities:
    """Return the record that words such as ``context=8000``, ``tools``, ``region=eu`` stand for.

    Raises
    ------
    SettingsInvalid
        A word means nothing; the message lists those that do.
    """
    limits: dict[str, int] = {}
    regions: list[str] = []
    for word in words:
        name, _, value = word.partition("=")
        if name in _LIMITS and value.isdecimal():
            limits[_LIMITS[name]] = int(value)
        elif name == "region" and value:
            regions.append(value)
        elif word not in {"tools", "json_mode"}:
            raise SettingsInvalid(
                f"{word!r} is nothing an expert can do; say context=TOKENS, max_output=TOKENS,"
                " tools, json_mode or region=NAME"
            )
    return Capabilities(
        context_tokens=limits.get("context_tokens"),
        max_output_tokens=limits.get("max_output_tokens"),
        tools="tools" in words,
        json_mode="json_mode" in words,
        regions=tuple(dict.fromkeys(regions)),
    )


def trouble(health: Health) -> str:
    """Return how an expert does that is paused for failing calls."""
    since = f"{health.since:%Y-%m-%d %H:%M:%S}" if health.since else "?"
    probe = f"{health.next_probe_at:%H:%M:%S}" if health.next_probe_at else "at once"
    return f"failing since {since} UTC: {health.error}; next probe {probe}; was {health.was}"


def declare(
    name: Annotated[str, typer.Argument(help="The expert, as `experts list` shows it.")],
    can: Annotated[
        list[str] | None,
        typer.Argument(help="context=TOKENS max_output=TOKENS tools json_mode region=NAME …"),
    ] = None,
) -> None:
    """Say what an expert can do; all of it: what is not named is not declared.

    Example: steersman experts declare gpt-small context=128000 tools json_mode region=eu

    A request that needs more is never sent there: not to be served, not to be judged.
    """
    from ingest.commands import Operator  # noqa: PLC0415

    found = declared(can or ())
    with opened_backbone() as backbone:
        Operator(backbone.ledger, backbone.clock).declare(name, found)
