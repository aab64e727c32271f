"""What a person sees in the terminal: progress while traffic flows, the summary at the end.

With ``summary_tables.py`` the home of rich. Everything is readable without colour and fits 100
columns; names of experts are printed as they are, never as markup.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from ingest.summary_tables import blocks
from recalibrate import words
from recalibrate.summary import Summary
from store.clock import Clock, SystemClock
from store.records import ExpertId, JsonObject

WIDTH = 100
PLAIN_EVERY_S = 5.0
"""How often a line is written when the output is not a terminal."""
RATE_OVER_S = 10.0


def terminal() -> Console:
    """Return standard output, 100 columns wide at most."""
    made = Console(highlight=False)
    if made.is_terminal and made.width <= WIDTH:
        return made
    return Console(highlight=False, width=WIDTH)


def print_summary(summary: Summary, *, console: Console | None = None) -> None:
    """Print the same facts as the report."""
    out = console or terminal()
    for block in blocks(summary):
        out.print(block)
        out.print()


class Progress:
    """How far a stream has come: a live display, or plain lines when piped.

    Parameters
    ----------
    total
        Prompts that will be streamed.
    """

    def __init__(
        self, *, total: int, console: Console | None = None, clock: Clock | None = None
    ) -> None:
        self._out = console or terminal()
        self._clock = clock or SystemClock()
        self._total = total
        self._phase = ""
        self._done = 0
        self._labels = 0
        self._last_event = ""
        self._state: JsonObject = {}
        self._served: Mapping[ExpertId, int] = {}
        self._past: deque[tuple[float, int]] = deque()
        self._next_line = 0.0
        self._live = Live(console=self._out, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the display away; what was printed stays."""
        self._live.stop()

    def phase(self, name: str) -> None:
        """Begin a phase."""
        self._phase = name
        self._say(f"phase: {name}", style="bold")

    def event(self, text: str) -> None:
        """Tell that something happened."""
        self._last_event = text
        self._say(text)

    def update(
        self,
        *,
        done: int,
        labels: int,
        state: JsonObject | None = None,
        served: Mapping[ExpertId, int] | None = None,
    ) -> None:
        """Show how far things are.

        Parameters
        ----------
        state
            As ``GET /v1/state`` returns it; the last one stays while None.
        served
            Requests by expert; the last one stays while None.
        """
        self._done, self._labels = done, labels
        self._state = self._state if state is None else state
        self._served = self._served if served is None else served
        now = self._clock.monotonic()
        self._past.append((now, done))
        while len(self._past) > 2 and now - self._past[0][0] > RATE_OVER_S:
            self._past.popleft()
        if self._live.is_started:
            self._live.update(self._drawn())
        elif now >= self._next_line:
            self._next_line = now + PLAIN_EVERY_S
            self._out.print(Text(self.line()), soft_wrap=True)

    def line(self) -> str:
        """Return where things stand, in one line."""
        parts = [self._phase, f"{self._done:,}/{self._total:,} prompts", f"{self._rate():,.0f}/s"]
        active = self._state.get("active")
        if isinstance(active, Mapping):
            parts.append(f"λ {words.threshold(float(str(active.get('threshold', 'nan'))))}")
            parts.append(f"state {active.get('version')}")
        parts.append(f"{self._labels:,} labels")
        missing = self._state.get("waiting")
        if isinstance(missing, Mapping):
            parts.append(str(missing.get("text")))
        if shares := self._shares():
            parts.append(shares)
        return " | ".join(part for part in parts if part)

    def _rate(self) -> float:
        (start, before), (end, after) = self._past[0], self._past[-1]
        return (after - before) / (end - start) if end > start else 0.0

    def _shares(self) -> str:
        total = sum(self._served.values())
        ordered = sorted(self._served.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in ordered if total)

    def _drawn(self) -> RenderableType:
        bar = ProgressBar(total=self._total, completed=self._done, width=min(60, self._out.width))
        lines: list[RenderableType] = [Text(self.line()), bar]
        if self._last_event:
            lines.append(Text(f"last: {self._last_event}", style="dim", overflow="ellipsis"))
        return Group(*lines)

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(Text(f"[{self._done:>6,}] {text}", style=style), soft_wrap=True)


class Bar:
    """How far a count has come: a bar on a terminal, a line every five seconds when piped."""

    def __init__(
        self, what: str, *, total: int, console: Console | None = None, clock: Clock | None = None
    ) -> None:
        self._what = what
        self._total = total
        self._out = console or terminal()
        self._clock = clock or SystemClock()
        self._next_line = 0.0
        self._live = Live(console=self._out, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, done: int) -> None:
        """Show how far it is."""
        line = Text(f"{self._what}: {done:,} of {self._total:,}")
        if self._live.is_started:
            width = min(60, self._out.width)
            self._live.update(
                Group(line, ProgressBar(total=self._total, completed=done, width=width))
            )
        elif self._clock.monotonic() >= self._next_line or done >= self._total:
            self._next_line = self._clock.monotonic() + PLAIN_EVERY_S
            self._out.print(line, soft_wrap=True)
