"""The ``steersman`` command: a table of commands, no logic. Heavy imports happen on use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.cli_audit import audit_app
from ingest.cli_experts import experts_app
from ingest.cli_feedback import feedback_app
from ingest.cli_init import init
from ingest.cli_judge import judge_app
from ingest.cli_letters import letters_app
from ingest.cli_observe import observe
from ingest.cli_opening import opened_backbone, read_settings, settings_from_file
from ingest.cli_report import report
from ingest.cli_restore import republish, rewind
from ingest.cli_upkeep import erase, retention
from ingest.env_file import FILE
from store import environ
from store.errors import SteersmanError
from store.policy import APPLY

app = typer.Typer(
    help="Route each prompt to the cheapest expert whose risk stays under the target you set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy_app = typer.Typer(help="Show and change the operator's settings.", no_args_is_help=True)
state_app = typer.Typer(help="Look at routing states and go back.", no_args_is_help=True)
keys_app = typer.Typer(help="Make API keys.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(experts_app, name="experts")
app.add_typer(state_app, name="state")
app.add_typer(keys_app, name="keys")
app.add_typer(letters_app, name="dlq")
app.add_typer(audit_app, name="audit")
app.add_typer(feedback_app, name="feedback")


def main() -> None:
    """Run a command; an error on purpose is one line and exit status 2."""
    try:
        app()
    except SteersmanError as problem:
        typer.echo(f"steersman: {problem}", err=True)
        sys.exit(2)


@app.command()
def up() -> None:
    """Run every role in this process, with embedded servers unless settings name real ones."""
    from ingest.processes import run_up  # noqa: PLC0415

    raise typer.Exit(run_up(read_settings()))


def _role(name: str, explanation: str) -> None:
    def command() -> None:
        from ingest.processes import run_role  # noqa: PLC0415

        raise typer.Exit(run_role(name, read_settings()))

    command.__doc__ = explanation
    app.command(name)(command)


_role("serve", "Decide: HTTP and the prompts topic.")
_role("ingest", "Store responses and feedback from their topics.")
app.add_typer(judge_app, name="judge")
_role("learn", "Learn, recalibrate λ, raise alerts, publish states; one leads, others wait.")


@app.command()
def migrate() -> None:
    """Bring the database schema up to date; every role does so at its start too."""
    with opened_backbone():
        typer.echo("the schema is up to date")


@app.command()
def health(
    role: Annotated[
        Literal["serve", "ingest", "judge", "learn"],
        typer.Argument(help="The role that should run here."),
    ],
) -> None:
    """Say whether a role works: exit status 1 if it is gone or a loop of it hangs.

    It asks the process with this run directory and replica name. Waiting for a database or a
    broker that is away is not hanging: a restart would not help.
    """
    from ingest.heartbeat import heartbeat_file, troubles  # noqa: PLC0415
    from store.clock import SystemClock  # noqa: PLC0415

    here = read_settings()
    file = heartbeat_file(here.run_dir, role, replica=here.replica)
    found = troubles(file, now=SystemClock().monotonic())
    typer.echo("\n".join(found) or f"{role} works")
    raise typer.Exit(1 if found else 0)


@app.command()
def settings() -> None:
    """Print every setting with its value in force; secrets are not shown."""
    in_force = read_settings()
    if taken := settings_from_file():
        typer.echo(f"# from {FILE.absolute()}: {', '.join(taken)}")
    for name, value in environ.shown(in_force):
        typer.echo(f"{name}={value}")


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option(help="Leave the router running afterwards, until Ctrl-C.")
    ] = False,
    inject: Annotated[
        str, typer.Option(help="Expert that is made worse at 65 %: llama, mistral or none.")
    ] = "llama",
) -> None:
    """Show the whole loop on real recorded traffic; at most five minutes, no key needed."""
    from ingest.demo import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(read_settings(), keep=keep, inject=inject))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Score matrix: .parquet or .jsonl.")],
    reference: Annotated[
        str, typer.Option(help="The yardstick; default: highest mean score.")
    ] = "",
    experts: Annotated[str, typer.Option(help="Others, comma-separated; default: all.")] = "",
    alpha: Annotated[float, typer.Option(help="Risk target.")] = 0.10,
    label_rate: Annotated[float, typer.Option(help="Share of requests that is judged.")] = 0.30,
    warm: Annotated[int, typer.Option(help="Prompts of the warm start, all judged.")] = 600,
    limit: Annotated[int, typer.Option(help="Use the first so many prompts; 0: all.")] = 0,
) -> None:
    """Replay recorded traffic through the loop in this process and report what would have been."""
    from ingest.replay import run_replay  # noqa: PLC0415

    run_replay(
        read_settings(),
        file,
        reference=reference,
        experts=[name for name in experts.split(",") if name],
        alpha=alpha,
        label_rate=label_rate,
        warm=warm,
        limit=limit,
    )


@app.command()
def recount(
    recorded: Annotated[Path, typer.Argument(help="The recorded traffic that went in.")],
) -> None:
    """Count a run again from PostgreSQL and Kafka alone; exit status 1 if anything is off."""
    from ingest.recount import recount as count  # noqa: PLC0415
    from online.recorded import load_recorded  # noqa: PLC0415

    with opened_backbone() as backbone:
        sent = load_recorded(recorded).prompts
        checks = count(backbone.settings.database_url, backbone.settings.kafka, sent=sent)
    for check in checks:
        typer.echo(f"{'ok ' if check.holds else 'OFF'}  {check.claim}: {check.found}")
    raise typer.Exit(0 if all(check.holds for check in checks) else 1)


app.command()(init)
app.command()(observe)
app.command()(report)
app.command()(retention)
app.command()(erase)
app.command()(rewind)
app.command()(republish)


@app.command(hidden=True)
def consume() -> None:
    """Answer decisions from recorded traffic; the demo's stand-in for a gateway."""
    from ingest.processes import run_consumer  # noqa: PLC0415

    raise typer.Exit(run_consumer(read_settings()))


