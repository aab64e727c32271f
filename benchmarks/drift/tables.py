"""The tables, with 95 % intervals over seeds, and what issue 6 asks against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.drift.methods import ALPHA, METHODS, OURS, STATIC, WITH_LEVEL
from benchmarks.drift.runs import Found
from benchmarks.drift.served import ALL, BEFORE, BY_REGRET, FIRST, HINDSIGHT, LATE, PHASES, Figures
from benchmarks.timing import mean_with_interval, table, verdict
from store.records import FloatArray

FIRST_EXCESS, LATE_EXCESS, OF_STATIC = 0.02, 0.005, 1.0 / 3.0
CHEAP, STATIC_EXCESS = 0.6, 0.10
"""Of the pools that the targets under change are for: what static CRC lets others serve before the
change, and its excess regret after it."""
RISK_SLACK, COST, OVER_HINDSIGHT, SAFE_SHARE = 0.005, 0.60, 0.10, 0.05
Results = dict[tuple[str, str], list[Found]]
"""By pool and scenario: one for each seed."""


def figures_of(found: Sequence[Found], method: str, read: Callable[[Figures], float]) -> FloatArray:
    """Return float64[seeds]."""
    return np.array([read(one[method]) for one in found])


def shown(values: FloatArray) -> str:
    """Return the mean with its 95 % interval."""
    if not np.isfinite(values).all():
        return "-"
    mean, low, high = mean_with_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def by_method(results: Results, scenario: str, pools: Sequence[str]) -> str:
    """Return a scenario's table over these pools: a seed's figures are averaged over them."""
    columns = ("method", *(f"regret {p}" for p in PHASES if p != "all"), "loss in force, all")
    rows = []
    for method in (*METHODS, HINDSIGHT, BY_REGRET):
        reads = [*(_regret(i) for i in range(len(PHASES) - 1)), _set_loss, _cost, _safe]
        cells = [_averaged(results, scenario, pools, method, read) for read in reads]
        rows.append((method, *map(shown, cells)))
    return table((*columns, "cost", "λ at SAFE"), rows)


def seeds_of(results: Results, scenario: str, pools: Sequence[str]) -> int:
    """Return how many seeds all of these pools have: the first ones, since some have more."""
    return min(len(results[pool, scenario]) for pool in pools)


def _averaged(
    results: Results,
    scenario: str,
    pools: Sequence[str],
    method: str,
    read: Callable[[Figures], float],
) -> FloatArray:
    """Return float64[seeds]: means over the pools that have the figure (costs: not all)."""
    kept = seeds_of(results, scenario, pools)
    values = np.array([figures_of(results[p, scenario][:kept], method, read) for p in pools])
    known = values[np.isfinite(values).all(axis=1)]
    return known.mean(axis=0) if len(known) else np.full(values.shape[1], np.nan)


def under_change(results: Results, scenarios: Sequence[str], pools: Sequence[str]) -> str:
    """Return the verdicts on excess regret after an abrupt change, pool by pool."""
    columns = (
        "change, pool",
        "seeds",
        "static: others serve before",
        "static: excess, first 1.5k",
        "method",
        "excess, first 1.5k",
        f"≤ {FIRST_EXCESS}",
        "positive part / static's",
        "≤ 1/3",
        "excess after 4k",
        f"≤ {LATE_EXCESS}",
    )
    rows = [
        row
        for scenario in scenarios
        for pool in pools
        for row in _rows_under_change(results[pool, scenario], f"{scenario}: {pool}")
    ]
    return table(columns, rows)


def has_target(found: Sequence[Found]) -> bool:
    """Return whether the targets under change are for a pool: there is something to lose."""
    cheap = figures_of(found, STATIC, lambda f: float(f.cheap[BEFORE]))
    static = figures_of(found, STATIC, _regret(FIRST)) - ALPHA
    return bool(cheap.mean() >= CHEAP and static.mean() >= STATIC_EXCESS)


def _rows_under_change(found: Sequence[Found], name: str) -> Sequence[Sequence[object]]:
    cheap = figures_of(found, STATIC, lambda f: float(f.cheap[BEFORE]))
    static = figures_of(found, STATIC, _regret(FIRST)) - ALPHA
    applies = has_target(found)
    rows = []
    for method in (OURS, WITH_LEVEL):
        first = figures_of(found, method, _regret(FIRST)) - ALPHA
        late = figures_of(found, method, _regret(LATE)) - ALPHA
        part = float(np.maximum(first, 0.0).mean() / max(np.maximum(static, 0.0).mean(), 1e-9))
        said = (
            verdict(float(first.mean()), FIRST_EXCESS),
            verdict(part, OF_STATIC),
            verdict(float(late.mean()), LATE_EXCESS),
        )
        one, two, three = said if applies else ("no target",) * 3
        known = (name, len(found), shown(cheap), shown(static), method)
        rows.append((*known, shown(first), one, f"{part:.2f}", two, shown(late), three))
    return rows


def while_stationary(results: Results, scenario: str, pools: Sequence[str]) -> str:
    """Return the verdicts on cost and safe mode without any change, pool by pool."""
    columns = (
        "pool",
        "seeds",
        "loss in force",
        "cost",
        "best λ in hindsight",
        "by regret",
        "cost target",
        "λ at SAFE",
        f"≤ {SAFE_SHARE:.0%}",
    )
    rows = []
    for pool in pools:
        found = results[pool, scenario]
        cost, held, regret = (figures_of(found, m, _cost) for m in (OURS, HINDSIGHT, BY_REGRET))
        safe = figures_of(found, OURS, _safe)
        said = _cost_verdict(cost, held, regret) if np.isfinite(cost).all() else "no costs"
        loss = shown(figures_of(found, OURS, _set_loss))
        costs = map(shown, (cost, held, regret))
        rows.append(
            (pool, len(found), loss, *costs, said, shown(safe), verdict(safe.mean(), SAFE_SHARE))
        )
    return table(columns, rows)


def _cost_verdict(cost: FloatArray, held: FloatArray, regret: FloatArray) -> str:
    """Return the verdict; where the two readings of hindsight part, both."""
    said = [
        verdict(float(cost.mean()), max(COST, float(best.mean()) + OVER_HINDSIGHT))
        for best in (held, regret)
    ]
    return said[0] if said[0] == said[1] else f"{said[0]}; by regret {said[1]}"


def at_other_rates(results: Results, scenarios: Sequence[str], pools: Sequence[str]) -> str:
    """Return risk without a change, and excess after one, at other label shares and delays."""
    risk_target = ALPHA + RISK_SLACK
    columns = ("scenario, pool", "seeds", "loss in force, all", f"≤ {risk_target:g}")
    rows = []
    for scenario in scenarios:
        for pool in pools:
            found = results[pool, scenario]
            risk = figures_of(found, OURS, _set_loss)
            is_still = scenario.startswith("stationary")
            said = verdict(float(risk.mean()), risk_target) if is_still else "no target"
            late = figures_of(found, OURS, _regret(LATE))
            first = figures_of(found, OURS, _regret(FIRST))
            rows.append(
                (f"{scenario}: {pool}", len(found), shown(risk), said, shown(first), shown(late))
            )
    return table((*columns, "regret, first 1.5k", "regret after 4k"), rows)


def _regret(phase: int) -> Callable[[Figures], float]:
    return lambda f: float(f.regret[phase])


def _set_loss(f: Figures) -> float:
    return float(f.set_loss[ALL])


def _cost(f: Figures) -> float:
    return float(f.cost[ALL])


def _safe(f: Figures) -> float:
    return f.safe
