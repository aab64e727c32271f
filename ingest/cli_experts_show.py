"""``steersman experts show``: one expert's life so far, for people and machines."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone, printable
from store.health import Health
from store.records import JsonObject

if TYPE_CHECKING:
    from recalibrate.joining import Joining


def show(
    name: Annotated[str, typer.Argument(help="The expert, as `experts list` shows it.")],
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print how far an expert has come: times, labels, share, descriptors, who serves it.

    Example: steersman experts show gpt-small

    docs/experts.md defines each figure. Nothing is called.
    """
    from ingest.describing import known_expert  # noqa: PLC0415
    from recalibrate.joining import joining  # noqa: PLC0415

    with opened_backbone() as backbone:
        expert, now = known_expert(backbone, name), backbone.clock.now()
        with backbone.ledger.begin() as tx:
            found = joining(tx, expert, now=now)
    if json:
        typer.echo(json_text.dumps(document(found, now), ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(lines(found, now)))


def document(found: Joining, now: datetime) -> JsonObject:
    """Return the figures as JSON; times in seconds, money in USD."""
    expert = found.expert
    price, share = expert.price, found.share
    return {
        "name": expert.name,
        "status": expert.status,
        "status_since": expert.status_changed_at.isoformat(),
        "added_at": expert.added_at.isoformat(),
        "steps": [{"status": step.status, "at": step.at.isoformat()} for step in found.steps],
        "waits_for": found.waits_for,
        "price": {
            "input_usd_per_mtok": price.input_usd_per_mtok,
            "output_usd_per_mtok": price.output_usd_per_mtok,
            "request_usd": price.request_usd,
        },
        "capabilities": expert.capabilities.to_json(),
        "is_failing": expert.is_failing,
        "seconds_to_first_route": found.seconds_to_first_route,
        "seconds_to_certified": found.seconds_to_certified,
        "labels_needed": found.labels_needed,
        "labels_got": found.labels_got,
        "last_day": {
            "served": share.served,
            "ramped": share.ramped,
            "decisions": share.decisions,
        },
        "probe_answers": found.probe_answers,
        "probe_usd": found.probe_usd,
        "descriptors": [
            {
                "kind": one.kind,
                "recipe": one.recipe,
                "dimension": len(one.vector),
                "made_at": one.made_at.isoformat(),
                "age_s": round((now - one.made_at).total_seconds()),
            }
            for one in found.descriptors
        ],
        "state_version": found.state_version,
        "replicas": list(found.replicas),
    }


def lines(found: Joining, now: datetime) -> Iterator[str]:
    """Yield the figures for a person, one a line."""
    expert, price, share = found.expert, found.expert.price, found.share
    yield f"{expert.name} is {expert.status} since {_at(expert.status_changed_at)}"
    if expert.is_failing:
        yield f"health:          {printable(trouble(expert.health))}"
    if found.waits_for:
        yield f"waits for:       {found.waits_for}"
    yield (
        f"price:           {price.input_usd_per_mtok:g} USD per Mtok read,"
        f" {price.output_usd_per_mtok:g} written, {price.request_usd:g} a request"
    )
    yield f"can:             {_abilities(expert.capabilities.to_json())}"
    yield f"steps:           {', '.join(f'{s.status} {_at(s.at)}' for s in found.steps)}"
    yield f"to first route:  {_took(found.seconds_to_first_route)}"
    yield f"to certified:    {_took(found.seconds_to_certified)}"
    yield f"labels:          {found.labels_got} of {found.labels_needed} needed, on sampled traffic"
    percent = 100.0 * share.served / share.decisions if share.decisions else 0.0
    yield (
        f"last day:        {share.served:,} of {share.decisions:,} decisions ({percent:.1f} %),"
        f" {share.ramped:,} of them its quota"
    )
    described = ", ".join(f"{d.kind} of {_at(d.made_at)}" for d in found.descriptors)
    yield f"described by:    {described or 'its labels alone'}"
    if found.probe_answers:
        yield f"probes:          {found.probe_answers} answers, {found.probe_usd:.4f} USD"
    if found.state_version is None:
        yield "in force:        not yet (does `steersman learn` run?)"
    else:
        who = ", ".join(map(printable, found.replicas)) or "nobody yet"
        yield f"in force:        with state {found.state_version}, acknowledged by {who}"


def _abilities(said: JsonObject) -> str:
    stated = [f"{name}={value}" for name, value in said.items() if value]
    return ", ".join(map(printable, stated)) or "nothing declared"


def _took(seconds: float | None) -> str:
    if seconds is None:
        return "not yet"
    if seconds < 120.0:
        return f"{seconds:.1f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7_200.0 else f"{seconds / 3_600.0:.1f} h"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}"


def trouble(health: Health) -> str:
    """Return how an expert does that is paused for failing calls."""
    since = f"{health.since:%Y-%m-%d %H:%M:%S}" if health.since else "?"
    probe = f"{health.next_probe_at:%H:%M:%S}" if health.next_probe_at else "at once"
    return f"failing since {since} UTC: {health.error}; next probe {probe}; was {health.was}"
