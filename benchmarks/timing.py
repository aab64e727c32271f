"""What the benchmarks share: interleaved timings, intervals, and Markdown tables."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TypeVar

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]  # ships no stubs

from store.clock import SystemClock
from store.records import FloatArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of n repetitions of one thing."""

    seconds: FloatArray

    @property
    def p50(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p99(self) -> float:
        return float(np.quantile(self.seconds, 0.99))


def timed(act: Callable[[T], object], inputs: Iterable[T]) -> Timings:
    """Return the time of ``act`` on each input."""
    return Timings(np.array([_once(act, one) for one in inputs]))


def interleaved(
    first: Callable[[T], object], second: Callable[[T], object], inputs: Sequence[T]
) -> tuple[Timings, Timings]:
    """Return the times of two things on the same inputs, in pairs that change their order.

    What else the machine does meanwhile, and how warm its caches are, then meets both alike.
    """
    seconds = np.empty((len(inputs), 2))
    for i, one in enumerate(inputs):
        pair = [(0, first), (1, second)]
        for column, act in pair if i % 2 else reversed(pair):
            seconds[i, column] = _once(act, one)
    return Timings(seconds[:, 0]), Timings(seconds[:, 1])


def median_with_interval(values: FloatArray) -> tuple[float, float, float]:
    """Return the median and the ends of its 95 % interval, from order statistics."""
    ranked = np.sort(values)
    half = 0.98 * math.sqrt(len(ranked))
    low = max(0, math.floor(len(ranked) / 2 - half))
    high = min(len(ranked) - 1, math.ceil(len(ranked) / 2 + half) - 1)
    return float(np.median(ranked)), float(ranked[low]), float(ranked[high])


def mean_with_interval(values: Sequence[float] | FloatArray) -> tuple[float, float, float]:
    """Return the mean of two or more independent runs and the ends of its 95 % interval, Student's:
    runs are few, and a normal one would be too narrow.
    """
    runs = np.asarray(values, dtype=np.float64)
    mean, n = float(runs.mean()), len(runs)
    half = float(student.ppf(0.975, n - 1)) * float(runs.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def heading(command: str) -> str:
    """Return the line above a benchmark's tables: when, on what, and how busy that was."""
    now = SystemClock().now().astimezone(UTC)
    load = os.getloadavg()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"### `{command}`\n\n{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" Python {platform.python_version()}, load {load:.1f} at the start."
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, columns after the first to the right, with a line before it."""
    lines = ["", f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def verdict(value: float, target: float, *, at_least: bool = False) -> str:
    """Return whether a figure meets its target."""
    met = value >= target if at_least else value <= target
    return "met" if met else "**missed**"


def ms(seconds: float) -> str:
    """Return seconds as milliseconds with three digits."""
    return f"{_three(1e3 * seconds)} ms"


def _three(value: float) -> str:
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{min(max(digits, 0), 3)}f}"


def _once(act: Callable[[T], object], one: T) -> float:
    started = time.perf_counter()
    act(one)
    return time.perf_counter() - started
