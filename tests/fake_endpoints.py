"""OpenAI-compatible endpoints on 127.0.0.1 that really answer: for tests and the quickstart.

``big`` adds and multiplies, ``small`` only adds, ``judge`` works a question out itself and compares
two answers with that. ``python -m tests.fake_endpoints 9100`` runs them until Ctrl-C;
``python -m tests.fake_endpoints prompts 40`` prints questions that they understand.
"""

from __future__ import annotations

import json
import random
import re
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("limited", "failed", "hung", "cut", "cut_json", "no_completion", "slow", "reset")
"""How a call of the judge may go wrong; each is a method of the handler."""
THINGS = ("apples", "pears", "coins", "stamps", "marbles", "books", "eggs", "stones")
_FRAMED = re.compile(r"\[(\w+) (request|answer A|answer B)\]\n(.*?)\n\[\1 end of \2\]", re.DOTALL)


def prompts(count: int, *, seed: int = 0) -> list[str]:
    """Return questions, every second one a product."""
    rng = random.Random(seed)  # noqa: S311
    made = []
    for number in range(count):
        a, b, thing = rng.randint(11, 999), rng.randint(11, 999), rng.choice(THINGS)
        made.append(
            f"Multiply the numbers: what is the product {a} times {b}?"
            if number % 2
            else f"Ann has {a} {thing} and finds {b} more {thing}. How many {thing} has she now?"
        )
    return made


def solved(question: str) -> int:
    """Return what is right."""
    a, b = (int(n) for n in re.findall(r"\d+", question)[:2])
    return a * b if "product" in question else a + b


def answered(model: str, question: str) -> str:
    """Return what an expert says."""
    wrong = 7 if model == "small" and "product" in question else 0
    return f"The answer is {solved(question) + wrong}."


def judged(asked: str) -> str:
    """Return a verdict on what the judge was shown."""
    texts = {what: text for _, what, text in _FRAMED.findall(asked)}
    right = str(solved(texts["request"]))
    a, b = (right in re.findall(r"\d+", texts[f"answer {name}"]) for name in "AB")
    return json.dumps({"winner": "tie" if a == b else "A" if a else "B"})


@dataclass
class Endpoints:
    """A running server, and what a test wants of it."""

    url: str
    calls: Counter[str] = field(default_factory=Counter)
    """Calls by model."""
    key: str = ""
    """What callers must send; empty asks for none."""
    status: int = 200
    """Sent instead of an answer unless 200."""
    refuses: str = ""
    """A text to which ``status`` is kept, so that other questions are answered."""
    says: str | None = None
    """The text of every answer."""
    body: bytes | None = None
    """Everything that is sent with status 200."""
    is_final: bool = False
    """Callers are told not to try again by themselves: a test need not wait for that."""
    last: dict[str, Any] = field(default_factory=dict)
    """The newest request."""
    faults: Iterator[str] = field(default_factory=lambda: iter(()))
    """How each further call of the judge goes wrong: one of ``FAULTS``, or "" for not at all."""
    retry_after_s: float = 0.1
    """Sent with every 429."""
    verdicts: int = 0
    """Completions sent in the judge's name, whole."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running(port: int = 0, *, tls: ssl.SSLContext | None = None) -> Iterator[Endpoints]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls is not None else "http"
    server.endpoints = Endpoints(f"{scheme}://127.0.0.1:{server.server_port}/v1")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.endpoints  # type: ignore[attr-defined]
    finally:
        server.endpoints.stopped.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()


NO_MORE: Mapping[str, str] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_POST(self) -> None:
        endpoints: Endpoints = self.server.endpoints  # type: ignore[attr-defined]
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        endpoints.last = asked
        endpoints.calls[asked["model"]] += 1
        if asked["model"] == "judge" and self._failed_as_told(endpoints, asked):
            return
        if self.path != "/v1/chat/completions" or asked["model"] not in {"big", "small", "judge"}:
            self._send(404, b'{"error": {"message": "no such model"}}')
        elif endpoints.key and self.headers.get("authorization") != f"Bearer {endpoints.key}":
            self._send(401, b'{"error": {"message": "wrong key"}}')
        elif endpoints.status != 200 and endpoints.refuses in str(asked["messages"]):
            self._send(endpoints.status, b'{"error": {"message": "told to fail"}}')
        else:
            self._send(200, endpoints.body or _completion(asked, endpoints.says))

    def _send(self, status: int, body: bytes, more: Mapping[str, str] = NO_MORE) -> None:
        self._head(status, len(body), more)
        self.wfile.write(body)

    def _head(self, status: int, length: int, more: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(length))
        if self.server.endpoints.is_final:  # type: ignore[attr-defined]
            self.send_header("x-should-retry", "false")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()

    def _failed_as_told(self, endpoints: Endpoints, asked: dict[str, Any]) -> bool:
        with endpoints.lock:
            fault = next(endpoints.faults, "")
            endpoints.verdicts += not fault
        if fault:
            # A whole answer leaves the connection open: the next call may be on its way already.
            self.close_connection = fault in {"hung", "cut", "slow", "reset"}
            with suppress(OSError):  # the caller hangs up first
                getattr(self, f"_{fault}")(endpoints, _completion(asked, endpoints.says))
        return bool(fault)

    def _limited(self, endpoints: Endpoints, _: bytes) -> None:
        wait = {"retry-after": f"{endpoints.retry_after_s:g}"}
        self._send(429, b'{"error": {"message": "slowly"}}', wait)

    def _failed(self, _: Endpoints, __: bytes) -> None:
        self._send(500, b"<html>")

    def _hung(self, endpoints: Endpoints, _: bytes) -> None:
        endpoints.stopped.wait(5.0)

    def _cut(self, _: Endpoints, body: bytes) -> None:
        self._head(200, len(body), {})
        self.wfile.write(body[: len(body) // 2])

    def _cut_json(self, _: Endpoints, body: bytes) -> None:
        self._send(200, body[: len(body) // 2])

    def _no_completion(self, _: Endpoints, __: bytes) -> None:
        self._send(200, b'{"winner": "A"}')

    def _slow(self, endpoints: Endpoints, body: bytes) -> None:
        self._head(200, 1_000 + len(body), {})
        for byte in b" " * 1_000 + body:
            self.wfile.write(bytes([byte]))
            if endpoints.stopped.wait(0.02):
                return

    def _reset(self, _: Endpoints, __: bytes) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _completion(asked: dict[str, Any], says: str | None) -> bytes:
    shown = asked["messages"][-1]["content"]
    if says is not None:
        text = says
    elif asked["model"] == "judge":
        text = judged(shown)
    else:
        text = answered(asked["model"], shown) if re.search(r"\d+\D+\d+", shown) else "ok"
    usage = {"prompt_tokens": len(shown) // 4, "completion_tokens": len(text) // 4 + 1}
    message = {"role": "assistant", "content": text}
    reply = {
        "id": "fake",
        "object": "chat.completion",
        "created": 0,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }
    return json.dumps(reply).encode()


def main() -> None:
    """Run the endpoints, or print prompts."""
    if sys.argv[1:2] == ["prompts"]:
        print("\n".join(prompts(int(sys.argv[2]))))  # noqa: T201
        return
    with running(int(sys.argv[1])) as endpoints:
        print(f"big, small and judge answer at {endpoints.url}")  # noqa: T201
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")  # noqa: T201


if __name__ == "__main__":
    main()
