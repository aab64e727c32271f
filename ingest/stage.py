"""Starting and stopping the demo's processes, and watching that they live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from ingest.backbone import CONNECTION_FILE, read_connection
from store.clock import Clock
from store.errors import SteersmanError

START_S = 120.0
STOP_S = 30.0
_LAST_LINES = 8


class StageFailed(SteersmanError):
    """A process of the run died or did not start; the message says where its log is."""


class Stage:
    """Processes of one run, each with a log file; all are stopped on leaving the block."""

    def __init__(self, run_dir: Path, environment: Mapping[str, str], clock: Clock) -> None:
        self._run_dir = run_dir
        self._environment = {**os.environ, **environment}
        self._clock = clock
        self._processes: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        self._never = threading.Event()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start ``steersman <command>`` with its log in ``<name>.log``.

        In a session of its own, so that Ctrl-C reaches only the driver, which then stops it.
        """
        log = (self._run_dir / f"{name}.log").open("ab")
        process = subprocess.Popen(  # noqa: S603  our own program, no shell
            [sys.executable, "-m", "ingest.cli", *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._processes[name] = (process, log)

    def wait_for_connection(self, name: str) -> dict[str, str]:
        """Return the addresses that ``steersman up`` announces once it is ready."""
        give_up = self._clock.monotonic() + START_S
        while not (self._run_dir / CONNECTION_FILE).exists():
            self.check()
            if self._clock.monotonic() > give_up:
                raise StageFailed(f"{name} was not ready after {START_S:.0f} s; {self._hint(name)}")
            self._clock.wait(self._never, 0.1)
        return read_connection(self._run_dir)

    def check(self) -> None:
        """Raise ``StageFailed`` if a process has ended."""
        for name, (process, _) in self._processes.items():
            if process.poll() is not None:
                raise StageFailed(
                    f"{name} ended with status {process.returncode}; {self._hint(name)}"
                )

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run ``steersman <command>`` to its end; return its status and output."""
        done = subprocess.run(  # noqa: S603  our own program, no shell
            [sys.executable, "-m", "ingest.cli", *command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def stop(self, name: str) -> None:
        """Ask a process to stop, wait, kill it if it does not."""
        process, log = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()

    def _hint(self, name: str) -> str:
        path = self._run_dir / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return f"its log is {path}, ending with:\n" + "\n".join(lines)
