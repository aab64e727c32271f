"""The adapter for any OpenAI-compatible endpoint; the only importer of ``openai``.

Apart from the ports it stands behind: the SDK takes long to import, and who only decides needs it
never.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import httpx2
import openai
from openai.types.chat import ChatCompletion
from openai.types.shared_params import ResponseFormatJSONSchema
from openai.types.shared_params.response_format_json_schema import JSONSchema

from online.clients import Answer, Endpoint, Message, endpoint_of
from online.costs import MAX_OUTPUT_TOKENS, TRIES, count_tokens, expected_cost, most_cost
from store.errors import EndpointRefused, EndpointUnavailable, ExpertUnavailable
from store.health import CallError
from store.needs import LARGEST_TOKENS
from store.records import Expert, JsonObject, RequestId

CONNECT_S = 5.0
TIMEOUT_S = 60.0
"""From a try's begin until its answer is complete; a last wait for bytes may take as long again."""
RETRIES = TRIES - 1
"""Further tries of a call, with backoff and jitter; the SDK honours Retry-After of up to 120 s."""
_REFUSES_THIS_CALL = frozenset({400, 413, 422})
"""Statuses that speak of what was sent (too long, filtered), not of the endpoint."""


class Chat:
    """Asks one endpoint; the only place that speaks to a language model."""

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES
    ) -> None:
        self.endpoint = endpoint
        self._key = os.environ.get(endpoint.api_key_env, "") if endpoint.api_key_env else "none"
        self._tries = _Tries()
        over = openai.DefaultHttpxClient(
            event_hooks={
                "request": [_begun, self._tries.watch],
                "response": [self._tries.ended, _until_timeout],
            }
        )
        weakref.finalize(self, over.close)  # the SDK closes only a client of its own making
        self._client = openai.OpenAI(
            base_url=endpoint.base_url,
            api_key=self._key or "none",
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            max_retries=retries,
            http_client=over,
        )

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = MAX_OUTPUT_TOKENS,
        temperature: float | None = None,
        schema: JsonObject | None = None,
        retries: int | None = None,
    ) -> Answer:
        """Return what the model says, with cost by the endpoint's price.

        A try that was sent and had no end that can be read (a time-out, a reset, half an answer)
        may be billed: it is in the cost, and in that of an error, at its most. One that was not
        sent, or that was refused with a status, costs nothing.

        Parameters
        ----------
        schema
            The JSON Schema that the endpoint is to hold the answer to (structured outputs).
        retries
            After the first try; default: those of the client.

        Raises
        ------
        EndpointRefused
            The endpoint works and refuses these messages: another try would end the same.
        EndpointUnavailable
            No answer after retries. Neither message holds anything that was sent or received.
        """
        if not self._key:
            raise EndpointUnavailable(f"the variable {self.endpoint.api_key_env} is not set")
        started, self._tries.unclear = time.monotonic(), 0
        client = self._client
        if retries is not None:
            client = client.with_options(max_retries=retries)
        try:
            reply = client.chat.completions.create(
                model=self.endpoint.model,
                messages=[{"role": m.role, "content": m.content} for m in messages],  # type: ignore[misc]
                max_tokens=max_tokens,
                temperature=openai.omit if temperature is None else temperature,
                response_format=openai.omit if schema is None else _format(schema),
            )
            answer = self._answer(reply, messages, started)
            self._tries.unclear -= 1
            return replace(answer, cost_usd=answer.cost_usd + self._lost_usd(messages, max_tokens))
        except openai.APIStatusError as problem:
            said = f"{type(problem).__name__}, status {problem.status_code}"
            lost_usd = self._lost_usd(messages, max_tokens)
            if problem.status_code in _REFUSES_THIS_CALL:
                raise EndpointRefused(said, cost_usd=lost_usd) from problem
            raise EndpointUnavailable(said, cost_usd=lost_usd) from problem
        except openai.OpenAIError as problem:
            raise EndpointUnavailable(
                type(problem).__name__, cost_usd=self._lost_usd(messages, max_tokens)
            ) from problem
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
            # The SDK does not check the shape of what comes back with status 200.
            raise EndpointUnavailable(
                "an answer that is no chat completion",
                cost_usd=self._lost_usd(messages, max_tokens),
            ) from problem

    def most_usd(self, messages: Sequence[Message], *, max_tokens: int) -> float:
        """Return what one try can cost at most."""
        texts = [message.content for message in messages]
        return most_cost(self.endpoint.price, texts, max_tokens=max_tokens)

    def _lost_usd(self, messages: Sequence[Message], max_tokens: int) -> float:
        unclear = self._tries.unclear
        return unclear * self.most_usd(messages, max_tokens=max_tokens) if unclear else 0.0

    def _answer(self, reply: ChatCompletion, messages: Sequence[Message], started: float) -> Answer:
        text = _text_of(reply.choices[0].message.content)
        asked = sum(count_tokens(m.content) for m in messages)
        read = _tokens_of(reply.usage, "prompt_tokens", asked)
        written = _tokens_of(reply.usage, "completion_tokens", count_tokens(text))
        price = self.endpoint.price
        return Answer(
            text=text,
            cost_usd=expected_cost(price, input_tokens=read, mean_output_tokens=written),
            input_tokens=read,
            output_tokens=written,
            latency_ms=1e3 * (time.monotonic() - started),
        )


