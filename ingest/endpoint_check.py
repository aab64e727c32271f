"""One tiny call to see whether an endpoint answers, how fast, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.first_answers import Model
from judge.llm import TRIAL, LlmJudge
from online.chat import Chat
from online.clients import Endpoint, Message
from store.clock import Clock
from store.errors import (
    EndpointRefused,
    EndpointUnavailable,
    JudgeUnavailable,
    VerdictUnreadable,
)

TIMEOUT_S = 30.0
_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How it went."""

    latency_ms: float = 0.0
    cost_usd: float = 0.0
    problem: str = ""
    """Empty when it works."""

    def told(self, name: str) -> str:
        """Return it as a line."""
        if self.problem:
            return f"{name} does not work yet: {self.problem}"
        return f"{name} works: {self.latency_ms:.0f} ms, {self.cost_usd:.6f} USD"


def try_expert(model: Model) -> Tried:
    """Ask an expert for one word."""
    try:
        said = _chat(model).complete([Message("user", "Say ok.")], max_tokens=_TOKENS)
    except (EndpointRefused, EndpointUnavailable) as problem:
        return Tried(problem=str(problem))
    return Tried(latency_ms=said.latency_ms or 0.0, cost_usd=said.cost_usd)


def try_judge(model: Model, clock: Clock) -> Tried:
    """Have the judge compare a right answer with a wrong one, as it will be asked."""
    started = clock.monotonic()
    try:
        reply = LlmJudge(_chat(model), clock).compare(TRIAL)
    except (JudgeUnavailable, VerdictUnreadable) as problem:
        return Tried(problem=str(problem))
    if reply.preference != 1.0:
        return Tried(problem="it does not prefer 5 to 6 as the sum of 2 and 3")
    return Tried(latency_ms=1e3 * (clock.monotonic() - started), cost_usd=reply.cost_usd)


def _chat(model: Model) -> Chat:
    endpoint = Endpoint(
        base_url=model.base_url,
        model=model.model,
        api_key_env=model.api_key_env,
        price=model.price,
    )
    return Chat(endpoint, timeout_s=TIMEOUT_S, retries=0)
