"""``steersman experts``: who is in the pool, at what price, what each can do and who is out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ingest.cli_experts_show import show, trouble
from ingest.cli_opening import opened_backbone
from ingest.cli_probing import Weights, Yes, by_answers, by_weights, probe, tried
from store.errors import SettingsInvalid
from store.needs import Capabilities
from store.records import ExpertStatus, Price

experts_app = typer.Typer(help="Add, price, pause and retire experts.", no_args_is_help=True)

InputPrice = Annotated[float, typer.Option("--input", help="USD per million input tokens.")]
OutputPrice = Annotated[float, typer.Option("--output", help="USD per million output tokens.")]
ExpertName = Annotated[str, typer.Argument(help="The expert, as `experts list` shows it.")]
RequestPrice = Annotated[float, typer.Option("--request", help="USD per request.")]
Can = Annotated[
    list[str] | None,
    typer.Option(
        "--can",
        help="context=TOKENS, max_output=TOKENS, tools, json_mode or region=NAME; repeatable.",
    ),
]
_LIMITS = {"context": "context_tokens", "max_output": "max_output_tokens"}


@experts_app.command("list")
def experts_list() -> None:
    """Print the pool with statuses and prices."""
    with opened_backbone() as backbone, backbone.ledger.begin() as tx:
        experts = tx.experts.all()
    for e in experts:
        price = f"{e.price.input_usd_per_mtok:g}/{e.price.output_usd_per_mtok:g} USD per Mtok"
        note = f" ({trouble(e.health)})" if e.is_failing else ""
        typer.echo(
            f"{e.name:45} {e.status:11} {price}, {e.price.request_usd:g} USD a request{note}"
        )


@experts_app.command("add")
def experts_add(  # noqa: PLR0913, PLR0917  what a person may say of an expert
    name: Annotated[str, typer.Argument(help="How the expert is called everywhere.")],
    input_price: InputPrice = 0.0,
    output_price: OutputPrice = 0.0,
    request_price: RequestPrice = 0.0,
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, with /v1.")] = "",
    model: Annotated[str, typer.Option(help="The endpoint's model name.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Variable that holds the key.")] = "",
    can: Can = None,
    ask: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Try the endpoint, then have it answer 192 probes; as a rule at a terminal only.",
        ),
    ] = None,
    weights: Weights = None,
    yes: Yes = False,
) -> None:
    """Register an expert; it is shadowed, ramped and certified while traffic flows.

    Example: steersman experts add gpt-small --input 0.15 --output 0.6
    --base-url https://llm.example/v1 --api-key-env LLM_KEY

    Without --base-url its answers come from recorded traffic. With --probe nothing is registered
    unless the endpoint answers, and what the probes cost is shown before they are asked.
    """
    from ingest.commands import Operator  # noqa: PLC0415

    abilities = declared(can or ())
    client = {"kind": "recorded"}
    if base_url:
        client = {"kind": "openai", "base_url": base_url, "model": model or name}
        client |= {"api_key_env": api_key_env} if api_key_env else {}
    price = Price(
        input_usd_per_mtok=input_price,
        output_usd_per_mtok=output_price,
        request_usd=request_price,
    )
    is_asked = sys.stdin.isatty() and sys.stdout.isatty() if ask is None else ask
    is_asked = is_asked and weights is None  # weights are described without a call
    with opened_backbone() as backbone:
        operator = Operator(backbone.ledger, backbone.clock)
        prober = None
        if base_url and is_asked:
            prober = tried(operator.new_expert(name, price, client, abilities))
        expert = operator.add_expert(name, price, client, abilities)
        typer.echo(f"{name} is registered; `steersman experts show {name}` says how far it is")
        if weights is not None:
            by_weights(backbone, expert.name, weights)
        elif prober is not None:
            by_answers(backbone, expert, prober, yes=yes)


experts_app.command()(show)
experts_app.command()(probe)


@experts_app.command("declare")
def declare(
    name: ExpertName,
    can: Annotated[
        list[str] | None,
        typer.Argument(help="context=TOKENS max_output=TOKENS tools json_mode region=NAME …"),
    ] = None,
) -> None:
    """Say what an expert can do; all of it: what is not named is not declared.

    Example: steersman experts declare gpt-small context=128000 tools json_mode region=eu

    A request that needs more is never sent there: not to be served, not to be judged.
    """
    from ingest.commands import Operator  # noqa: PLC0415

    found = declared(can or ())
    with opened_backbone() as backbone:
        Operator(backbone.ledger, backbone.clock).declare(name, found)


@experts_app.command("price")
def experts_price(
    name: ExpertName,
    input_price: InputPrice = 0.0,
    output_price: OutputPrice = 0.0,
    request_price: RequestPrice = 0.0,
) -> None:
    """Change an expert's price; all of it: what is not named becomes 0.

    Example: steersman experts price gpt-small --input 0.15 --output 0.6
    """
    from ingest.commands import Operator  # noqa: PLC0415

    with opened_backbone() as backbone:
        price = Price(
            input_usd_per_mtok=input_price,
            output_usd_per_mtok=output_price,
            request_usd=request_price,
        )
        Operator(backbone.ledger, backbone.clock).set_price(name, price)


def _status_command(name: str, status: ExpertStatus, explanation: str) -> None:
    def command(expert: ExpertName) -> None:
        from ingest.commands import Operator  # noqa: PLC0415

        with opened_backbone() as backbone:
            Operator(backbone.ledger, backbone.clock).set_status(expert, status)

    command.__doc__ = explanation
    experts_app.command(name)(command)


_status_command("pause", ExpertStatus.PAUSED, "Take an expert out of service at once.")
_status_command("resume", ExpertStatus.SHADOW, "Bring a paused expert back, shadowed first.")
_status_command("retire", ExpertStatus.RETIRED, "Take an expert out for good.")


def declared(words: Sequence[str]) -> Capabilities:
    """Return the record that words such as ``context=8000``, ``tools``, ``region=eu`` stand for.

    Raises
    ------
    SettingsInvalid
        A word means nothing; the message lists those that do.
    """
    limits: dict[str, int] = {}
    regions: list[str] = []
    for word in words:
        name, _, value = word.partition("=")
        if name in _LIMITS and value.isdecimal():
            limits[_LIMITS[name]] = int(value)
        elif name == "region" and value:
            regions.append(value)
        elif word not in {"tools", "json_mode"}:
            raise SettingsInvalid(
                f"{word!r} is nothing an expert can do; say context=TOKENS, max_output=TOKENS,"
                " tools, json_mode or region=NAME"
            )
    return Capabilities(
        context_tokens=limits.get("context_tokens"),
        max_output_tokens=limits.get("max_output_tokens"),
        tools="tools" in words,
        json_mode="json_mode" in words,
        regions=tuple(dict.fromkeys(regions)),
    )
