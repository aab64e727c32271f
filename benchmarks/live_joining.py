"""``python -m benchmarks.live_joining``: what a useless, a better and a copied newcomer get.

The loop of ``tests/newcomers.py``: the real handler, judge and learner over synthetic traffic in
four clusters, in event time; every request is judged, so that requests are labels. All seeds are
independent runs; intervals are over runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.timing import heading, mean_with_interval, table, verdict
from ingest.local import BATCH
from store.records import ExpertStatus
from tests.newcomers import (
    BETTER,
    LABELS,
    MORE,
    USELESS,
    WINDOW,
    Run,
    drawn,
    joined,
    of_newcomer,
)
from tests.unit.loop_fakes import regret

RUNS = range(100, 108)
"""Seeds that no test uses."""
QUOTA = 0.01
HALF = 0.5
HARM = 0.03
SETTLED = 160
RESTART = 192


def main() -> None:
    """Print the tables."""
    print(heading("python -m benchmarks.live_joining"))
    print(useless())
    print(better())
    print(copied())


def useless() -> str:
    """Count what a useless newcomer serves, with a restart in the middle of its ramp too."""
    rows = []
    for name, at in (("one life", None), ("restarted in its ramp", RESTART)):
        found = [joined(seed, USELESS, price=0.001, restart_after=at) for seed in RUNS]
        served = sum(len(of_newcomer(run)) for run in found)
        outside = sum(len(of_newcomer(run) - drawn(run, QUOTA)) for run in found)
        total = len(found) * MORE
        row = (name, f"{total:,}", f"{served:,}", f"{100 * served / total:.2f} %", f"{outside}")
        rows.append((*row, verdict(outside, 0)))
    columns = ("a useless newcomer", "requests", "served", "share", "outside its quota", "target 0")
    return (
        "\nA newcomer that is right on 2 % of the prompts, at a thousandth of the reference's price"
        f"; the quota is {QUOTA:g} of the requests, chosen by a hash of each:\n"
        + table(columns, rows)
    )


def better() -> str:
    """Compare a better and cheaper newcomer with one that was there from the start."""
    ratios, certified, first_routes = [], [], []
    for seed in RUNS:
        found, known = joined(seed, BETTER), joined(seed, BETTER, is_old=True)
        at = found.at_labels(LABELS) or MORE - WINDOW
        ratios.append(found.share(at, at + WINDOW) / known.share(at, at + WINDOW))
        certified.append(_labels_at(found, found.at_status(ExpertStatus.CERTIFIED)))
        first_routes.append(_labels_at(found, _first_served(found)))
    mean, low, high = mean_with_interval(ratios)
    rows = [
        (
            f"share of the {WINDOW} requests after its label {LABELS}, of its natural share",
            f"{mean:.2f} ({low:.2f} to {high:.2f})",
            f"{min(ratios):.2f}",
            verdict(min(ratios), HALF, at_least=True),
        ),
        ("labels when it was first served", _spread(first_routes), f"{max(first_routes)}", ""),
        ("labels when it was certified", _spread(certified), f"{max(certified)}", ""),
    ]
    columns = ("a better and cheaper newcomer", "mean (95 %)", "worst run", f"target {HALF:g}")
    return (
        f"\n{len(RUNS)} runs; labels are all it has, probes among them; its natural share is that"
        " of the same requests where it was there from the first:\n" + table(columns, rows)
    )


def copied() -> str:
    """Compare the regret with and without a copy of an expert, on the same requests."""
    with_copy, without = [], []
    for seed in RUNS:
        with_copy.append(_regret(joined(seed, None, price=0.2)))
        without.append(_regret(joined(seed, None, stays_out=True)))
    added, low, high = mean_with_interval(np.subtract(with_copy, without).tolist())
    row = (
        f"{np.mean(without):.4f}",
        f"{np.mean(with_copy):.4f}",
        f"{added:+.4f} ({low:+.4f} to {high:+.4f})",
        verdict(max(-low, high), HARM),
    )
    columns = ("regret without the copy", "with it", "difference (95 %)", f"within ±{HARM:g}")
    return (
        f"\nA copy of an expert, at its price, on {MORE - SETTLED} requests a run"
        f" ({len(RUNS)} runs):\n" + table(columns, [row])
    )


def _regret(run: Run) -> float:
    return regret(run.served[SETTLED:])


def _labels_at(found: Run, requests: int | None) -> int:
    """Return its labels after so many requests; those at the end if that never came."""
    return found.labels[-1 if requests is None else requests // BATCH - 1]


def _first_served(found: Run) -> int | None:
    ids = of_newcomer(found)
    served = [one.decision.request_id in ids for one in found.served]
    return BATCH * (served.index(True) // BATCH + 1) if any(served) else None


def _spread(values: Sequence[int]) -> str:
    mean, low, high = mean_with_interval(values)
    return f"{mean:.0f} ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    main()
