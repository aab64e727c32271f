"""``steersman init``: from questions to a router that can be started."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest import env_file
from ingest.cli_questions import asked
from ingest.settings import ProcessSettings
from store import environ
from store.errors import SettingsInvalid

if TYPE_CHECKING:
    from ingest.env_file import Line
    from ingest.first_answers import Answers


def init(
    answers: Annotated[
        Path | None,
        typer.Option(help="Take the answers from this TOML file and ask nothing."),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Go on where a person would be asked: overwrite, failed tests."),
    ] = False,
    test: Annotated[
        bool, typer.Option(help="Call each endpoint once, to see that it works.")
    ] = True,
) -> None:
    """Set up a router: experts, prices, judge and risk target; writes steersman.env here.

    Example: steersman init --answers answers.toml

    Safe to run again: it shows what would change. docs/quickstart.md goes through it.
    """
    from ingest.first_answers import read_answers  # noqa: PLC0415
    from ingest.first_plan import HEADING, env_lines, summary  # noqa: PLC0415

    kept = env_file.read_file()
    given = read_answers(answers) if answers is not None else asked(kept)
    go_on = _Confirm(by_file=answers is not None, yes=yes)
    typer.echo("")
    for line in summary(given):
        typer.echo(line)
    if test and (answers is not None or typer.confirm("\nCall each endpoint once?", default=True)):
        _test(given, go_on)
    lines = env_lines(given, kept)
    # Read before anything is written: a value that no command could use is refused here.
    settings = _settings(lines)
    _write(env_file.content_of(lines, heading=HEADING), lines, kept, go_on)
    _register(settings, given, go_on)
    typer.echo(_next(given, settings))


class _Confirm:
    """Asks a person; without one, does what is harmless, and the rest with ``--yes`` only."""

    def __init__(self, *, by_file: bool, yes: bool) -> None:
        self._by_file = by_file
        self._yes = yes

    def __call__(self, question: str, *, default: bool) -> None:
        """Return, or end the command."""
        if self._yes or (self._by_file and default):
            return
        if self._by_file:
            raise SettingsInvalid(f"{question} Say so with --yes; nothing more was done")
        typer.confirm(question, default=default, abort=True)


def _test(given: Answers, go_on: _Confirm) -> None:
    """Call each endpoint once; what fails is told and nobody is stopped who wants to go on."""
    from ingest.endpoint_check import try_expert, try_judge  # noqa: PLC0415
    from store.clock import SystemClock  # noqa: PLC0415

    failed = []
    for expert in given.experts:
        tried = try_expert(expert)
        typer.echo(tried.told(expert.name))
        failed += [expert.name] if tried.problem else []
    tried = try_judge(given.judge, SystemClock())
    typer.echo(tried.told("the judge"))
    failed += ["the judge"] if tried.problem else []
    if failed:
        go_on(f"Write the settings although {', '.join(failed)} did not answer?", default=False)


def _settings(lines: Sequence[Line]) -> ProcessSettings:
    """Return what the next command will read, and say where the environment overrules the file."""
    values = {line.name: line.value for line in lines}
    for name in sorted(values):
        if os.environ.get(name, values[name]) != values[name]:
            typer.echo(f"note: the environment variable {name} overrules what the file says")
    try:
        return environ.read(ProcessSettings, {**values, **os.environ})
    except SettingsInvalid as wrong:
        raise env_file.named(wrong, values) from wrong


def _write(content: str, lines: Sequence[Line], kept: Mapping[str, str], go_on: _Confirm) -> None:
    """Write the file unless it says the same already; ask before anything is replaced."""
    file = env_file.FILE
    after = {line.name: line.value for line in lines}
    if kept == after:
        typer.echo(f"{file} says this already")
        return
    if file.exists():
        secret = {"STEERSMAN_DATABASE_URL"}  # may hold a password
        for name in sorted(after):
            if kept.get(name, "") != after[name]:
                change = "changes" if name in secret else f"{kept.get(name, '')} → {after[name]}"
                typer.echo(f"{name}: {change}")
        go_on(f"Replace {file.absolute()}?", default=False)
    else:
        go_on(f"Write {file.absolute()}?", default=True)
    env_file.write_file(content, file)
    typer.echo(f"{file} is written, readable by you only")


def _register(settings: ProcessSettings, given: Answers, go_on: _Confirm) -> None:
    """Bring experts and policy into the ledger, differences first."""
    from ingest.backbone import open_ledger  # noqa: PLC0415
    from ingest.commands import Operator  # noqa: PLC0415
    from ingest.first_registration import steps  # noqa: PLC0415
    from store.clock import SystemClock  # noqa: PLC0415

    if not settings.database_url:
        typer.echo("opening the embedded database …")
    with open_ledger(settings) as ledger:
        found = steps(ledger, Operator(ledger, SystemClock()), given)
        changes = [step.act for step in found if step.act is not None]
        for step in found:
            typer.echo(f"  {step.text}" if step.act is not None else f"  note: {step.text}")
        if not changes:
            typer.echo("the ledger says this already")
            return
        go_on("Register this?", default=True)
        for act in changes:
            act()
    typer.echo("registered")


def _next(given: Answers, settings: ProcessSettings) -> str:
    keys = sorted({m.api_key_env for m in (*given.experts, given.judge)} - {"", *os.environ})
    unset = f"\nset first: {', '.join(keys)}" if keys else ""
    start = "steersman up"
    if settings.database_url and settings.kafka.bootstrap_servers:
        start += (
            "                    # or: serve, ingest, judge and learn, as processes of their own"
        )
    url = f"http://{settings.http.host}:{settings.http.port}"
    return f"""
Next:{unset}
  {start}
  curl -s {url}/v1/routing/decision -H 'content-type: application/json' \\
    -d '{{"prompt": "What is 2+2?"}}'
  steersman state show

A new policy begins in mode observe: the reference serves while the router learns.
`steersman observe` says when `steersman policy set mode=apply` is safe."""
