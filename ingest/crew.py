"""Named threads that live and die together: if one fails, the process stops instead of limping."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable

from ingest.logs import failure

log = logging.getLogger(__name__)

GRACE_S = 15.0
"""How long a stop waits for the threads; what is then unfinished comes again after a restart."""


class Crew:
    """Runs each member in a thread of its own until one stop event is set."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failed: str | None = None
        self._threads: list[threading.Thread] = []

    def add(self, name: str, work: Callable[[threading.Event], object]) -> None:
        """Start a member; ``work`` must return soon after the event is set."""
        thread = threading.Thread(target=self._guarded, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT set the stop event; call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())

    def wait(self) -> int:
        """Wait for the stop, then for the members; return the process's exit status."""
        while not self.stop.wait(0.5):
            pass
        for thread in self._threads:
            thread.join(GRACE_S)
        alive = [t.name for t in self._threads if t.is_alive()]
        if alive:
            log.warning("crew.left_behind", extra={"threads": alive})
        return 1 if self.failed else 0

    def _guarded(self, name: str, work: Callable[[threading.Event], object]) -> None:
        try:
            work(self.stop)
        except Exception as problem:  # noqa: BLE001  the one broad handler: it stops the process
            log.error("crew.member_failed", extra={"member": name, **failure(problem)})  # noqa: TRY400
            self.failed = name
        finally:
            if not self.stop.is_set():
                log.info("crew.member_ended", extra={"member": name})
            self.stop.set()
