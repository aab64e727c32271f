"""The questions of ``steersman init`` in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from store.errors import SteersmanError

if TYPE_CHECKING:
    from ingest.first_answers import Answers, Model, Question

T = TypeVar("T")
INTRODUCTION = """\
Steersman sends each prompt to the cheapest expert (language model) whose answers a judge finds
acceptable against those of one expert of your choice, the reference. Enter takes the [default];
Ctrl-C stops, and nothing is written before you say yes. Keys are never asked for: you name the
environment variable that holds one."""


def asked(kept: Mapping[str, str]) -> Answers:
    """Return what a person answers, each answer checked at once.

    Parameters
    ----------
    kept
        The settings in force, offered as defaults.
    """
    from ingest.first_answers import JUDGE, POLICY, SERVICES, Answers, Model  # noqa: PLC0415

    typer.echo(INTRODUCTION)
    pool: list[Model] = []
    while not pool or typer.confirm("\nAnother expert?", default=len(pool) < 2):
        typer.echo(f"\nExpert {len(pool) + 1}" + ("" if pool else ", the strongest first"))
        pool.append(_expert(pool))
    names = [e.name for e in pool]
    reference = names[0]
    if len(names) > 1:
        typer.echo("\nThe reference is the yardstick, and answers whenever nothing cheaper may.")
        reference = _prompt("reference", reference, _one_of(names))
    typer.echo("\nThe judge compares answers; take a model that is none of the experts.")
    last = {"base_url": pool[-1].base_url, "api_key_env": pool[-1].api_key_env}
    judge = Model(**_answered(JUDGE, last | _kept(JUDGE, kept, "STEERSMAN_JUDGE_")))
    typer.echo("\nThe promise, and how much of the traffic is judged for it")
    policy = _answered(POLICY, {})
    typer.echo("\nWhere facts and events are kept")
    services = _answered(SERVICES, _kept(SERVICES, kept, "STEERSMAN_"))
    return Answers(experts=tuple(pool), reference=reference, judge=judge, **policy, **services)


def _expert(pool: Sequence[Model]) -> Model:
    """Ask for one more expert; for its price again while that is none."""
    from ingest.first_answers import EXPERT, PRICES, Model, check_experts  # noqa: PLC0415

    taken = [e.name for e in pool]
    naming, *others = EXPERT
    naming = replace(naming, default="" if taken else naming.default, check=_new(naming, taken))
    name = str(_ask(naming, naming.default))
    like = {"base_url": pool[-1].base_url, "api_key_env": pool[-1].api_key_env} if pool else {}
    made = Model(name=name, **_answered(others, like | {"model": name}))
    while True:
        try:
            check_experts([made])
        except ValueError as wrong:
            typer.echo(f"Error: {wrong}")
            made = replace(made, **_answered(PRICES, {}))
        else:
            return made


def _kept(questions: Sequence[Question], kept: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the answers that the file holds already."""
    named = {q.key: kept.get(_variable_of(q.key, prefix)) for q in questions}
    return {key: value for key, value in named.items() if value is not None}


def _variable_of(key: str, prefix: str) -> str:
    """Return the setting that an answer becomes."""
    priced = {
        "input": "input_usd_per_mtok",
        "output": "output_usd_per_mtok",
        "request": "request_usd",
    }
    return f"{prefix}{priced.get(key, key).upper()}"


def _answered(questions: Sequence[Question], defaults: Mapping[str, str]) -> dict[str, Any]:
    return {q.key: _ask(q, defaults.get(q.key, q.default)) for q in questions}


def _ask(question: Question, default: str) -> object:
    """Return a checked answer; a wrong one is asked for again at once."""
    typer.echo(typer.style(f"  {question.help}", dim=True))
    if question.is_secret and default:
        return _prompt(f"{question.text} [(kept)]", default, question.check, is_shown=False)
    return _prompt(question.text, default, question.check)


def _prompt(text: str, default: str, check: Callable[[str], T], *, is_shown: bool = True) -> T:
    from ingest.first_answers import NONE  # noqa: PLC0415

    def checked(said: str) -> T:
        try:
            return check("" if said.strip() == NONE else said.strip())
        except (ValueError, SteersmanError) as wrong:
            raise typer.BadParameter(str(wrong)) from wrong

    # An empty default is one too: it is what Enter means, and the check has the last word.
    found: T = typer.prompt(
        f"  {text}", default=default, show_default=is_shown and bool(default), value_proc=checked
    )
    return found


def _new(naming: Question, taken: Sequence[str]) -> Callable[[str], object]:
    def check(text: str) -> object:
        if text in taken:
            raise ValueError(f"{text} is taken")
        return naming.check(text)

    return check


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return check
