"""``steersman audit``: a person judges pairs blind, and what that says of the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone

if TYPE_CHECKING:
    from judge.auditing import Auditing, Shown

audit_app = typer.Typer(
    help="Judge pairs yourself, blind, to learn how good the judge is.",
    invoke_without_command=True,
)
PREFERENCES = {"1": 1.0, "2": 0.0, "t": 0.5}
SKIP, QUIT = "s", "q"
KEYS = "1 the first is better, 2 the second, t as good, s skip, q quit: "
LINE = "-" * 78


@audit_app.callback()
def audit(
    context: typer.Context,
    auditor: Annotated[str, typer.Option(help="Your name, the same each time.")] = "",
) -> None:
    """Judge pairs yourself, blind, to learn how good the judge is.

    Example: steersman audit --auditor ann

    Shows prompts and answers in this terminal. Each answer is stored at once: quit and go on
    whenever you like. A second person under another name meets the same pairs. What came of it:
    steersman audit report. See docs/judging.md.
    """
    if context.invoked_subcommand is not None:
        return
    if not auditor.strip() or not auditor.isprintable():
        raise typer.BadParameter("say who you are: --auditor NAME", param_hint="--auditor")
    from judge.auditing import Auditing  # noqa: PLC0415

    with opened_backbone() as backbone:
        answered = _asked(Auditing(backbone.ledger, backbone.clock, auditor=auditor.strip()))
    typer.echo(f"{answered} answers stored; steersman audit report says what they show")


@audit_app.command("report")
def audit_report(
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print how often the judge is right, what moves it, and what that leaves of the promise."""
    from judge.audit_report import audit_report as reported  # noqa: PLC0415
    from recalibrate.audit_words import document, lines  # noqa: PLC0415

    with opened_backbone() as backbone:
        found = reported(backbone.ledger)
    typer.echo(document(found) if json else "\n".join(lines(found)))


def _asked(auditing: Auditing) -> int:
    """Ask about one pair after the other; return how many were answered."""
    due, answered = auditing.due(), 0
    typer.echo(f"{len(due):,} pairs to judge; you see neither experts nor what the judge said")
    for number, candidate in enumerate(due, start=1):
        shown = auditing.show(candidate)
        if shown is None:
            continue
        typer.echo(_page(shown, number))
        key = _key()
        if key == QUIT:
            break
        if key != SKIP:
            answered += auditing.answer(shown, PREFERENCES[key])
    return answered


def _key() -> str:
    while True:
        typer.echo(KEYS, nl=False)
        key = typer.getchar().lower()
        typer.echo(key if key.isprintable() else "")
        if key in {*PREFERENCES, SKIP, QUIT}:
            return key


def _page(shown: Shown, number: int) -> str:
    parts = {f"Prompt {number}": shown.prompt, "First": shown.first, "Second": shown.second}
    return "\n".join(f"{LINE}\n{name}\n{LINE}\n{_safe(text)}" for name, text in parts.items())


def _safe(text: str) -> str:
    """Escape what could steer a terminal, and keep lines: the texts are written by strangers."""
    return "\n".join(
        "".join(
            c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in x
        )
        for x in text.splitlines()
    )
