"""Quarantines of judges in memory: labels that go out, tasks that are done anew, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from store.judging import Quarantine, stands_on
from store.memory_tables import HeldTask, Journal
from store.records import TRAFFIC, Label, TaskStatus


def is_left_out(label: Label, quarantines: Mapping[str, Quarantine]) -> bool:
    """Return whether a judge that a label stands on was in quarantine when it was given."""
    return any(_is_held_by(label, held) for held in quarantines.values())


def impose(journal: Journal, quarantine: Quarantine) -> int:
    """Reopen the tasks of a version that is held; return how many labels are out by it."""
    theirs = [x for x in journal.tables.labels.values() if _is_held_by(x, quarantine)]
    unsaid = [label for label in theirs if not _is_labelled_otherwise(journal, label)]
    why = f"judged by {quarantine.judge_version}, which is in quarantine"
    for number, held in _brought(journal, unsaid):
        if held.task.status in {TaskStatus.DONE, TaskStatus.DEAD}:
            again = replace(held.task, status=TaskStatus.PENDING, attempts=0, last_error=why)
            waiting = replace(held, task=again, due_at=quarantine.imposed_at)
            journal.put(journal.tables.tasks, number, waiting)
            decision = journal.tables.decisions.get(again.request_id)
            if again.purpose == TRAFFIC and decision is not None and decision.is_sampled:
                journal.put(journal.tables.awaited, again.request_id, decision)
    return len(theirs)


def close(journal: Journal, lifted: Quarantine) -> None:
    """Close the tasks whose labels count again, for a version that is held no longer."""
    tables = journal.tables
    theirs = [x for x in tables.labels.values() if _is_held_by(x, lifted)]
    counting = [label for label in theirs if not is_left_out(label, tables.quarantines)]
    for number, held in _brought(journal, counting):
        if held.task.status is TaskStatus.PENDING:
            done = replace(held.task, status=TaskStatus.DONE, last_error=None)
            journal.put(tables.tasks, number, replace(held, task=done))
            if done.purpose == TRAFFIC:
                journal.drop(tables.awaited, done.request_id)


def _is_held_by(label: Label, held: Quarantine) -> bool:
    is_later = label.labelled_at >= held.since
    return is_later and stands_on(label.judge_version, held.judge_version)


def _is_labelled_otherwise(journal: Journal, label: Label) -> bool:
    """Return whether a label of the same answer counts: nobody need judge it again."""
    return any(
        (other.expert, other.purpose) == (label.expert, label.purpose)
        and not is_left_out(other, journal.tables.quarantines)
        for other in journal.tables.labels_of.get(label.request_id, ())
    )


def _brought(journal: Journal, labels: Iterable[Label]) -> Iterator[tuple[int, HeldTask]]:
    """Yield the tasks that brought such labels; one without experts brings the reference's."""
    theirs = {(label.request_id, label.purpose, label.expert) for label in labels}
    whole = {(request_id, purpose) for request_id, purpose, _ in theirs}
    for number, held in list(journal.tables.tasks.items()):
        task = held.task
        is_whole = not task.experts and (task.request_id, task.purpose) in whole
        if is_whole or any((task.request_id, task.purpose, e) in theirs for e in task.experts):
            yield number, held
