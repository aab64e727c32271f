"""Recording finished judge tasks: verdicts, labels, what announces them, and the task's end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.errors import LeaseLost
from store.ledger import Ledger, Publish, Transaction
from store.records import JudgeTask, Label, OutboxMessage, Verdict

log = logging.getLogger(__name__)

Announce = Callable[[Sequence[Label]], Sequence[OutboxMessage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task with everything that becomes true when it ends."""

    task: JudgeTask
    verdicts: tuple[Verdict, ...]
    labels: tuple[Label, ...]
    error: str | None = None
    """Set when the task ends dead: its labels count as losses."""


class Recorder:
    """Stores finished tasks, many in one transaction; a lost lease drops that task's result only.

    Parameters
    ----------
    announce
        Turns labels into the messages that leave with them (the wire format is not known here).
    publish
        Sends committed messages at once.
    """

    def __init__(
        self, ledger: Ledger, *, worker: str, announce: Announce, publish: Publish
    ) -> None:
        self._ledger = ledger
        self._worker = worker
        self._announce = announce
        self._publish = publish

    def record(self, finished: Sequence[Finished]) -> None:
        """Store all in one transaction; if a lease was lost, each in one of its own."""
        if not finished:
            return
        try:
            self._store(finished)
        except LeaseLost:
            for one in finished:
                self._store_alone(one)

    def _store_alone(self, one: Finished) -> None:
        try:
            self._store([one])
        except LeaseLost:
            log.warning(
                "judge.lease_lost", extra={"task": one.task.task_id, "worker": self._worker}
            )

    def _store(self, finished: Sequence[Finished]) -> None:
        labels = [label for one in finished for label in one.labels]
        with self._ledger.begin() as tx:
            tx.labels.add([v for one in finished for v in one.verdicts], labels)
            outgoing = tx.outbox.add(list(self._announce(labels)))
            for one in finished:
                self._end(tx, one)
        self._publish(outgoing)

    def _end(self, tx: Transaction, one: Finished) -> None:
        task_id = one.task.task_id or 0
        if one.error is None:
            tx.tasks.finish(task_id, worker=self._worker)
        else:
            tx.tasks.bury(task_id, worker=self._worker, error=one.error)
