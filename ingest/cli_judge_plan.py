"""``steersman judge cost`` and ``plan``: what judging costs, and how much of it a target needs."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone, printable

if TYPE_CHECKING:
    from ingest.judge_costs import JudgeCosts
    from judge.estimate import Cost
    from store.records import JsonObject

REQUESTS = 1_000
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


def cost(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Said for clearness: nothing is ever called.")
    ] = False,
    json: Json = False,
) -> None:
    """Print what judging 1,000 requests like those of the last day would cost; calls nothing.

    Example: steersman judge cost --dry-run

    Calls and prices are measured on the last day's verdicts of the judge in force. What nothing was
    measured of is estimated, and marked so: prices times recorded tokens, two calls a pair.
    """
    from ingest.judge_costs import judge_costs  # noqa: PLC0415

    del dry_run
    with opened_backbone() as backbone:
        found = judge_costs(backbone)
    if json:
        tenants = {name: _fields(one) for name, one in found.by_tenant.items()}
        whole = {"judge_version": found.judge_version, "requests": REQUESTS}
        whole |= {"all": _fields(found.whole), "by_tenant": tenants}
        typer.echo(json_text.dumps(whole, allow_nan=False, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(_told(found)))


def _fields(one: Cost) -> JsonObject:
    return asdict(one) | {
        "verdicts_usd": REQUESTS * one.verdicts_usd,
        "shadow_usd": REQUESTS * one.shadow_usd,
        "usd": REQUESTS * one.request_usd,
    }


def _told(found: JudgeCosts) -> Iterator[str]:
    whole, sure = found.whole, "calls and prices measured on {:,} requests of the last day"
    yield f"Judging {REQUESTS:,} requests by {found.judge_version} (nothing was called)"
    yield f"  verdicts        {REQUESTS * whole.verdicts_usd:10.4f} USD"
    yield (
        f"    {whole.pairs:.2f} pairs a request, {whole.calls_per_pair:.2f} calls a pair,"
        f" {whole.call_usd:.6f} USD a call"
    )
    estimated = "estimated: no verdict of this judge in the last day"
    yield f"    {sure.format(whole.verdicts_of) if whole.verdicts_of else estimated}"
    yield f"  shadow answers  {REQUESTS * whole.shadow_usd:10.4f} USD"
    estimated = "estimated: no shadow answer of the last day states its cost"
    told = f"measured on {whole.shadows_of:,} requests" if whole.shadows_of else estimated
    yield f"    {whole.shadow_answers:.2f} answers a request; {told}"
    yield f"  together        {REQUESTS * whole.request_usd:10.4f} USD"
    if len(found.by_tenant) > 1:
        yield f"{REQUESTS:,} requests of one tenant"
        for name, one in found.by_tenant.items():
            yield (
                f"  {printable(name)}: {REQUESTS * one.request_usd:.4f} USD, verdicts"
                f" {REQUESTS * one.verdicts_usd:.4f}{'' if one.verdicts_of else ' (estimated)'}"
            )
