"""``steersman report``: whether the promise was kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.cli_opening import opened_backbone

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
DAYS = 7


def report(
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=_FORMATS, help="First instant, UTC.  [7 days before --to]"),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", formats=_FORMATS, help="First instant no longer of it, UTC.  [now]"),
    ] = None,
    form: Annotated[
        Literal["text", "html", "json"], typer.Option("--format", help="For whom.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of printing it.")
    ] = None,
) -> None:
    """Say whether the promise was held in a period, from the labels of its traffic.

    Example: steersman report --from 2026-11-01 --to 2026-12-01 --format html --output risk.html

    Reads the ledger and changes nothing. See docs/risk.md.
    """
    from recalibrate.risk_report import risk_report  # noqa: PLC0415
    from recalibrate.risk_words import document, lines, page  # noqa: PLC0415
    from store.served import Period  # noqa: PLC0415

    with opened_backbone() as backbone:
        end = until.replace(tzinfo=UTC) if until else backbone.clock.now()
        start = since.replace(tzinfo=UTC) if since else end - timedelta(days=DAYS)
        if start >= end:
            raise typer.BadParameter("the period ends before it begins", param_hint="--from")
        period = Period(since=start, until=end)
        found = risk_report(backbone.ledger, backbone.clock, period)
    if form == "text":
        made = "\n".join(lines(found))
    else:
        made = page(found) if form == "html" else document(found)
    if output is None:
        typer.echo(made)
    else:
        output.write_text(made + "\n", encoding="utf-8")
        typer.echo(f"written to {output}", err=True)
