"""What describes experts, and what became of them, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from store.describing import Descriptor, ProbeAnswer, loaded_vector, stored_vector
from store.lives import FirstRoute, Share, Step
from store.memory_quarantining import is_left_out
from store.memory_tables import Journal
from store.records import OUTSIDE_PROMISE, TRAFFIC, Decision, ExpertId, Reason


class MemoryDescribing:
    """``store.describing.Describing``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._descriptors = journal.tables.descriptors
        self._answers = journal.tables.probe_answers

    def keep(self, descriptor: Descriptor) -> None:
        vector = loaded_vector(stored_vector(descriptor.vector), len(descriptor.vector))
        key = (descriptor.expert, descriptor.kind, descriptor.recipe)
        self._journal.put(self._descriptors, key, replace(descriptor, vector=vector))

    def descriptors(self, expert: ExpertId | None = None) -> list[Descriptor]:
        held = sorted(self._descriptors.items())
        return [one for key, one in held if expert is None or key[0] == expert]

    def answer(self, answer: ProbeAnswer) -> bool:
        key = (answer.expert, answer.probe_set, answer.number)
        held = self._answers.get(key)
        if held is not None and held.text is not None:
            return False
        self._journal.put(self._answers, key, answer)
        return True

    def answers(self, expert: ExpertId, *, probe_set: str) -> list[ProbeAnswer]:
        return [one for key, one in sorted(self._answers.items()) if key[:2] == (expert, probe_set)]

    def spent(self, expert: ExpertId) -> tuple[int, float]:
        costs = [one.cost_usd for key, one in self._answers.items() if key[0] == expert]
        return len(costs), sum(costs)

    def drop_texts(self, *, before: datetime, limit: int) -> int:
        old = [
            (key, one)
            for key, one in self._answers.items()
            if one.answered_at < before and one.text is not None
        ][:limit]
        for key, one in old:
            self._journal.put(self._answers, key, replace(one, text=None))
        return len(old)

    def forget(self, expert: ExpertId) -> int:
        described = [key for key in self._descriptors if key[0] == expert]
        answered = [key for key in self._answers if key[0] == expert]
        for kind in described:
            self._journal.drop(self._descriptors, kind)
        for number in answered:
            self._journal.drop(self._answers, number)
        return len(described) + len(answered)


class MemoryLives:
    """``store.lives.Lives``."""

    def __init__(self, journal: Journal) -> None:
        self._tables = journal.tables

    def steps(self, expert: ExpertId) -> list[Step]:
        return [step for name, step in self._tables.steps if name == expert]

    def first_route(self, expert: ExpertId, *, since: datetime) -> FirstRoute | None:
        found = [d for d in self._routed(since) if d.expert == expert]
        first = min(found, key=lambda d: d.seq or 0, default=None)
        if first is None:
            return None
        return FirstRoute(at=first.decided_at, state_version=first.state_version)

    def share(self, expert: ExpertId, *, since: datetime) -> Share:
        routed = self._routed(since)
        own = [d for d in routed if d.expert == expert]
        return Share(
            served=len(own),
            ramped=sum(d.reason is Reason.RAMP for d in own),
            decisions=len(routed),
        )

    def _routed(self, since: datetime) -> list[Decision]:
        held = self._tables.decisions.values()
        return [d for d in held if d.decided_at >= since and d.reason not in OUTSIDE_PROMISE]

    def labels(self, expert: ExpertId, *, since: datetime, until: datetime) -> int:
        return len(
            {
                label.request_id
                for label in self._tables.labels.values()
                if label.expert == expert
                and label.purpose == TRAFFIC
                and since <= label.labelled_at <= until
                and not is_left_out(label, self._tables.quarantines)
            }
        )
