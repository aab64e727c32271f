"""A sign of life for health checks: when each loop of a process last asked whether to stop.

A loop asks at least once a round, also while it waits for a ledger or a broker that is away. One
that no longer asks does no work and would not stop either: it hangs. Nobody else can ask in its
place. The sign is a file and no row, so that a database that is away makes no process look dead.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

log = logging.getLogger(__name__)

HTTP_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """When a loop last asked, and how long it may work without asking again."""

    asked_at: float
    """Seconds on the machine's monotonic clock, which its processes share."""
    quiet_s: float


class Heartbeat:
    """Writes the signs of one process to a file in the run directory.

    Parameters
    ----------
    replica
        Tells processes of one role apart that share the directory.
    http_url
        Where this process answers HTTP, if it does: its health check then asks there too.
    """

    def __init__(self, run_dir: Path, role: str, *, replica: str, http_url: str = "") -> None:
        self._file = heartbeat_file(run_dir, role, replica=replica)
        self._http_url = http_url
        self._failing = False

    def beat(self, signs: Mapping[str, Sign]) -> None:
        """Write the signs; a file that cannot be written is logged and costs only the check."""
        content = {
            "pid": os.getpid(),
            "http_url": self._http_url,
            "loops": {name: asdict(sign) for name, sign in signs.items()},
        }
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(content))
            unfinished.replace(self._file)
        except OSError as problem:
            if not self._failing:
                facts = {"file": self._file, "problem": problem.strerror}
                log.warning("heartbeat.unwritable", extra=facts)
            self._failing = True
        else:
            self._failing = False

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Remove the file after the block: a process that has ended gives no sign."""
        try:
            yield
        finally:
            with suppress(OSError):
                self._file.unlink()


def heartbeat_file(run_dir: Path, role: str, *, replica: str) -> Path:
    """Return where a process of that role and replica writes."""
    return run_dir / f"{role}-{quote(replica, safe='')}.heartbeat"


def troubles(file: Path, *, now: float) -> list[str]:
    """Return what is wrong with the process that writes ``file``; nothing while it works.

    Parameters
    ----------
    now
        Seconds on the machine's monotonic clock.
    """
    try:
        content = json.loads(file.read_text())
        loops = {name: Sign(**sign) for name, sign in content["loops"].items()}
        pid, http_url = int(content["pid"]), str(content["http_url"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [f"{file} shows no sign of life: not started yet, or ended; the log says why"]
    if not _runs(pid):
        return [f"process {pid} is gone without a goodbye"]
    found = [
        f"{name} has not asked whether to stop for {now - sign.asked_at:.0f} s,"
        f" over its {sign.quiet_s:.0f} s: it hangs"
        for name, sign in loops.items()
        if not 0.0 <= now - sign.asked_at <= sign.quiet_s
    ]
    return found or ([] if not http_url else _http_troubles(http_url))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return True


def _http_troubles(url: str) -> list[str]:
    """Ask as a caller would: the answer needs a free thread and a running event loop."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=HTTP_TIMEOUT_S).close()  # noqa: S310  ours
    except OSError as problem:
        return [f"{url}/health does not answer: {problem}"]
    return []
