"""``python -m benchmarks.drift.choose --data DIR``: step sizes and widths of the other methods.

On two sets (``methods.CHOSEN_ON``), with other seeds than the reported ones: the least loss in
force in the 1,500 requests after an abrupt change, among those whose loss without any change is
at most α + .005.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.drift.methods import (
    ALPHA,
    CHOSEN_ON,
    METHODS,
    Aci,
    Decaying,
    DtAci,
    Method,
    Rolling,
    Sliding,
)
from benchmarks.drift.pools import files, read
from benchmarks.drift.runs import runs
from benchmarks.drift.served import ALL, FIRST
from benchmarks.drift.streams import ABRUPT, POLICY, STATIONARY
from benchmarks.given import recorded_in
from benchmarks.timing import table

SEEDS = range(1_000, 1_008)
SLACK = 0.005


def main() -> None:
    """Print what each setting does."""
    names = [file for name in CHOSEN_ON for file in files(name)]
    folder = recorded_in("drift.choose", __doc__, names)
    if folder is None:
        return
    METHODS.clear()
    METHODS.update(settings())
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for name in CHOSEN_ON:
        for pool in read(folder, name, margin=POLICY.margin):
            for seed in SEEDS:
                still, changed = (f for _, f in runs(pool, (STATIONARY, ABRUPT), seed))
                for method in METHODS:
                    pair = (still[method].set_loss[ALL], changed[method].set_loss[FIRST])
                    found[method].append((float(pair[0]), float(pair[1])))
    means = {name: np.mean(pairs, axis=0) for name, pairs in found.items()}
    rows = [
        (name, f"{still:.3f}", f"{changed:.3f}", "yes" if still <= ALPHA + SLACK else "no")
        for name, (still, changed) in means.items()
    ]
    print(table(("setting", "loss, no change", "loss, first 1.5k after", "may be chosen"), rows))


def settings() -> dict[str, Callable[[], Method]]:
    """Return what is tried; a window is never shorter than the labels that ours asks for."""
    made: dict[str, Callable[[], Method]] = {}
    for width in (100, 150, 250, 500):
        made[f"sliding, {width} labels"] = partial(Sliding, width)
        made[f"DtACI, {width} labels"] = partial(DtAci, width)
    for step in (0.1, 0.2, 0.5, 1.0, 2.0):
        made[f"rolling, step {step}"] = partial(Rolling, step)
    for step in (0.005, 0.01, 0.02, 0.05, 0.1):
        for width in (250, 500):
            made[f"ACI, step {step}, {width} labels"] = partial(Aci, step, width)
    for scale in (0.5, 1.0, 2.0, 5.0, 10.0):
        made[f"decaying, scale {scale}"] = partial(Decaying, scale)
    return made


if __name__ == "__main__":
    main()
