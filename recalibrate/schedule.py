"""APScheduler as a clock: it calls a step at intervals and remembers nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from apscheduler.schedulers.background import BackgroundScheduler


def run_every(
    seconds: float,
    step: Callable[[], object],
    stop: threading.Event,
    *,
    on_error: Callable[[Exception], None],
) -> None:
    """Call ``step`` every ``seconds`` until ``stop`` is set; calls never overlap.

    Due times, leases and results live in our tables: the scheduler's own job store is its memory.
    """
    # It warns of each call that is left out while a step runs, four times a second.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    scheduler = BackgroundScheduler(timezone="UTC")

    def guarded() -> None:
        try:
            step()
        except Exception as problem:  # noqa: BLE001  the loop's one broad handler: its owner decides
            on_error(problem)

    scheduler.add_job(
        guarded,
        "interval",
        seconds=seconds,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
    )
    scheduler.start()
    try:
        stop.wait()
    finally:
        scheduler.shutdown(wait=True)
