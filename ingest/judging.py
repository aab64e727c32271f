"""Which judge and which clients a process uses, by policy and settings."""

from __future__ import annotations

import math

from ingest.settings import JudgeSettings
from judge.port import Judge, Question, Reply
from judge.recorded import RecordedJudge
from online.clients import ClientFactory, Endpoint, ExpertClient, endpoint_of
from online.recorded import RecordedClient, RecordedTraffic
from store.clock import Clock
from store.errors import ExpertUnavailable, JudgeUnavailable
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import Expert, ExpertId, Price

FRESH_S = 1.0
"""Seconds before the policy is read again."""


class PolicyJudge:
    """The judge that the policy in force names, with its margin.

    A judge that is not configured counts as an outage: tasks wait, λ ages, an alert says why.
    """

    def __init__(
        self,
        ledger: Ledger,
        traffic: RecordedTraffic | None,
        settings: JudgeSettings,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._traffic = traffic
        self._settings = settings
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
            self._made = (version, self._configured(policy))
        return self._made[1]

    def _configured(self, policy: PolicySettings) -> Judge:
        from judge.llm import llm_judge  # noqa: PLC0415  openai is slow to import

        match policy.judge:
            case "recorded" if self._traffic is not None:
                return RecordedJudge(self._traffic, margin=policy.margin)
            case "llm" if self._settings.base_url:
                return llm_judge(endpoint_of_judge(self._settings), self._clock)
        raise JudgeUnavailable(
            f"the judge {policy.judge!r} is not configured in this process: `recorded` needs"
            " STEERSMAN_RECORDED, `llm` needs STEERSMAN_JUDGE_BASE_URL and STEERSMAN_JUDGE_MODEL"
        )


def endpoint_of_judge(settings: JudgeSettings) -> Endpoint:
    """Return the endpoint that the settings name."""
    return Endpoint(
        base_url=settings.base_url,
        model=settings.model,
        api_key_env=settings.api_key_env,
        price=Price(
            input_usd_per_mtok=settings.input_usd_per_mtok,
            output_usd_per_mtok=settings.output_usd_per_mtok,
            request_usd=settings.request_usd,
        ),
    )


def client_factory(traffic: RecordedTraffic | None) -> ClientFactory:
    """Return what makes a client for an expert, by the kind it was registered with.

    A client that asks over the network is kept, and its connections with it.
    """
    kept: dict[tuple[ExpertId, Endpoint], ExpertClient] = {}

    def client(expert: Expert) -> ExpertClient:
        match expert.client.get("kind"):
            case "openai":
                from online.chat import OpenAiClient  # noqa: PLC0415  openai is slow to import

                place = (expert.name, endpoint_of(expert.client, expert.price))
                if place not in kept:
                    kept[place] = OpenAiClient(expert)
                return kept[place]
            case "recorded" if traffic is not None:
                return RecordedClient(expert, traffic)
            case kind:
                raise ExpertUnavailable(
                    f"{expert.name} has a client of kind {kind!r} that this process cannot call;"
                    " `recorded` needs STEERSMAN_RECORDED"
                )

    return client
