"""The demo's traffic: real recorded prompts with judged answers, from the paretobandit package.

3,609 prompts (GSM8K, MMLU, MBPP, BBH …), LLM-judge rewards and recorded USD costs of three models
(Apache-2.0). Read where it is installed; only the run directory gets a copy in our own format.
"""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.errors import SettingsInvalid
from store.records import ExpertId

LLAMA = ExpertId("llama-3.1-8b-instruct")
MISTRAL = ExpertId("mistral-large-2512")
GEMINI = ExpertId("gemini-2.5-pro")
SHORT_NAMES = {"llama": LLAMA, "mistral": MISTRAL}
WARM = 600
JOINS_AT = 0.25
REGRESSES_AT = 0.65
REGRESSED_SHARE = 0.40
SEED = 20_260_101
_FILES = ("val.jsonl", "test_holdout.jsonl")


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One prompt with each expert's recorded score and cost."""

    request_id: str
    text: str
    answers: dict[ExpertId, tuple[float, float]]


def load_prompts() -> list[DemoPrompt]:
    """Return the prompts in a fixed shuffled order, so that the stream is stationary.

    Raises
    ------
    SettingsInvalid
        The package is not installed.
    """
    try:
        folder = importlib.resources.files("pareto_bandit") / "data" / "examples"
    except ModuleNotFoundError as missing:
        raise SettingsInvalid(
            "the demo's traffic is missing: pip install 'steersman[demo]'"
        ) from missing
    # Split on "\n" alone: prompts contain other line separators.
    lines = [line for name in _FILES for line in (folder / name).read_bytes().split(b"\n") if line]
    order = np.random.default_rng(SEED).permutation(len(lines))
    return [_prompt(number, json.loads(lines[i])) for number, i in enumerate(order)]


def injected(prompts: list[DemoPrompt], expert: ExpertId | None) -> list[DemoPrompt]:
    """Return the prompts with a random 40 % of one expert's answers made unacceptable from 65 % of
    the stream on: score 0, whatever it was. Nothing in the loop is told.
    """
    first = WARM + int(REGRESSES_AT * (len(prompts) - WARM))
    worse = np.random.default_rng(SEED + 1).random(len(prompts)) < REGRESSED_SHARE
    return [
        DemoPrompt(p.request_id, p.text, {**p.answers, expert: (0.0, p.answers[expert][1])})
        if expert is not None and i >= first and worse[i]
        else p
        for i, p in enumerate(prompts)
    ]


def write_recorded(prompts: list[DemoPrompt], path: Path) -> None:
    """Write the traffic in the format of ``online.recorded``."""
    with path.open("w", encoding="utf-8") as file:
        for prompt in prompts:
            for expert, (score, cost) in prompt.answers.items():
                row = {
                    "prompt_id": prompt.request_id,
                    "prompt": prompt.text,
                    "model": expert,
                    "score": score,
                    "cost": cost,
                }
                file.write(json.dumps(row) + "\n")


def _prompt(number: int, row: dict[str, dict[str, dict[str, float]]]) -> DemoPrompt:
    answers = {
        ExpertId(name.split("/")[-1]): (float(a["reward"]), float(a["cost"]))
        for name, a in row["arms"].items()
    }
    return DemoPrompt(f"demo-{number:05d}", str(row["prompt"]), answers)
