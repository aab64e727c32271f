"""Judge tasks in the order in which tenants take turns."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

from store.records import JudgeTask


def in_turn(tasks: Iterable[JudgeTask], *, after: str) -> list[JudgeTask]:
    """Return one task of each tenant, then a second of each, and so on.

    Tenants come in the order of their names, from the one behind ``after`` round to it; a tenant's
    own tasks oldest first.
    """
    of_tenant: dict[str, list[JudgeTask]] = defaultdict(list)
    for task in sorted(tasks, key=lambda task: (task.created_at, task.task_id or 0)):
        of_tenant[task.tenant].append(task)
    names = sorted(of_tenant, key=lambda name: (name <= after, name))
    rounds = itertools.zip_longest(*[of_tenant[name] for name in names])
    return [task for one in rounds for task in one if task is not None]
