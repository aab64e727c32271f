"""``steersman observe``: whether it is safe to turn it on."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ingest.cli_opening import opened_backbone


def observe(
    form: Annotated[
        Literal["text", "json"], typer.Option("--format", help="For people or for machines.")
    ] = "text",
) -> None:
    """Say go, no-go or not yet for risk targets of 5, 10 and 20 %, from your judged traffic.

    Example: steersman observe --format json

    Works in every mode and changes nothing: `steersman policy set mode=observe` first lets labels
    come in while the reference serves everything. See docs/observe.md.
    """
    from recalibrate.observing import observe as observed  # noqa: PLC0415
    from recalibrate.outlook_words import document, lines  # noqa: PLC0415

    with opened_backbone() as backbone:
        found = observed(backbone.ledger, backbone.clock)
    typer.echo(document(found) if form == "json" else "\n".join(lines(found)))
