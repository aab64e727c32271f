"""Named threads that live and die together: if one fails, the process stops instead of limping."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping

from ingest.heartbeat import Sign
from ingest.logs import failure
from store.clock import Clock, SystemClock

log = logging.getLogger(__name__)

GRACE_S = 15.0
"""How long a stop waits for the threads; what is then unfinished comes again after a restart."""
BEAT_S = 1.0
QUIET_S = 60.0
"""How long a member may work without asking whether to stop: six of the broker's time-outs."""


class Crew:
    """Runs each member in a thread of its own until one stop event is set."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failed: str | None = None
        self._clock = SystemClock()
        self._members: dict[str, _Asked] = {}
        self._threads: list[threading.Thread] = []

    def add(
        self,
        name: str,
        work: Callable[[threading.Event], object],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Start a member; ``work`` must return soon after its event is set, and ask for it at
        least every ``quiet_s`` seconds: that is how a health check knows that it does not hang.
        """
        asked = self._members[name] = _Asked(self.stop, self._clock, quiet_s=quiet_s)
        thread = threading.Thread(
            target=self._guarded, args=(name, work, asked), name=name, daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT set the stop event; call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())

    def wait(self, beat: Callable[[Mapping[str, Sign]], None] = lambda _: None) -> int:
        """Wait for the stop, then for the members; return the process's exit status.

        Parameters
        ----------
        beat
            Gets every member's sign of life each second until the stop.
        """
        while not self.stop.is_set():
            beat({name: asked.sign() for name, asked in self._members.items()})
            self.stop.wait(BEAT_S)
        give_up = self._clock.monotonic() + GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, give_up - self._clock.monotonic()))
        alive = [t.name for t in self._threads if t.is_alive()]
        if alive:
            log.warning("crew.left_behind", extra={"threads": alive})
        return 1 if self.failed else 0

    def _guarded(
        self, name: str, work: Callable[[threading.Event], object], stop: threading.Event
    ) -> None:
        try:
            work(stop)
        except Exception as problem:  # noqa: BLE001  the one broad handler: it stops the process
            log.error("crew.member_failed", extra={"member": name, **failure(problem)})  # noqa: TRY400
            self.failed = name
        finally:
            if not self.stop.is_set():
                log.info("crew.member_ended", extra={"member": name})
            self.stop.set()


class _Asked(threading.Event):
    """The crew's stop as one member sees it; remembers when the member last asked."""

    def __init__(self, stop: threading.Event, clock: Clock, *, quiet_s: float) -> None:
        super().__init__()
        self._stop = stop
        self._clock = clock
        self._quiet_s = quiet_s
        self._asked_at = clock.monotonic()

    def sign(self) -> Sign:
        return Sign(asked_at=self._asked_at, quiet_s=self._quiet_s)

    def is_set(self) -> bool:
        self._asked_at = self._clock.monotonic()
        return self._stop.is_set()

    def set(self) -> None:
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        self._asked_at = self._clock.monotonic()
        is_set = self._stop.wait(timeout)
        self._asked_at = self._clock.monotonic()
        return is_set
