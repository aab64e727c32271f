"""Calling experts: the port, and the adapter for any OpenAI-compatible endpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import openai

from online.costs import count_tokens, expected_cost
from store.errors import EventRejected, ExpertUnavailable
from store.records import Expert, RequestId

MAX_OUTPUT_TOKENS = 2_048
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an expert said, and what it took."""

    text: str | None
    """None for recorded traffic without texts."""
    cost_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None


class ExpertClient(Protocol):
    """One expert, ready to be asked."""

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        """Return the expert's answer. Raises ``ExpertUnavailable`` after its own retries."""
        ...


ClientFactory = Callable[[Expert], ExpertClient]


class OpenAiClient:
    """An OpenAI-compatible chat endpoint; the SDK retries with backoff and honours Retry-After."""

    def __init__(self, expert: Expert) -> None:
        self._expert = expert
        key = os.environ.get(expert.client.get("api_key_env", ""), "")
        self._client = openai.OpenAI(
            base_url=expert.client["base_url"], api_key=key or "none", timeout=TIMEOUT_S
        )

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        started = time.monotonic()
        try:
            reply = self._client.chat.completions.create(
                model=self._expert.client["model"],
                messages=[{"role": "user", "content": prompt}],
                max_tokens=MAX_OUTPUT_TOKENS,
            )
        except openai.OpenAIError as problem:
            raise ExpertUnavailable(
                f"{self._expert.name} did not answer {request_id}: {type(problem).__name__}"
            ) from problem
        if not reply.choices:
            raise ExpertUnavailable(f"{self._expert.name} answered {request_id} without a choice")
        text = reply.choices[0].message.content or ""
        read = reply.usage.prompt_tokens if reply.usage else count_tokens(prompt)
        written = reply.usage.completion_tokens if reply.usage else count_tokens(text)
        return Answer(
            text=text,
            cost_usd=expected_cost(
                self._expert.price, input_tokens=read, mean_output_tokens=written
            ),
            input_tokens=read,
            output_tokens=written,
            latency_ms=1e3 * (time.monotonic() - started),
        )


def check_client(client: Mapping[str, str]) -> Mapping[str, str]:
    """Return the client settings, or raise ``EventRejected`` naming what is missing."""
    kind = client.get("kind")
    needed = {"recorded": (), "openai": ("base_url", "model")}
    if kind not in needed:
        raise EventRejected(
            "bad_client", f"client.kind must be one of {sorted(needed)}", field="client.kind"
        )
    for name in needed[kind]:
        if not client.get(name):
            raise EventRejected(
                "bad_client", f"a client of kind {kind} needs {name}", field=f"client.{name}"
            )
    return client
