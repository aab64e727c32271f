"""A soak in one picture: memory, queues and latencies over the minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.soak_watch import QUEUES, Sample


def draw(samples: Sequence[Sample], took: Sequence[tuple[float, float]], path: Path) -> None:
    """Write the picture as SVG."""
    minutes = np.array([s["seconds"] for s in samples]) / 60
    figure = Figure(figsize=(8, 9), layout="constrained")
    memory, queues, calls = figure.subplots(3, 1, sharex=True)
    for name in sorted(n for n in samples[-1] if n.startswith(("rss_", "pss_"))):
        values = [s.get(name, np.nan) / 2**20 for s in samples]
        memory.plot(minutes, values, label=name.partition("_")[2])
    for name in QUEUES:
        queues.plot(minutes, [s.get(name, 0.0) for s in samples], label=name)
    due, seconds = (np.array(column) for column in zip(*took, strict=True))
    parts = np.unique(due // 60)
    for quantile in (0.5, 0.95, 0.99):
        values = [1e3 * float(np.quantile(seconds[due // 60 == p], quantile)) for p in parts]
        calls.plot(parts + 0.5, values, label=f"p{100 * quantile:.0f}", marker=".")
    memory.set_ylabel("MiB")
    queues.set_ylabel("waiting")
    calls.set_ylabel("ms")
    calls.set_xlabel("minute")
    for axes in (memory, queues, calls):
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, ncols=2)
    figure.savefig(path)
