"""``steersman feedback``: whose word on answers agrees with the judges."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ingest.cli_opening import opened_backbone

feedback_app = typer.Typer(
    help="Look at who gives feedback, which never moves λ.", no_args_is_help=True
)


@feedback_app.command()
def sources(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print each source of feedback with its trust: how far it agrees with judged answers.

    Trust is the mean share of agreement after a uniform prior, with its 95 % interval.
    """
    from recalibrate.realised import posterior  # noqa: PLC0415

    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        found = [
            (one, posterior(one.agreeing, one.judged)) for one in tx.judging.feedback_agreement()
        ]
    if as_json:
        rows = [
            {
                "source": one.source,
                "ratings": one.ratings,
                "judged": one.judged,
                "agreeing": one.agreeing,
                "trust": trust.value,
                "trust_low": trust.low,
                "trust_high": trust.high,
            }
            for one, trust in found
        ]
        typer.echo(json.dumps(rows))
        return
    if not found:
        typer.echo("nobody has given feedback yet")
    for one, trust in found:
        typer.echo(
            f"{one.source!r}: trust {trust.value:.2f} ({trust.low:.2f} to {trust.high:.2f}),"
            f" agrees on {one.agreeing:,} of {one.judged:,} judged, {one.ratings:,} ratings in all"
        )
