"""``steersman judge cost`` and ``plan``: what judging costs, and how much of it a target needs."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone, printable
from store.money import CANARY, JUDGE, SHADOW

if TYPE_CHECKING:
    from ingest.judge_costs import JudgeCosts
    from judge.estimate import Cost
    from recalibrate.planner import LabelPlan
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
        whole |= {
            "all": _fields(found.whole),
            "by_tenant": tenants,
            "used_today_usd": found.used_usd,
        }
        typer.echo(json_text.dumps(whole, allow_nan=False, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(_told(found)))


def plan(
    traffic: Annotated[int, typer.Option(help="Requests a day.", min=1)],
    alpha: Annotated[float | None, typer.Option(help="Risk target; default: the policy's.")] = None,
    label_rate: Annotated[
        float | None, typer.Option(help="Share that is judged; default: the policy's.")
    ] = None,
    json: Json = False,
) -> None:
    """Print how many labels a risk target needs, how long that takes, and what it costs.

    Example: steersman judge plan --traffic 20000 --alpha 0.05 --label-rate 0.1

    Changes nothing. Until the labels are there the reference serves everything; afterwards less is
    spent only if the experts' answers are good enough, which no plan can know.
    """
    from ingest.judge_costs import judge_costs  # noqa: PLC0415
    from recalibrate.planner import Prices  # noqa: PLC0415
    from recalibrate.planner import plan as planned  # noqa: PLC0415

    with opened_backbone() as backbone:
        costs = judge_costs(backbone)
    given = {"alpha": alpha, "label_rate": label_rate}
    asked = {name: value for name, value in given.items() if value is not None}
    policy = replace(costs.policy, **asked)  # type: ignore[arg-type]
    prices = Prices(verdicts_usd=costs.whole.verdicts_usd, shadow_usd=costs.whole.shadow_usd)
    found = planned(policy, traffic_per_day=traffic, prices=prices)
    is_measured = bool(costs.whole.verdicts_of and costs.whole.shadows_of)
    if json:
        whole = asdict(found) | {"is_cost_measured": is_measured}
        typer.echo(json_text.dumps(whole, allow_nan=False, indent=2))
    else:
        typer.echo("\n".join(_plan_told(found, is_measured=is_measured)))


def _plan_told(found: LabelPlan, *, is_measured: bool) -> Iterator[str]:
    from recalibrate.supply import duration  # noqa: PLC0415

    yield (
        f"Target {found.alpha:g} at {found.traffic_per_day:,} requests a day, label_rate"
        f" {found.label_rate:g}"
    )
    yield (
        f"  judged: {found.judged_per_day:,.0f} requests a day, as {found.limited_by} has it;"
        f" {found.usd_per_day:.2f} USD a day ({'measured' if is_measured else 'estimated'})"
    )
    if found.labels_needed is None or found.days is None or found.usd is None:
        yield "  the labels never come together: the reference would serve for ever"
        yield f"  {_way_out(found)}"
        return
    yield f"  labels: {found.labels_needed:,} judged requests until something else can serve"
    yield (
        f"    ({found.labels_to_learn:,} to score experts at all, {found.labels_to_floor:,} for the"
        f" floor of effective labels, {found.labels_to_alpha:,} for this target)"
    )
    yield f"  that takes {duration(24 * found.days)} at the least and costs {found.usd:.2f} USD"
    yield (
        f"  then {found.effective_labels:.0f} labels are effective, and the smallest target that"
        f" could be certified is {found.smallest_alpha:.4f}; however long it runs"
        f" {found.smallest_alpha_ever:.4f}"
    )
    yield (
        f"  at {found.alpha:g} a threshold is admissible while at most {found.tolerated:.1%} of the"
        " window's answers would be unacceptable"
    )


def _way_out(found: LabelPlan) -> str:
    if not found.judged_per_day:
        return f"Nothing is judged: raise {found.limited_by}."
    if found.least_label_rate is None:
        return (
            "So many fade before they are together at any label_rate: raise the target,"
            " label_discount or age_half_life_requests."
        )
    share = f"more than {found.least_label_rate:.3%} of the requests must be judged"
    return f"They fade before enough are together: {share}, or raise age_half_life_requests."


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
    used, policy = found.used_usd, found.policy
    yield (
        f"Used this UTC day: {used[JUDGE]:.4f} of {policy.judge_usd_per_day:.2f} USD for verdicts,"
        f" {used[SHADOW]:.4f} of {policy.shadow_usd_per_day:.2f} for shadow answers, tasks under"
        f" way at their most; outside the budgets {used[CANARY]:.4f} for canaries"
    )
    if len(found.by_tenant) > 1:
        yield f"{REQUESTS:,} requests of one tenant"
        for name, one in found.by_tenant.items():
            yield (
                f"  {printable(name)}: {REQUESTS * one.request_usd:.4f} USD, verdicts"
                f" {REQUESTS * one.verdicts_usd:.4f}{'' if one.verdicts_of else ' (estimated)'}"
            )
