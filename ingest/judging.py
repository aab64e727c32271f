"""Which judge and which clients a process uses, by policy and settings."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

from ingest.settings import JudgeSettings
from judge.kept import Kept
from judge.paced import Paced
from judge.pairs import Panel
from judge.port import Judge
from judge.purse import Purse
from judge.recorded import RecordedJudge
from judge.rules import read_rules
from judge.spending import BudgetedJudge
from judge.verifying import Verifier
from online.clients import ClientFactory, Endpoint, ExpertClient, endpoint_of
from online.recorded import RecordedClient, RecordedTraffic
from store.clock import Clock
from store.errors import ExpertUnavailable, JudgeUnavailable, SettingsInvalid
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import Expert, ExpertId, Price

FRESH_S = 1.0
"""Seconds before the policy is read again."""


class PolicyPanel:
    """The panel that the policy in force names, one for all workers of a process.

    A judge that is not configured counts as an outage: tasks wait, λ ages, an alert says why.
    """

    def __init__(
        self,
        ledger: Ledger,
        traffic: RecordedTraffic | None,
        settings: Sequence[JudgeSettings],
        clock: Clock,
        *,
        purse: Purse,
    ) -> None:
        self._ledger = ledger
        self._traffic = traffic
        self._purse = purse
        self._clock = clock
        self._asking = Panel(tuple(self._llm(one) for one in settings))
        """One for good, whatever the policy becomes: it knows how the endpoints fare."""
        self._lock = threading.Lock()
        self._made: tuple[int, Panel] | None = None
        self._look_again = -math.inf

    def __call__(self) -> Panel:
        """Return who judges now. Raises ``JudgeUnavailable``."""
        with self._lock:
            return self._panel()

    def _panel(self) -> Panel:
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

    def _configured(self, policy: PolicySettings) -> Panel:
        match policy.judge:
            case "recorded" if self._traffic is not None:
                return Panel((RecordedJudge(self._traffic, margin=policy.margin),))
            case "llm" if self._asking.judges:
                return self._asking
        raise JudgeUnavailable(
            f"the judge {policy.judge!r} is not configured in this process: `recorded` needs"
            " STEERSMAN_RECORDED, `llm` needs STEERSMAN_JUDGE_BASE_URL and STEERSMAN_JUDGE_MODEL"
        )

    def _llm(self, settings: JudgeSettings) -> Judge:
        """Return the judge that asks an endpoint, in everything that surrounds one."""
        from judge.llm import LlmJudge  # noqa: PLC0415  openai is slow to import
        from online.chat import Chat  # noqa: PLC0415

        chat = Chat(endpoint_of_judge(settings))
        asked = LlmJudge(
            chat, self._clock, family=settings.family, is_structured=settings.structured
        )
        paced = Paced(
            asked,
            self._clock,
            calls_per_s=settings.calls_per_s,
            concurrency=settings.concurrency,
        )
        return Kept(BudgetedJudge(paced, self._purse), self._ledger, self._clock)


def verifier_of(rules: Path | None) -> Verifier:
    """Return the verifier with the rules of a file, read once.

    Raises
    ------
    SettingsInvalid
        The file cannot be read, or holds what is no rule; the message lists every problem.
    """
    if rules is None:
        return Verifier()
    try:
        raw = rules.read_bytes()
    except OSError as problem:
        unread = f"STEERSMAN_JUDGE_RULES: {rules} cannot be read: {problem.strerror}"
        raise SettingsInvalid(unread) from problem
    try:
        return Verifier(read_rules(raw))
    except SettingsInvalid as problem:
        raise SettingsInvalid(f"STEERSMAN_JUDGE_RULES: {problem}") from problem


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
