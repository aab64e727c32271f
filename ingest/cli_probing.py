"""Describing experts at the terminal: what probing costs, a yes, a bar, and where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.cli_opening import opened_backbone
from store.errors import SettingsInvalid
from store.records import ExpertId

if TYPE_CHECKING:
    from ingest.backbone import Backbone
    from ingest.describing import ProbeClient
    from judge.describing import Describer, ProbeCost
    from store.records import Expert

Yes = Annotated[bool, typer.Option("--yes", help="Without asking: for scripts.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Its open weights here, a folder or .gguf: described from these, with no paid call."
    ),
]
INTERRUPTED = 130


def probe(
    name: Annotated[str, typer.Argument(help="The expert, as `experts list` shows it.")],
    yes: Yes = False,
    weights: Weights = None,
) -> None:
    """Describe an expert: ask what it has not answered of 192 short probes, while traffic flows.

    Example: steersman experts probe gpt-small --yes

    Every answer is kept as it comes: interrupted, it goes on where it stopped. It is paid from the
    day's budget for shadow answers and is never traffic: no decision, no label, no response.
    """
    from ingest.describing import (  # noqa: PLC0415
        ProbeClient,
        can_be_asked,
        known_expert,
        refuse_retired,
    )

    with opened_backbone() as backbone:
        expert = known_expert(backbone, name)
        refuse_retired(expert)
        if weights is not None:
            by_weights(backbone, expert.name, weights)
        elif can_be_asked(expert):
            by_answers(backbone, expert, ProbeClient(expert), yes=yes)
        else:
            raise SettingsInvalid(
                f"{name} answers from recorded traffic, which knows no new prompts: it is described"
                " by its labels alone"
            )


def tried(expert: Expert) -> ProbeClient:
    """Return what probes an endpoint, after one tiny call.

    Raises ``SettingsInvalid``: it does not answer, and nothing is registered.
    """
    from ingest.describing import ProbeClient  # noqa: PLC0415
    from store.errors import ExpertUnavailable  # noqa: PLC0415

    prober = ProbeClient(expert)
    try:
        said = prober.trial()
    except ExpertUnavailable as problem:
        raise SettingsInvalid(
            f"{problem}; nothing is registered: check --base-url, --model and the variable of"
            " --api-key-env, or add it untried with --no-probe"
        ) from problem
    typer.echo(f"{expert.name} answers: {said.latency_ms or 0.0:.0f} ms, {said.cost_usd:.6f} USD")
    return prober


def by_answers(backbone: Backbone, expert: Expert, prober: ProbeClient, *, yes: bool) -> None:
    """Ask the probes that are left, then make the fingerprint; say what it costs first."""
    from ingest.describing import describer  # noqa: PLC0415

    asked = describer(backbone, expert, prober)
    cost = asked.cost()
    if cost.calls and not _is_wanted(expert, cost, yes=yes):
        typer.echo(f"not probed; steersman experts probe {expert.name} does it at any time")
        return
    if cost.calls:
        prober.trial()
        _ask(asked, expert.name)
    _read(backbone, expert.name, asked)


def by_weights(backbone: Backbone, expert: ExpertId, weights: Path) -> None:
    """Make the logit footprint of open weights on this machine."""
    from ingest.console import Bar  # noqa: PLC0415
    from ingest.describing import keep_footprint  # noqa: PLC0415
    from online.probes import COUNT  # noqa: PLC0415

    with Bar(f"{expert}: probes through its weights", total=COUNT) as bar:
        made = keep_footprint(backbone, expert, weights, bar.update)
    typer.echo(f"{expert} is described by its footprint, {len(made.vector)} numbers")


def _is_wanted(expert: Expert, cost: ProbeCost, *, yes: bool) -> bool:
    for line in told(expert, cost):
        typer.echo(line)
    if cost.left_today is not None and cost.at_most > cost.left_today:
        raise SettingsInvalid(
            f"the probes may cost {cost.at_most:.4f} USD, and {cost.left_today:.4f} USD are left of"
            " today's budget for shadow answers: raise shadow_usd_per_day, or come back after"
            " 00:00 UTC"
        )
    return yes or typer.confirm("Ask them now?")


def told(expert: Expert, cost: ProbeCost) -> list[str]:
    """Return what probing will cost, and what joining costs besides, in words."""
    from judge.describing import PER_SECOND, judged_cost  # noqa: PLC0415
    from recalibrate.lifecycle import PROBES  # noqa: PLC0415
    from recalibrate.rolling import FLOOR  # noqa: PLC0415

    left = "" if cost.left_today is None else f" ({cost.left_today:.2f} USD are left of it today)"
    shadows = judged_cost(expert.price, PROBES + int(FLOOR))
    return [
        f"{cost.calls} probes: about {cost.about:.4f} USD, at most {cost.at_most:.4f} USD, from the"
        f" budget for shadow answers{left}; {cost.calls / PER_SECOND:.0f} s or more",
        f"to be certified it then answers about {PROBES} requests already judged and at least"
        f" {FLOOR:.0f} of sampled traffic: about {shadows:.4f} USD more, and their judging"
        " (steersman judge cost)",
    ]


def _ask(asked: Describer, name: ExpertId) -> None:
    from ingest.console import Bar  # noqa: PLC0415
    from online.probes import COUNT  # noqa: PLC0415

    try:
        with Bar(f"{name}: probes answered", total=COUNT) as bar:
            asked.run(bar.update)
    except KeyboardInterrupt:
        done = sum(text is not None for text in asked.answers())
        typer.echo(
            f"stopped: {done} of {COUNT} probes are answered and kept; go on with"
            f" steersman experts probe {name}"
        )
        raise typer.Exit(INTERRUPTED) from None


def _read(backbone: Backbone, name: ExpertId, asked: Describer) -> None:
    from ingest.console import Bar  # noqa: PLC0415
    from ingest.describing import keep_fingerprint  # noqa: PLC0415
    from online.probes import COUNT  # noqa: PLC0415

    reader = backbone.settings.fingerprint_model
    if not reader:
        typer.echo(
            f"all {COUNT} answers are kept; for a fingerprint of them set"
            " STEERSMAN_FINGERPRINT_MODEL to a small language model (a folder of weights) and run"
            f" steersman experts probe {name}"
        )
        return
    with Bar(f"{name}: answers read", total=COUNT) as bar:
        made = keep_fingerprint(backbone, name, asked, reader, bar.update)
    typer.echo(f"{name} is described by its fingerprint, {len(made.vector)} numbers")
