"""Which judge and which clients a process uses, by policy and settings."""

from __future__ import annotations

import math

from judge.port import Judge, Question, Reply
from judge.recorded import RecordedJudge
from online.clients import ClientFactory, ExpertClient, OpenAiClient
from online.recorded import RecordedClient, RecordedTraffic
from store.clock import Clock
from store.errors import ExpertUnavailable, JudgeUnavailable
from store.ledger import Ledger
from store.records import Expert

FRESH_S = 1.0
"""Seconds before the policy is read again."""


class PolicyJudge:
    """The judge that the policy in force names, with its margin.

    A judge that is not configured counts as an outage: tasks wait, λ ages, an alert says why.
    """

    def __init__(self, ledger: Ledger, traffic: RecordedTraffic | None, clock: Clock) -> None:
        self._ledger = ledger
        self._traffic = traffic
        self._clock = clock
        self._made: tuple[int, Judge] | None = None
        self._look_again = -math.inf

    @property
    def version(self) -> str:
        return self._judge().version

    def compare(self, question: Question) -> Reply:
        return self._judge().compare(question)

    def _judge(self) -> Judge:
        if self._made is not None and self._clock.monotonic() < self._look_again:
            return self._made[1]
        with self._ledger.begin() as tx:
            current = tx.policies.current()
        if current is None:
            raise JudgeUnavailable("no policy is set")
        version, policy = current
        self._look_again = self._clock.monotonic() + FRESH_S
        if self._made is None or self._made[0] != version:
            if policy.judge != "recorded" or self._traffic is None:
                raise JudgeUnavailable(
                    f"the judge {policy.judge!r} is not configured; `recorded` needs"
                    " STEERSMAN_RECORDED"
                )
            self._made = (version, RecordedJudge(self._traffic, margin=policy.margin))
        return self._made[1]


def client_factory(traffic: RecordedTraffic | None) -> ClientFactory:
    """Return what makes a client for an expert, by the kind it was registered with."""

    def client(expert: Expert) -> ExpertClient:
        match expert.client.get("kind"):
            case "openai":
                return OpenAiClient(expert)
            case "recorded" if traffic is not None:
                return RecordedClient(expert, traffic)
            case kind:
                raise ExpertUnavailable(
                    f"{expert.name} has a client of kind {kind!r} that this process cannot call;"
                    " `recorded` needs STEERSMAN_RECORDED"
                )

    return client
