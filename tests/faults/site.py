"""A router as operators run it: each role a process of its own, real servers beneath."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ingest.broker import KafkaSink
from ingest.broker_upkeep import KafkaReader
from ingest.ports import Outbound
from ingest.topics import KafkaSettings, ReceivedEvent
from ingest.wire import decode_decision
from store.postgres.connecting import raw_connection
from store.records import Decision
from tests.calls import ask
from tests.contract.apache_kafka import free_ports
from tests.integration.composed import ROOT
from tests.integration.running import prompt
from tests.traffic import write_traffic
from tests.waiting import until

START_S = 180.0
ROLES = ("serve", "ingest", "judge", "learn")


class Site:
    """Processes by name, over one database and one broker.

    Parameters
    ----------
    folder
        Logs, run directories and recorded traffic.
    """

    def __init__(self, folder: Path, database_url: str, kafka: KafkaSettings) -> None:
        self.folder, self.database_url, self.kafka = folder, database_url, kafka
        folder.mkdir(parents=True, exist_ok=True)
        write_traffic(folder / "traffic.jsonl")
        rows = map(json.loads, (folder / "traffic.jsonl").read_text().splitlines())
        self.texts: dict[str, str] = {row["prompt_id"]: row["prompt"] for row in rows}
        self.ports: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.key = ""

    def environment(self, name: str) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
        return mine | {
            "STEERSMAN_DATABASE_URL": self.database_url,
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "STEERSMAN_KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "STEERSMAN_KAFKA_GROUP_ID": self.kafka.group_id,
            "STEERSMAN_RUN_DIR": str(self.folder / name),
            "STEERSMAN_CACHE_DIR": str(self.folder / "cache"),
            "STEERSMAN_RECORDED": str(self.folder / "traffic.jsonl"),
            "STEERSMAN_HTTP_PORT": str(self.ports.get(name, 0)),
            "STEERSMAN_REPLICA": name,
            "OMP_NUM_THREADS": "1",
        }

    def start(self, role: str, *, name: str = "", code: Path = ROOT) -> None:
        """Start a role with the sources in ``code``, as a process called ``name``."""
        name = name or role
        if role == "serve":
            (self.ports[name],) = free_ports(1)
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "ingest.cli", role],
                env=self.environment(name) | {"PYTHONPATH": str(code)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def stop(self, *names: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal processes (default: all) and wait for their end."""
        ended = [self.processes.pop(name) for name in names or tuple(self.processes)]
        for process in ended:
            process.send_signal(how)
        for process in ended:
            process.wait(60.0)

    def check_alive(self) -> None:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {self.log(name).read_text()[-3_000:]}"

    def cli(self, *words: str, code: Path = ROOT) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ingest.cli", *words],
            env=self.environment("cli") | {"PYTHONPATH": str(code)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120.0,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def does(self, *words: str, code: Path = ROOT) -> str:
        """Run a command that must succeed; return what it said."""
        status, said = self.cli(*words, code=code)
        assert status == 0, said
        return said

    def http(self, name: str, path: str, body: object = None) -> Any:
        """Ask a serving process; raises unless it answers 2xx."""
        return ask(f"http://127.0.0.1:{self.ports[name]}{path}", body, key=self.key)

    def until_ready(self, name: str) -> None:
        self.wait(lambda: self._is_ready(name), what=f"readiness of {name}")

    def _is_ready(self, name: str) -> bool:
        try:
            self.http(name, "/ready")
        except OSError:
            return False
        return True

    def wait(self, found: Any, *, what: str, limit_s: float = START_S) -> Any:
        def look() -> Any:
            self.check_alive()
            return found()

        return until(look, what=what, limit_s=limit_s, every_s=0.5)

    def prepare(self, *, code: Path = ROOT) -> None:
        """Register two experts and a policy that has half of the requests judged."""
        self.key = self.does("keys", "create", "ann", "--scope", "admin", code=code).strip()
        self.does("experts", "add", "strong", "--request", "1", code=code)
        self.does("experts", "add", "small", "--request", ".1", code=code)
        policy = ("reference=strong", "alpha=.15", "label_rate=.5")
        self.cli("policy", "set", *policy, code=code)  # its wait for a replica may be in vain

    def send(self, names: Iterable[str]) -> None:
        messages = [
            Outbound(
                topic=f"{self.kafka.topic_prefix}prompts",
                key=name,
                value=prompt(name, self.texts[name]),
            )
            for name in names
        ]
        with closing(KafkaSink(self.kafka)) as sink:
            sink.publish(messages)

    def topic(self, name: str) -> list[ReceivedEvent]:
        return list(KafkaReader(self.kafka).read(f"{self.kafka.topic_prefix}{name}"))

    def published(self) -> dict[str, list[Decision]]:
        """Return every decision in its topic, by request."""
        found: dict[str, list[Decision]] = {}
        for event in self.topic("decisions"):
            decision = decode_decision(event.value)
            found.setdefault(decision.request_id, []).append(decision)
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with raw_connection(self.database_url) as connection:
            return connection.execute(query.encode()).fetchall()

    def count(self, query: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {query}")[0][0])  # noqa: S608  constant

    def decided(self) -> Mapping[str, str]:
        """Return the expert that the ledger has for each request."""
        return dict(self.rows("SELECT request_id, expert FROM decisions"))
