"""Decisions that the ledger could not take yet: a bounded file, on the disk before the reply.

Prompt text included, for the ledger must get it later: readable by this user only. A line holds one
prompt with its decision, both in wire format; a torn last line was never answered and is cut off.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest import wire
from store.errors import EventRejected, SettingsInvalid, StoreUnavailable
from store.records import Decision, PromptReceived, RequestId

log = logging.getLogger(__name__)

LIMIT_BYTES = 64 * 1024 * 1024
"""Some 30,000 decisions on short prompts; then 503 until the ledger is back."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A prompt and what was answered."""

    prompt: PromptReceived
    decision: Decision


class Spool:
    """An append-only file of decisions, emptied when the ledger has them.

    Parameters
    ----------
    path
        Its file; one process at a time may have it open.

    Raises
    ------
    SettingsInvalid
        Another process has it open, or it cannot be written.
    """

    def __init__(self, path: Path, *, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: dict[RequestId, Spooled] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as problem:
            raise SettingsInvalid(f"the spool {path} cannot be opened: {problem}") from problem
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            self._file.close()
            raise SettingsInvalid(
                f"another process uses the spool {path}: give each its own STEERSMAN_REPLICA"
            ) from held
        self._load()

    def __len__(self) -> int:
        return len(self._waiting)

    def find(self, request_id: RequestId) -> Spooled | None:
        """Return what was answered under an id and has not reached the ledger."""
        return self._waiting.get(request_id)

    def add(self, made: Sequence[Spooled]) -> None:
        """Keep decisions; they survive a crash once this returns.

        Raises
        ------
        StoreUnavailable
            The spool is full, or the disk is.
        """
        body = b"".join(map(_line, made))
        with self._lock:
            before = os.fstat(self._file.fileno()).st_size
            if before + len(body) > self._limit:
                raise StoreUnavailable(
                    "the database is away and the spool of decisions is full; try again later"
                )
            try:
                _write_whole(self._file.fileno(), body)
            except OSError as problem:
                os.ftruncate(self._file.fileno(), before)
                raise StoreUnavailable(f"the spool cannot be written: {problem}") from problem
            self._waiting |= {one.decision.request_id: one for one in made}

    def oldest(self, count: int) -> list[Spooled]:
        """Return up to ``count`` of those that wait, oldest first."""
        with self._lock:
            return list(self._waiting.values())[:count]

    def forget(self, stored: Sequence[Spooled]) -> None:
        """Drop what the ledger has; the file is emptied with the last one.

        Until then it keeps them: storing twice is harmless, forgetting too early is not.
        """
        with self._lock:
            for one in stored:
                self._waiting.pop(one.decision.request_id, None)
            if not self._waiting:
                os.ftruncate(self._file.fileno(), 0)
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        self._file.close()

    def _load(self) -> None:
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file.fileno(), whole)
        for line in content[:whole].splitlines():
            try:
                one = _parsed(line)
            except (EventRejected, ValueError, KeyError, TypeError) as problem:
                # The type only: the line holds a prompt.
                log.error("spool.unreadable", extra={"problem": type(problem).__name__})  # noqa: TRY400
                continue
            self._waiting[one.decision.request_id] = one


def _write_whole(descriptor: int, body: bytes) -> None:
    written = 0
    while written < len(body):
        written += os.write(descriptor, body[written:])
    os.fsync(descriptor)


def _line(one: Spooled) -> bytes:
    prompt, decision = wire.encode_prompt(one.prompt), wire.encode_decision(one.decision)
    return b'{"prompt":' + prompt + b',"decision":' + decision + b"}\n"


def _parsed(line: bytes) -> Spooled:
    held = json.loads(line)
    decision = wire.decode_decision(json.dumps(held["decision"]).encode())
    prompt = wire.decode_prompt(
        json.dumps(held["prompt"]).encode(), now=decision.decided_at, limit=LIMIT_BYTES
    )
    return Spooled(prompt, decision)
