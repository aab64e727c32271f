"""The roles as processes that die by SIGKILL at a named point; production code knows nothing of it.

Each role runs as ``steersman <role>`` runs it, in a process of its own, forked from one that has
imported everything once: a kill then costs no second of imports. Points lie on the borders of the
ports (a commit, a publish, a swap), where half of something is done and the other half is not.
Only time is shortened: leases, sessions and the outbox's patience, so that a death is noticed in a
second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import ingest.outbox
import ingest.roles
import ingest.topics
import judge.batch
import recalibrate.cycle
from ingest.broker import KafkaSink, KafkaSource
from ingest.live import Live
from ingest.processes import run_role
from ingest.settings import ProcessSettings
from ingest.spool import Spool
from judge.recorded import RecordedJudge
from online.encode import BUNDLED, CachedEncoder, identity_of
from online.learner import LabelWindow
from store import environ
from store.errors import SteersmanError
from store.postgres.decisions import PostgresDecisions
from store.postgres.labels import PostgresLabels
from store.postgres.ledger import PostgresLedger, PostgresTransaction
from store.postgres.outbox import PostgresOutbox
from store.postgres.responses import PostgresResponses
from store.postgres.states import PostgresStates
from store.postgres.tasks import PostgresTasks
from store.records import Float32Array

SESSION_MS = 2_000
LEASE_S = 3.0
DIMENSION = 384
SWEEPER = "outbox-sweeper"
REACHED = "crash point reached:"

ACTS: tuple[tuple[type, str, str], ...] = (
    (PostgresDecisions, "record", "decision"),
    (PostgresResponses, "record", "response"),
    (PostgresResponses, "record_shadow", "shadow answer"),
    (PostgresResponses, "park", "parking"),
    (PostgresTasks, "lease", "lease"),
    (PostgresLabels, "add", "label"),
    (PostgresOutbox, "mark", "mark"),
    (PostgresStates, "publish", "state"),
    (PostgresStates, "save_snapshot", "clusters"),
    (PostgresStates, "acknowledge", "acknowledgement"),
)
"""What a transaction is named after, by the call that makes it one."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["__main__", __name__, "sklearn.cluster", "sklearn.isotonic"])


class RoleProcess:
    """A process that many threads may start, kill and wait for, which the library's must not be:
    each start there asks every child how it ended, and only one may read that.
    """

    _one_at_a_time = threading.Lock()

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        with self._one_at_a_time:
            process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def kill(self) -> None:
        with self._one_at_a_time:
            self._process.kill()

    def terminate(self) -> None:
        with self._one_at_a_time:
            self._process.terminate()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit status, negative for a signal; None if it still runs after that time."""
        wait([self._process.sentinel], timeout_s)
        with self._one_at_a_time:
            return self._process.exitcode


def start(
    role: str,
    environment: Mapping[str, str],
    log: Path,
    *,
    die_at: str | None = None,
    sweep_after_s: float = 1.0,
) -> RoleProcess:
    """Start a role; with ``die_at`` it kills itself when it gets there.

    ``sweep_after_s`` is the age at which it sends what another process should have sent.
    """
    given = (role, dict(environment), log, die_at, sweep_after_s)
    return RoleProcess(_CONTEXT.Process(target=_run, args=given, daemon=True))


class CachedOnly:
    """Looks like the bundled encoder; every prompt of these tests is in the cache already."""

    dimension = DIMENSION

    @cached_property
    def identity(self) -> str:
        return identity_of(BUNDLED)

    def encode(self, texts: Sequence[str]) -> Float32Array:
        raise AssertionError(f"{len(texts)} prompts are not in the cache")


class Points:
    """Kills this process at one point."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._here = threading.local()

    def reach(self, name: str) -> None:
        """Say where this is and die, if this is the point."""
        if name == self._wanted:
            os.write(2, f"{REACHED} {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, method: str, name: Callable[..., str | None]) -> None:
        """Put a point before and one after a method."""
        original = getattr(owner, method)

        def wrapped(*given: Any, **named: Any) -> Any:
            place = name(*given, **named)
            if place is not None:
                self.reach(f"before {place}")
            found = original(*given, **named)
            if place is not None:
                self.reach(f"after {place}")
            return found

        setattr(owner, method, wrapped)

    def note(self, owner: type, method: str, act: str) -> None:
        """Remember in the transaction that this was done, unless it did nothing."""
        original = getattr(owner, method)

        def wrapped(*given: Any, **named: Any) -> Any:
            found = original(*given, **named)
            if found is None or found:
                self._here.acts.append(act)
            return found

        setattr(owner, method, wrapped)

    def around_commits(self) -> None:
        """Put a point before and one after the commit of what was noted."""
        original, here = PostgresLedger.begin, self._here

        @contextmanager
        def begin(ledger: PostgresLedger) -> Iterator[PostgresTransaction]:
            here.acts = []
            with original(ledger) as tx:
                yield tx
                for act in here.acts:
                    self.reach(f"before commit of {_who()}{act}")
            for act in here.acts:
                self.reach(f"after commit of {_who()}{act}")

        PostgresLedger.begin = begin  # type: ignore[assignment,method-assign]


def _who() -> str:
    """Return the loop that is at work where it does what others do too."""
    name = threading.current_thread().name
    return {SWEEPER: "sweeper's ", "parking": "parked "}.get(name, "")


def _install(points: Points) -> None:
    for owner, method, act in ACTS:
        points.note(owner, method, act)
    points.around_commits()

    def sent(_: object, messages: Sequence[Any]) -> str | None:
        if threading.current_thread().name == SWEEPER:
            return "sweep"
        return f"sending {messages[0].topic.rpartition('.')[2]}" if messages else None

    points.around(KafkaSink, "publish", sent)
    points.around(KafkaSource, "commit", lambda _: "commit of offsets")
    points.around(Live, "swap", lambda *_: "swap")
    points.around(RecordedJudge, "compare", lambda *_: "verdict")
    points.around(
        LabelWindow, "read", lambda window, _: "reading labels" if window.labels else None
    )
    points.around(recalibrate.cycle, "publish", lambda *_, **__: "publishing")  # type: ignore[arg-type]
    points.around(Spool, "add", lambda *_: "spooling")


def _hurry(sweep_after_s: float) -> None:
    ingest.topics.SHORTEST_SESSION_MS = SESSION_MS
    ingest.outbox.OLDER_THAN = timedelta(seconds=sweep_after_s)
    judge.batch.LEASE_S = LEASE_S
    ingest.roles.LEADER_RETRY_S = 0.5


def _encoder(roles: Any) -> CachedEncoder:
    return CachedEncoder(CachedOnly(), roles._settings.cache_dir)


def _run(
    role: str, environment: dict[str, str], log: Path, die_at: str | None, sweep_after_s: float
) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ |= environment
    _hurry(sweep_after_s)
    _install(Points(die_at))
    ingest.roles.Roles.encoder = property(_encoder)  # type: ignore[assignment]
    try:
        sys.exit(run_role(role, environ.read(ProcessSettings, environment)))
    except SteersmanError as problem:
        sys.stderr.write(f"steersman: {problem}\n")
        sys.exit(2)
