"""One thread decides for many callers: prompts that queue while a batch runs form the next."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from ingest.ports import Handler
from store.errors import EventRejected, SteersmanError, StoreUnavailable
from store.facts import Recorded
from store.records import PromptReceived

log = logging.getLogger(__name__)

MAX_BATCH = 64
CAPACITY = 1_024
WAIT_S = 30.0
"""A caller gives up after this; its prompt may still be decided, and asking again is safe."""


class Overloaded(StoreUnavailable):
    """Too many prompts are waiting, or the process is stopping; try again later."""


class MicroBatcher:
    """Gathers concurrent prompts into one ``handler.on_prompts`` call.

    A lone caller never waits for company: a batch is whatever queued while the previous one ran.

    Parameters
    ----------
    handler
        Decides and stores. Must be idempotent per request id: a batch that fails with an
        unexpected error is tried again one by one, so that only the cause of it gets the error.
    max_batch
        Most prompts in one call.
    capacity
        Most prompts that wait; the next caller gets ``Overloaded``.
    wait_s
        Longest wait of a caller.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_batch: int = MAX_BATCH,
        capacity: int = CAPACITY,
        wait_s: float = WAIT_S,
    ) -> None:
        self._handler = handler
        self._max_batch = max_batch
        self._capacity = capacity
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[PromptReceived, Future[Recorded]]] = deque()
        self._is_open = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        with self._changed:
            self._is_open = True
        self._thread = threading.Thread(target=self._run, name="micro-batcher", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Refuse new callers, answer those that wait, and end the thread."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """How many prompts are in the queue now."""
        return len(self._waiting)

    def decide(self, prompt: PromptReceived) -> Recorded:
        """Return what the ledger holds for the prompt.

        Raises
        ------
        EventRejected
            This prompt cannot be accepted.
        StoreUnavailable
            The ledger is away, or ``Overloaded``; try again later.
        """
        answer: Future[Recorded] = Future()
        with self._changed:
            if not self._is_open:
                raise Overloaded("the process is stopping")
            if len(self._waiting) >= self._capacity:
                raise Overloaded(f"{self._capacity} prompts are waiting already")
            self._waiting.append((prompt, answer))
            self._changed.notify()
        try:
            return answer.result(timeout=self._wait_s)
        except TimeoutError:
            if answer.done():  # in the last moment, or the time-out was the handler's own
                return answer.result()
            raise Overloaded(f"not decided within {self._wait_s:g} s") from None

    def _run(self) -> None:
        while batch := self._next_batch():
            prompts = [prompt for prompt, _ in batch]
            for (_, answer), outcome in zip(batch, self._outcomes(prompts), strict=True):
                if isinstance(outcome, Exception):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)

    def _next_batch(self) -> list[tuple[PromptReceived, Future[Recorded]]]:
        """Return the prompts that wait, empty when closed and all are answered."""
        with self._changed:
            while not self._waiting and self._is_open:
                self._changed.wait()
            size = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft() for _ in range(size)]

    def _outcomes(self, prompts: Sequence[PromptReceived]) -> Sequence[Recorded | Exception]:
        try:
            outcomes: Sequence[Recorded | EventRejected] = self._handler.on_prompts(prompts)
        except SteersmanError as problem:  # about the ledger, so it concerns them all
            return [problem] * len(prompts)
        except Exception as problem:  # noqa: BLE001 - reaches the caller, who logs it
            if len(prompts) == 1:
                return [problem]
            log.warning("batch.split", extra={"error": type(problem).__name__})
            return [self._outcomes([prompt])[0] for prompt in prompts]
        if len(outcomes) != len(prompts):  # a wrong answer would reach the wrong caller
            return [RuntimeError("the handler did not answer every prompt")] * len(prompts)
        return outcomes
