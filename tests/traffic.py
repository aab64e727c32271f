"""Short prompts of three topics, and what two experts are recorded to have answered to them."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

WORDS = {
    "math": ("integral", "derivative", "matrix", "prime", "vector", "theorem"),
    "food": ("soup", "bread", "garlic", "oven", "onion", "sauce"),
    "law": ("contract", "court", "appeal", "tort", "statute", "clause"),
}


def short_texts(count: int) -> list[str]:
    """Return prompts, the same ones each time."""
    rng = random.Random(7)  # noqa: S311
    topics = itertools.islice(itertools.cycle(WORDS), count)
    return [f"{t} {i}: " + " ".join(rng.choices(WORDS[t], k=6)) for i, t in enumerate(topics)]


def write_traffic(file: Path) -> None:
    """Record answers under ``t0``, ``t1``, ...: ``small`` is cheap, and bad at mathematics."""
    rng = random.Random(8)  # noqa: S311
    with file.open("w") as lines:
        for number, prompt in enumerate(short_texts(200)):
            small = 0.2 if prompt.startswith("math") else 0.95
            for model, cost, chance in (("strong", 1.0, 0.95), ("small", 0.1, small)):
                row = {"prompt_id": f"t{number}", "prompt": prompt, "model": model, "cost": cost}
                lines.write(json.dumps(row | {"score": float(rng.random() < chance)}) + "\n")