class _Tries(threading.local):
    """Tries of a thread's call that were sent and have had no end that can be read, so far."""

    unclear = 0

    def watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._saw

    def _saw(self, event: str, info: Mapping[str, object]) -> None:
        sent = getattr(info.get("request"), "method", b"")
        if event.endswith("send_request_headers.started") and sent == b"POST":  # no CONNECT
            self.unclear += 1

    def ended(self, response: httpx2.Response) -> None:
        if not response.is_success:
            self.unclear -= 1


class _Until(httpx2.SyncByteStream):
    """A body that ends in a time-out although bytes still come, one by one.

    The HTTP library's own time-out starts again at each of them.
    """

    def __init__(self, inner: httpx2.SyncByteStream, ends: float) -> None:
        self._inner = inner
        self._ends = ends

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            if time.monotonic() > self._ends:
                raise httpx2.ReadTimeout("the answer takes too long")
            yield part

    def close(self) -> None:
        self._inner.close()


def _begun(request: httpx2.Request) -> None:
    request.extensions["begun"] = time.monotonic()


def _until_timeout(response: httpx2.Response) -> None:
    asked = response.request.extensions
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Until(response.stream, asked["begun"] + asked["timeout"]["read"])


def _format(schema: JsonObject) -> ResponseFormatJSONSchema:
    held: JSONSchema = {"name": "reply", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": held}


def _text_of(content: object) -> str:
    """Return the text, empty where the model wrote none; no parts and no objects."""
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError("the content is no text")
    return content


def _tokens_of(usage: object, name: str, counted: int) -> int:
    """Return a count that the endpoint reports; our own where it cannot be one."""
    said = getattr(usage, name, None)
    if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said <= LARGEST_TOKENS:
        return counted
    return said


class OpenAiClient:
    """An expert behind an OpenAI-compatible endpoint."""

    def __init__(self, expert: Expert) -> None:
        self._name = expert.name
        self._chat = Chat(endpoint_of(expert.client, expert.price))

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        return self._asked(str(request_id), prompt)

    def probe(self, prompt: str, *, max_tokens: int, temperature: float | None) -> Answer:
        """Return a short answer to a prompt of our own. Raises ``ExpertUnavailable``."""
        return self._asked("a probe", prompt, max_tokens=max_tokens, temperature=temperature)

    def _asked(
        self,
        what: str,
        prompt: str,
        *,
        max_tokens: int = MAX_OUTPUT_TOKENS,
        temperature: float | None = None,
    ) -> Answer:
        said = [Message("user", prompt)]
        try:
            return self._chat.complete(said, max_tokens=max_tokens, temperature=temperature)
        except (EndpointRefused, EndpointUnavailable) as problem:
            raise ExpertUnavailable(
                f"{self._name} did not answer {what}: {problem}",
                error=_error_of(problem),
                cost_usd=problem.cost_usd,
            ) from problem


_ERRORS: tuple[tuple[type[Exception], CallError], ...] = (
    (openai.APITimeoutError, CallError.TIMEOUT),
    (openai.RateLimitError, CallError.RATE_LIMITED),
    (openai.AuthenticationError, CallError.UNAUTHORIZED),
    (openai.PermissionDeniedError, CallError.UNAUTHORIZED),
    (openai.APIResponseValidationError, CallError.UNREADABLE),
    # No connection, an error of the server's own, no such model.
    (openai.OpenAIError, CallError.UNAVAILABLE),
)
"""The first that fits says how a call failed."""


def _error_of(problem: EndpointRefused | EndpointUnavailable) -> CallError | None:
    """Return how the call failed; None when none was made, for want of a key."""
    if isinstance(problem, EndpointRefused):
        return CallError.REFUSED
    cause = problem.__cause__
    if cause is None:
        return None
    fitting = (error for kind, error in _ERRORS if isinstance(cause, kind))
    return next(fitting, CallError.UNREADABLE)
