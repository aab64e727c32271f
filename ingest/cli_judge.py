"""``steersman judge``: the role itself, and whether its judges can be believed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_judge_plan import cost, plan
from ingest.cli_judge_work import retry, tasks
from ingest.cli_opening import opened_backbone, panel_of, read_settings
from store.errors import NotFound, SettingsInvalid

if TYPE_CHECKING:
    from ingest.backbone import Backbone
    from judge.standing import Standing
    from store.judging import CanaryResult

judge_app = typer.Typer(invoke_without_command=True)
judge_app.command()(tasks)
judge_app.command()(retry)
judge_app.command()(cost)
judge_app.command()(plan)
LATE = timedelta(hours=25)
"""A running judge asks once a day."""
Version = Annotated[str, typer.Argument(help="As `judge versions` shows it.")]


@judge_app.callback()
def judge(context: typer.Context) -> None:
    """Judge sampled requests; run as many as the label rate needs.

    Without a subcommand this is the role. The subcommands look at its judges.
    """
    if context.invoked_subcommand is None:
        from ingest.processes import run_role  # noqa: PLC0415

        raise typer.Exit(run_role("judge", read_settings()))


@judge_app.command()
def versions() -> None:
    """Print every judge version: labels of 30 days, last canaries, quarantine."""
    from judge.standing import standings  # noqa: PLC0415

    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        now = backbone.clock.now()
        found = standings(tx, now=now)
    if not found:
        typer.echo("no judge has given a label or seen a canary yet")
    for one in found:
        typer.echo("\n".join(_told(one, now)))


@judge_app.command()
def canaries(
    run: Annotated[
        bool, typer.Option("--run", help="Ask the configured judges now; costs their calls.")
    ] = False,
) -> None:
    """Print what the judges made of the last canaries; exit status 0 if each may be believed.

    Example: steersman judge canaries --run

    Canaries are comparisons whose right verdict is known. A running judge sees them once a day.
    """
    from judge.canaries import by_run  # noqa: PLC0415

    with opened_backbone() as backbone:
        if run:
            runs = _run_now(backbone)
        else:
            with backbone.ledger.begin() as tx:
                last = tx.judging.canary_runs()
                runs = [
                    by_run(tx.judging.canaries(version, since=at))[-1]
                    for version, at in sorted(last.items())
                ]
    if not runs:
        typer.echo("no canaries ran yet: a judge that reads no text has none")
    are_good = [_print_run(one) for one in runs]
    raise typer.Exit(0 if all(are_good) else 1)


@judge_app.command()
def quarantine(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why it may not be believed.")],
    since: Annotated[
        str, typer.Option(help="Leave its labels out from this time on; default: all of them.")
    ] = "",
) -> None:
    """Leave a judge version's labels out of λ and have their tasks judged anew by another one.

    Example: steersman judge quarantine llm-gpt-x-0a1b --since 2026-11-24T08:00 --reason "..."

    Of a judge that sits in panels the labels of all these panels, now and before, are out too; of a
    panel only its own.
    """
    from ingest.announce import announce_alert  # noqa: PLC0415
    from judge.distrust import FROM_THE_FIRST, Distrust, impose  # noqa: PLC0415
    from judge.standing import standings  # noqa: PLC0415
    from store.judging import stands_on  # noqa: PLC0415

    found = Distrust(reason=reason, since=_instant(since) or FROM_THE_FIRST, evidence={})
    with opened_backbone() as backbone:
        now = backbone.clock.now()
        with backbone.ledger.begin() as tx:
            known = [one.judge_version for one in standings(tx, now=now)]
            if not any(stands_on(one, version) for one in known):
                raise NotFound("unknown_judge", f"no label and no canary is of {version}")
            left_out, _ = impose(tx, version, found, actor="cli", now=now, announce=announce_alert)
    typer.echo(f"{version} is in quarantine: {left_out:,} labels are out of λ; their tasks wait")


@judge_app.command()
def lift(version: Version) -> None:
    """Let a quarantined judge version's labels count again; it is asked its canaries at once.

    So do those of panels with it, as far as no other of their judges is in quarantine.
    """
    from store.judging import stands_on  # noqa: PLC0415

    with opened_backbone() as backbone:
        with backbone.ledger.begin() as tx:
            was_held = tx.judging.lift(version, actor="cli", now=backbone.clock.now())
            held = [one.judge_version for one in tx.judging.quarantines()]
        others = ", ".join(one for one in held if stands_on(version, one))
        if not was_held:
            why = f": lift the member that is, {others}" if others else ""
            raise NotFound("not_quarantined", f"{version} itself is not in quarantine{why}")
    typer.echo(f"{version} counts again; if it loses a canary it is back in quarantine")
    if others:
        typer.echo(f"but the panel's labels stay out of λ with {others}")


def _run_now(backbone: Backbone) -> list[list[CanaryResult]]:
    """Run the canaries here; the sweeper of a running role sends what alerts there are."""
    from ingest.announce import announce_alert  # noqa: PLC0415
    from judge.patrol import Patrol  # noqa: PLC0415

    ledger, clock, panel = backbone.ledger, backbone.clock, panel_of(backbone)
    patrol = Patrol(ledger, panel, clock, announce=announce_alert, send=lambda _: None)
    return patrol.run_now(threading.Event())


def _print_run(results: Sequence[CanaryResult]) -> bool:
    """Print a run by kind of canary; return whether its judge came through."""
    from judge.canaries import finding  # noqa: PLC0415

    found = finding(results)
    verdict = "may be believed" if found.is_good else "NOT DECIDED, too little was readable"
    verdict = "MAY NOT BE BELIEVED" if found.is_lost else verdict
    cost = sum(result.cost_usd for result in results)
    typer.echo(
        f"{results[0].judge_version}: {verdict} ({results[0].ran_at:%Y-%m-%d %H:%M} UTC,"
        f" {found.canaries} canaries, {cost:.4f} USD)"
    )
    by_kind: dict[str, list[bool | None]] = defaultdict(list)
    for result in results:
        by_kind[result.name.rpartition("-")[0]].append(result.is_right)
    for kind, came_out in sorted(by_kind.items()):
        typer.echo(
            f"  {kind:10} {came_out.count(True):3} right  {came_out.count(False):3} wrong"
            f"  {came_out.count(None):3} unreadable"
        )
    if found.lost:
        typer.echo(f"  lost: {', '.join(found.lost)}")
    return found.is_good


def _told(one: Standing, now: datetime) -> list[str]:
    last = f", the last {one.last_label_at:%Y-%m-%d %H:%M} UTC" if one.last_label_at else ""
    lines = [f"{one.judge_version}: {one.labels:,} labels in 30 days{last}"]
    if one.canaries is not None and one.canaries_at is not None:
        said = f"{len(one.canaries.lost)} lost" if one.canaries.lost else "none lost"
        lines.append(
            f"  canaries {one.canaries_at:%Y-%m-%d %H:%M} UTC: {said} of {one.canaries.canaries},"
            f" gibberish worse {one.canaries.gibberish_worse:.0%},"
            f" {one.canaries.unreadable} unreadable"
        )
        if one.quarantine is None and (age := now - one.canaries_at) > LATE:
            hours = age / timedelta(hours=1)
            lines.append(
                f"  NOT ASKED its canaries for {hours:.0f} h: if it still judges, its endpoint was"
                " away (log `canaries.postponed`), or no `steersman judge` runs"
            )
    if (held := one.quarantine) is not None:
        whose = "" if held.judge_version == one.judge_version else f" with {held.judge_version}"
        lines.append(
            f"  IN QUARANTINE{whose} since {held.imposed_at:%Y-%m-%d %H:%M} UTC: {held.reason};"
            f" {one.labels_left_out:,} of these labels are out of λ"
        )
    return lines


def _instant(text: str) -> datetime | None:
    """Return a time as typed, UTC unless it says otherwise; None for nothing."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as problem:
        raise SettingsInvalid(
            f"--since must be a time such as 2026-11-24T08:00, got {text!r}"
        ) from problem
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
