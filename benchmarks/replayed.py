"""An OpenAI-compatible judge on 127.0.0.1 that says again what was recorded, or flips a coin.

It knows a comparison by the hash of prompt and both texts as they stand in the rendered message,
the nonce aside, so that whatever the template does to a text is done to both sides of the look-up.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from judge.canaries import COUNTRIES, DAYS
from judge.template import comparison

MODEL = "replayed"
_FRAMED = re.compile(r"\[(\w+) (request|answer A|answer B)\]\n(.*?)\n\[\1 end of \2\]", re.DOTALL)
_CAPITALS = {country: capital for country, capital, _ in COUNTRIES}

Key = tuple[str, str, str]
"""Hashes of prompt, answer A and answer B, as shown."""


@dataclass(slots=True)
class Replayed:
    """A running judge."""

    verdicts: Mapping[Key, float]
    is_coin: bool
    url: str = ""
    calls: int = 0
    unknown: int = 0
    """Comparisons that were neither recorded nor canaries; they were refused."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: set[tuple[str, str]] = field(init=False)
    """Hashes of prompts and answers that were compared with the reference's."""

    def __post_init__(self) -> None:
        self.known = {(prompt, a) for prompt, a, _ in self.verdicts}

    def preference(self, message: str) -> float | None:
        """Return the preference for answer A; None for what was not recorded.

        Recorded verdicts compare with the reference only. A duel of two others, which makes no
        label, is a tie.
        """
        prompt, a, b = texts = _sections(message)
        key = _key(texts)
        recorded = self.verdicts.get(key)
        if recorded is None and {(key[0], key[1]), (key[0], key[2])} <= self.known:
            return 0.5
        if recorded is None:
            return _on_the_sheet(prompt, a, b)
        return _flipped(key) if self.is_coin else recorded


def verdicts_of(rows: Iterable[tuple[str, str, str, float]]) -> dict[Key, float]:
    """Return preferences by what a judge is shown, in both orders, of (prompt, a, b, preference).

    Two equal texts tie, whatever was recorded: their orders cannot be told apart.
    """
    made = {}
    for prompt, a, b, preference in rows:
        shown = comparison(prompt, a, b, draw_nonce=lambda: secrets.token_hex(8))
        prompt_key, a_key, b_key = _key(_sections(shown[-1].content))
        tie = a_key == b_key
        made[prompt_key, a_key, b_key] = 0.5 if tie else preference
        made[prompt_key, b_key, a_key] = 0.5 if tie else 1.0 - preference
    return made


@contextmanager
def replaying(verdicts: Mapping[Key, float], *, is_coin: bool) -> Iterator[Replayed]:
    """Serve until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    judge = Replayed(verdicts, is_coin, f"http://127.0.0.1:{server.server_port}/v1")
    server.judge = judge  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60.0
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        judge: Replayed = self.server.judge  # type: ignore[attr-defined]
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = judge.preference(asked["messages"][-1]["content"])
        with judge.lock:
            judge.calls += 1
            judge.unknown += said is None
        if said is None:
            self._send(400, {"error": {"message": "this comparison was not recorded"}})
            return
        winner = {1.0: "A", 0.5: "tie", 0.0: "B"}[said]
        self._send(200, _completion(json.dumps({"winner": winner})))

    def _send(self, status: int, reply: Mapping[str, Any]) -> None:
        body = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "replayed",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _sections(message: str) -> tuple[str, str, str]:
    """Return prompt and both answers as they are shown, without what changes from call to call."""
    found = _FRAMED.findall(message)
    texts = {what: text.replace(nonce, "nonce") for nonce, what, text in found}
    return texts["request"], texts["answer A"], texts["answer B"]


def _key(texts: tuple[str, str, str]) -> Key:
    prompt, a, b = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
    return prompt, a, b


def _flipped(key: Key) -> float:
    """Return a coin's side, the same for one pair in either order."""
    prompt, a, b = key
    if a == b:
        return 0.5
    drawn = hashlib.sha256("\0".join((prompt, *sorted((a, b)))).encode()).digest()[0] & 1
    return float(drawn if a < b else not drawn)


def _on_the_sheet(prompt: str, a: str, b: str) -> float | None:
    """Judge a canary by its answer sheet: nobody recorded verdicts on them, and a judge that fails
    them labels nothing.
    """
    right = _right(prompt)
    if right is None or right not in (a, b):
        return None
    return 0.5 if a == b else float(a == right)


def _right(prompt: str) -> str | None:
    """Return the plain right answer to an exercise of ``judge.canaries``; None for others."""
    if found := re.fullmatch(r"What is (\d+) \+ (\d+)\?", prompt):
        a, b = map(int, found.groups())
        return f"{a} + {b} = {a + b}"
    if found := re.fullmatch(r"What is the capital of (\w+)\? \(Question \d+\)", prompt):
        return f"The capital of {found[1]} is {_CAPITALS[found[1]]}."
    if found := re.fullmatch(r"Which weekday comes after (\w+)\? \(Question \d+\)", prompt):
        return f"{DAYS[(DAYS.index(found[1]) + 1) % 7]} comes after it."
    if found := re.fullmatch(r"Which number is greater, (\d+) or (\d+)\?", prompt):
        return f"{max(map(int, found.groups()))} is greater."
    if found := re.fullmatch(r"Write the numbers from (\d+) to \d+, separated by commas\.", prompt):
        return ", ".join(str(int(found[1]) + n) for n in range(5))
    return None
