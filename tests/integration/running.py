"""A ``steersman up`` as a process, and the events that its callers send."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from ingest.backbone import CONNECTION_FILE, read_connection
from ingest.broker import KafkaSink
from ingest.broker_upkeep import KafkaReader
from ingest.ports import Outbound
from ingest.topics import KafkaSettings, ReceivedEvent
from tests import command_line
from tests.traffic import write_traffic
from tests.waiting import until


class Running:
    """A ``steersman up`` in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder / "run"
        self.log = folder / "up.log"
        traffic = folder / "traffic.jsonl"
        write_traffic(traffic)
        self.environment = {
            "STEERSMAN_RUN_DIR": str(self.run_dir),
            "STEERSMAN_RECORDED": str(traffic),
            "STEERSMAN_HTTP_PORT": "0",
            "STEERSMAN_REPLICA": "r-1",
        }
        self.key = ""

    def start(self) -> None:
        (self.run_dir / CONNECTION_FILE).unlink(missing_ok=True)  # of one that was killed
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingest.cli", "up"],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._is_announced, what="connection file")
        found = read_connection(self.run_dir)
        self.url = found["http_url"]
        self.kafka = KafkaSettings(bootstrap_servers=found["bootstrap_servers"], group_id="test")

    def _is_announced(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3_000:]
        return (self.run_dir / CONNECTION_FILE).exists()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60.0)

    def cli(self, *arguments: str) -> tuple[int, str]:
        with mock.patch.dict(os.environ, self.environment):
            return command_line.run(*arguments)

    def http(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310  our own loopback address
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {self.key}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30.0) as reply:  # noqa: S310
                status, raw = reply.status, reply.read()
        except urllib.error.HTTPError as refused:
            status, raw = refused.code, refused.read()
        with contextlib.suppress(ValueError):
            return status, json.loads(raw)
        return status, raw.decode()

    def send(self, topic: str, *values: bytes) -> None:
        with closing(KafkaSink(self.kafka)) as sink:
            name = f"router.{topic}"
            sink.publish([Outbound(topic=name, key=str(n), value=v) for n, v in enumerate(values)])

    def read(
        self,
        topic: str,
        enough: Callable[[list[ReceivedEvent]], bool],
        *,
        limit_s: float = 40.0,
    ) -> list[ReceivedEvent]:
        """Read a topic from its beginning until there is enough."""
        reader = KafkaReader(self.kafka)

        def look() -> list[ReceivedEvent]:
            seen = list(reader.read(f"router.{topic}"))
            return seen if enough(seen) else []

        return until(look, what=f"events in {topic}", limit_s=limit_s)

    def server_processes(self) -> list[str]:
        """Return the command lines of servers that work for this run directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.run_dir) in command or self.kafka.bootstrap_servers in command:
                    found.append(command)
        return found


def prompt(request_id: object, text: object, **changes: object) -> bytes:
    body = {"schema": "steersman.prompt", "version": 1, "request_id": request_id, "prompt": text}
    return json.dumps(body | changes).encode()


def response(request_id: str, expert: str, **changes: object) -> bytes:
    body = {"schema": "steersman.response", "version": 1, "request_id": request_id}
    return json.dumps(body | {"expert": expert} | changes).encode()