@policy_app.command("show")
def policy_show() -> None:
    """Print the settings in force."""
    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        current = tx.policies.current()
    if current is None:
        typer.echo("no policy is set: steersman policy set reference=EXPERT")
        raise typer.Exit(1)
    for name, value in current[1].to_json().items():
        typer.echo(f"{name}={value}")


@policy_app.command("set")
def policy_set(
    changes: Annotated[list[str], typer.Argument(help="name=value …, e.g. alpha=.08")],
) -> None:
    """Change settings and wait until they are in force on every replica.

    Example: steersman policy set alpha=0.08 label_rate=0.1

    `steersman policy show` prints the names; the first time, reference=EXPERT is needed.
    """
    from ingest.commands import Operator  # noqa: PLC0415

    pairs = dict(change.split("=", 1) for change in changes if "=" in change)
    if len(pairs) != len(changes):
        raise typer.BadParameter("each change must read name=value, each name once")
    with opened_backbone() as backbone:
        operator = Operator(backbone.ledger, backbone.clock)
        version, _ = operator.set_policy(pairs)
        typer.echo(f"policy {version} is stored")
        if (missing := operator.missing_reference()) is not None:
            typer.echo(f"in force once {missing} is there: steersman experts add {missing} --help")
            return
        found = operator.wait_until_in_force(version)
    if found is None:
        typer.echo("not in force yet: does `steersman learn` or `up` run?", err=True)
        raise typer.Exit(1)
    where = ", ".join(found.replicas)
    typer.echo(f"in force as state {found.state_version} on {where} after {found.seconds:.1f} s")


@state_app.command("show")
def state_show(limit: Annotated[int, typer.Option(help="How many states.")] = 10) -> None:
    """Print the newest routing states, and what is missing while the reference serves for it."""
    from recalibrate.supply import waiting  # noqa: PLC0415

    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        history = tx.states.history(limit=limit)
        active = tx.states.active_version()
        acked = tx.states.acknowledged(active)
        missing = waiting(tx, now=backbone.clock.now())
        policy = tx.policies.current()
    for s in history:
        mark = "*" if s.version == active else " "
        typer.echo(
            f"{mark}{s.version:6} λ={s.threshold:.4f} target={s.risk_target:g} "
            f"labels={s.effective_labels:.0f} {s.cause}: {s.note} ({s.published_at:%H:%M:%S})"
        )
    typer.echo(f"served by: {', '.join(sorted(acked)) or 'nobody yet'}")
    if policy is not None and policy[1].mode != APPLY:
        typer.echo(f"mode {policy[1].mode}: the reference serves everything but pins")
    if missing is not None:
        typer.echo(missing.text)


@state_app.command("rollback")
def state_rollback(
    version: Annotated[int, typer.Argument(help="The state, as `state show` numbers it.")],
) -> None:
    """Serve the scorer of an earlier state again and hold it; λ goes on being recomputed."""
    from recalibrate.rollback import roll_back  # noqa: PLC0415

    with opened_backbone() as backbone:
        new = roll_back(backbone.ledger, version, actor="cli", clock=backbone.clock)
    typer.echo(f"state {new} serves the scorer of {version}; `policy set hold=false` ends the hold")


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str], typer.Option(help="read, route or admin; repeatable.")],
) -> None:
    """Make a key and print it once; only its hash is stored.

    Example: steersman keys create gateway --scope route --scope read
    """
    from ingest import keys  # noqa: PLC0415

    with opened_backbone() as backbone:
        typer.echo(keys.create(backbone.ledger, name, scope, backbone.clock))


if __name__ == "__main__":
    main()
