"""``python -m benchmarks.judge_canaries``: canaries before a real, very small language model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.timing import heading, table
from ingest.announce import announce_alert
from judge.canaries import GIBBERISH_WORSE, finding
from judge.llm import LlmJudge
from judge.pairs import Panel
from judge.patrol import Patrol
from online.chat import Chat
from online.clients import Endpoint
from store.clock import SystemClock
from store.judging import CanaryResult
from store.memory import MemoryLedger
from store.records import Price

MODEL = "smollm2"
LIMIT_S = 420.0
CLOCK = SystemClock()


def main() -> None:
    """Print the table."""
    print(heading("python -m benchmarks.judge_canaries"))
    with local_models() as url:
        endpoint = Endpoint(base_url=url, model=MODEL, price=Price(request_usd=0.0001))
        judge = LlmJudge(Chat(endpoint), CLOCK, is_structured=True)
        ledger = MemoryLedger(clock=CLOCK)
        patrol = Patrol(
            ledger, lambda: Panel((judge,)), CLOCK, announce=announce_alert, send=lambda _: None
        )
        stop = threading.Event()
        timer = threading.Timer(LIMIT_S, stop.set)
        timer.start()
        started = CLOCK.monotonic()
        (results,) = patrol.run_now(stop)
        took = CLOCK.monotonic() - started
        timer.cancel()
    if not results:
        raise TimeoutError(f"the canaries took over {LIMIT_S:.0f} s")
    with ledger.begin() as tx:
        held = tx.judging.quarantines()
    print(_text(results, took, is_held=bool(held)))


@contextmanager
def local_models() -> Iterator[str]:
    """Yield the address of the models that run here."""
    with (
        tempfile.TemporaryDirectory(prefix="jc") as folder,
        subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-m", "tests.local_models", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise ValueError("the models did not load: python -m tests.local_models FOLDER")
            yield url
        finally:
            process.kill()


def _text(results: Sequence[CanaryResult], took: float, *, is_held: bool) -> str:
    kinds = list(dict.fromkeys(result.name.rpartition("-")[0] for result in results))
    rows = [_row(kind, [r for r in results if r.name.rpartition("-")[0] == kind]) for kind in kinds]
    found = finding(results)
    columns = ("canaries", "shown", "right", "wrong", "unreadable", "share wrong")
    return (
        f"\nSmolLM2-135M-Instruct, replies held to the verdict's schema, both orders, {took:.0f}"
        f" s:\n{table(columns, rows)}\n\n"
        f"It lost {len(found.lost)} canaries, gibberish aside, and judged"
        f" {100 * found.gibberish_worse:.0f} % of the gibberish worse (at least"
        f" {100 * GIBBERISH_WORSE:.0f} % must be):"
        f" {'it is in quarantine' if is_held else 'it may judge'}."
    )


def _row(kind: str, results: Iterable[CanaryResult]) -> tuple[str, ...]:
    right = [result.is_right for result in results]
    wrong = right.count(False)
    counts = (len(right), right.count(True), wrong, right.count(None))
    return (f"`{kind}`", *map(str, counts), f"{100 * wrong / len(right):.0f} %")


if __name__ == "__main__":
    main()
