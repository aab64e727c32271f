"""``python -m benchmarks.drift --data DIR [--quick]``: the promise under drift.

The loop's own learner, scores, folds, eligibility, alarm and controller in event time, on recorded
answers: requests come one at a time, a share is judged, labels arrive late, λ is recomputed every
so many labels; what each λ would have served is read off the recorded answers. No broker and no
database. ``--quick`` takes fewer seeds and one set, and its verdicts say nothing.
"""

from __future__ import annotations

from benchmarks.drift.methods import CHOSEN_ON
from benchmarks.drift.pools import SETS, Pool, files, read
from benchmarks.drift.runs import runs
from benchmarks.drift.streams import ABRUPT, OTHERS, POLICY, RATES, STATIONARY, TARGETED, Scenario
from benchmarks.drift.tables import (
    Results,
    at_other_rates,
    by_method,
    has_target,
    seeds_of,
    under_change,
    while_stationary,
)
from benchmarks.given import parser, recorded_at

SEEDS, OTHER_SEEDS = 50, 6
"""Seeds of an abrupt change where it has a target, and of everything else."""
QUICK_SEEDS = 2


def main() -> None:
    """Print the tables."""
    arguments = parser(__doc__)
    arguments.add_argument("--quick", action="store_true", help="two seeds of one set")
    given = arguments.parse_args()
    sets = SETS[:1] if given.quick else SETS
    folder = recorded_at(given.data, "drift", [f for name in sets for f in files(name)])
    if folder is None:
        return
    pools = [pool for name in sets for pool in read(folder, name, margin=POLICY.margin)]
    results: Results = {}
    for pool in pools:
        _add(results, pool, quick=given.quick)
    show(results, [pool.name for pool in pools])


def scenarios(seed: int, *, is_whole: bool) -> tuple[Scenario, ...]:
    """Return what runs with a seed; what has no target is left to the larger pool of a set."""
    if seed >= OTHER_SEEDS:
        return TARGETED
    return (*TARGETED, STATIONARY, *((*RATES, *OTHERS) if is_whole else ()))


def show(results: Results, names: list[str]) -> None:
    """Print every table."""
    whole = [name for name in names if _is_whole(name)]
    print(
        "\nSteps and widths of the other methods were chosen on"
        f" {' and '.join(CHOSEN_ON)}; ours has the shipped settings."
    )
    print(
        "\n**After an abrupt change**, 10 % uniform labels: regret above the target\n"
        + under_change(results, [s.name for s in TARGETED], names)
    )
    print(
        "\n**Without any change**: cost over the reference's\n"
        + while_stationary(results, STATIONARY.name, names)
    )
    print(
        "\n**Other label shares and delays**, mean (ours)\n"
        + at_other_rates(results, [s.name for s in RATES], whole)
    )
    for scenario in (STATIONARY, ABRUPT, *OTHERS):
        seeds = seeds_of(results, scenario.name, whole)
        print(
            f"\n**{scenario.name}**, mean of the sets' pools of three and the reference,"
            f" {seeds} seeds\n" + by_method(results, scenario.name, whole)
        )


def _add(results: Results, pool: Pool, *, quick: bool) -> None:
    """Run a pool's seeds: all of them only if the targets under change are for it."""
    for seed in range(QUICK_SEEDS if quick else SEEDS):
        if seed == OTHER_SEEDS and not has_target(results[pool.name, ABRUPT.name]):
            return
        for scenario, found in runs(pool, scenarios(seed, is_whole=_is_whole(pool.name)), seed):
            results.setdefault((pool.name, scenario.name), []).append(found)


def _is_whole(name: str) -> bool:
    return ", 3 + " in name


if __name__ == "__main__":
    main()
