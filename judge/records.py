"""Recording finished judge tasks: verdicts, labels, what announces them, and the task's end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.errors import LeaseLost, StoreUnavailable
from store.judging import stands_on
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
    then: tuple[JudgeTask, ...] = ()
    """Tasks that appear with its end."""


class Recorder:
    """Stores finished tasks, many in one transaction; what is wrong with one costs no other.

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

    def record(self, finished: Sequence[Finished]) -> list[tuple[JudgeTask, str]]:
        """Store all in one transaction; if that fails, each in one of its own.

        The result of a task whose lease was lost is dropped. Return the tasks that are still ours
        and could not be stored, each with the reason. Raises ``StoreUnavailable``.
        """
        if not finished:
            return []
        try:
            self._store(finished)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001  whose fault it is shows when each is stored alone
            alone = [(one.task, self._store_alone(one)) for one in finished]
            return [(task, problem) for task, problem in alone if problem is not None]
        return []

    def _store_alone(self, one: Finished) -> str | None:
        """Return why it cannot be stored; None if it was, or another worker has the task."""
        task_id = one.task.task_id
        try:
            self._store([one])
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task_id, "worker": self._worker})
        except StoreUnavailable:
            raise
        except Exception as unexpected:  # noqa: BLE001  one task's problem is not the worker's end
            # By type alone: a message may quote the prompt or an answer.
            problem = f"its labels cannot be stored: {type(unexpected).__name__}"
            log.error("judge.not_stored", extra={"task": task_id, "problem": problem})  # noqa: TRY400
            return problem
        return None

    def _store(self, finished: Sequence[Finished]) -> None:
        with self._ledger.begin() as tx:
            counted = self._without_distrusted(tx, finished)
            labels = [label for one in counted for label in one.labels]
            tx.labels.add([v for one in counted for v in one.verdicts], labels)
            outgoing = tx.outbox.add(list(self._announce(labels)))
            tx.tasks.add([task for one in counted for task in one.then])
            for one in counted:
                self._end(tx, one)
        self._publish(outgoing)

    def _without_distrusted(
        self, tx: Transaction, finished: Sequence[Finished]
    ) -> Sequence[Finished]:
        """Return what counts; a task that was in hand when its judge, or one of its panel, was
        quarantined goes back.

        Its labels would be left out as they are stored, and nobody would do the task again.
        """
        quarantines = tx.judging.quarantines_until_end()
        counted = []
        for one in finished:
            said = one.labels or one.verdicts  # a duel brings verdicts alone
            versions = {each.judge_version for each in said}
            held = (q for q in quarantines if any(stands_on(v, q.judge_version) for v in versions))
            left_out = next(held, None)
            if left_out is None:
                counted.append(one)
                continue
            tx.tasks.give_back(
                one.task.task_id or 0,
                worker=self._worker,
                due_at=left_out.imposed_at,
                error=f"judged by {left_out.judge_version}, which is in quarantine",
                counts=False,
            )
        return counted

    def _end(self, tx: Transaction, one: Finished) -> None:
        task_id = one.task.task_id or 0
        if one.error is None:
            tx.tasks.finish(task_id, worker=self._worker)
        else:
            tx.tasks.bury(task_id, worker=self._worker, error=one.error)
