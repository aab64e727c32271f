"""No prompt, answer, comment, key or password in anything a router prints, whatever goes wrong.

Ids are no secrets: a request's id is in logs and replies, so that it can be found again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import pytest

from ingest.broker_upkeep import KafkaReader
from ingest.cli import main  # noqa: F401  pays for the imports of the commands
from online.snapshot import checksum
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from tests.integration.running import Running, prompt, response
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

WHERE = (
    "prompt", "broken", "message", "answer", "comment", "unknown-field", "conflict", "spooled",
    "pinned-key", "invalid-key", "expert-key", "expert-said", "database", "wrong-database", "sasl",
    "state",
)  # fmt: skip
CANARY = {where: f"canary-{where}-7f3a" for where in WHERE}
ANY = re.compile("|".join(CANARY.values()))
OCCURRED = {
    "DEBUG", "stream.dead_letter", "judge.given_back", "state.unreadable", "degraded.tried",
    "degraded.ended", "role.waiting", "embedded_broker.died", "up.ready", "state.swapped",
}  # fmt: skip
"""What must be in the log, or this test has looked at nothing."""


class Echo(BaseHTTPRequestHandler):
    """An endpoint whose refusals quote what it was asked, and by whose key."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        status = 500 if "twice" in asked else 400
        told = [CANARY["expert-said"], asked, self.headers["authorization"]]
        body = json.dumps({"error": {"message": " ".join(told)}}).encode()
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-quoted", asked.replace("\n", " ")[:200])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Guarded:
    """A PostgreSQL that asks for a password, and can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)  # as root, the server is another user
        self._rules = folder / "hba.conf"
        self._data = folder / "data"
        self._rules.write_text("local all all trust\n")
        self._rules.chmod(0o644)
        self.server = self._started()
        with raw_connection(self.server.url()) as connection:
            connection.execute(f"ALTER USER postgres PASSWORD '{CANARY['database']}'")
            self._rules.write_text("local all all scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")

    def _started(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self._data, settings={"hba_file": str(self._rules), "fsync": "off"})

    def again(self) -> None:
        self.server = self._started()

    def url(self, password: str) -> str:
        return self.server.url().replace("postgres@", f"postgres:{password}@")

    def log(self) -> str:
        return (self._data / "server.log").read_text()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with tempfile.TemporaryDirectory() as folder:
        guarded = Guarded(Path(folder))
        yield guarded
        guarded.server.stop()


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory, guarded: Guarded, endpoint: ThreadingHTTPServer
) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("up"))
    running.environment |= {
        "STEERSMAN_DATABASE_URL": guarded.url(CANARY["database"]),
        "STEERSMAN_LOG_LEVEL": "DEBUG",
        "STEERSMAN_KAFKA_SASL_PASSWORD": CANARY["sasl"],
        "LLM_KEY": CANARY["expert-key"],
    }
    try:
        running.start()
        running.key = running.cli("keys", "create", "ann", "--scope", "admin")[1].strip()
        url = f"http://127.0.0.1:{endpoint.server_port}/v1"
        client = ["--request", "1", "--base-url", url, "--api-key-env", "LLM_KEY"]
        for name in ("strong", "small"):
            status, said = running.cli("experts", "add", name, *client)
            assert status == 0, said
        assert running.cli("policy", "set", "reference=strong", "label_rate=1")[0] == 0
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


def ask(up: Running, path: str, body: bytes, *, key: str | None = None) -> str:
    """Post any bytes and return status, headers and body of the reply."""
    place = urlsplit(up.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30.0)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key or up.key}"}
    headers["idempotency-key"] = "w"
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        return f"{reply.status} {reply.getheaders()} {reply.read().decode()}"


def everything(up: Running, guarded: Guarded) -> dict[str, str]:
    """Return all that was printed."""
    logs = {str(path.name): path.read_text() for path in up.run_dir.rglob("*.log")}
    return logs | {"up": up.log.read_text(), "postgres": guarded.log()}


def logged(up: Running) -> set[str]:
    return {name for name in OCCURRED if f'"{name}"' in up.log.read_text()}


def happened(up: Running, name: str) -> None:
    until(lambda: name in logged(up), what=name, limit_s=60.0)


def broken(kind: str) -> list[bytes]:
    """Return events that are refused, each with a text that is nobody's business."""
    text, whole = CANARY["broken"], {"schema": f"steersman.{kind}", "version": 1, "request_id": "b"}
    fields = {"prompt": text, "text": text, "comment": text, "rating": 0.5, "source": "user"}
    event = whole | fields | {"expert": "strong", "idempotency_key": "k"}
    return [
        json.dumps(event).encode()[:-1],
        json.dumps(event).encode().replace(b"7f3a", b"7f3a\xff"),
        *(
            json.dumps(event | changed).encode()
            for changed in (
                {"request_id": [text]},
                {"tenant": [text], "session_id": {text: text}},
                {"expert": {text: text}},
                {"created_at": text},
                {"version": text},
                {"schema": text},
                {"prompt": [text], "text": [text], "comment": [text]},
                {"prompt": f"\ud800{text}", "text": f"\x00{text}", "comment": f"\ud800{text}"},
                {"messages": [{"role": text, "content": CANARY["message"]}]},
                {"rating": text, "cost_usd": text, "allowed_experts": text},
            )
        ),
    ]


def refuse_over_http(up: Running) -> list[str]:
    field = {"request_id": "u", "prompt": CANARY["prompt"], "schema": CANARY["unknown-field"]}
    decision, feedback = "/v1/routing/decision", "/v1/feedback"
    taken = {"request_id": "good", "prompt": CANARY["conflict"]}
    return [
        *(ask(up, decision, body) for body in broken("prompt")),
        *(ask(up, feedback, body) for body in broken("feedback")),
        ask(up, decision, json.dumps(field).encode()),
        ask(up, decision, json.dumps(taken).encode()),
        ask(up, decision, json.dumps(taken).encode(), key=CANARY["invalid-key"]),
        ask(up, "/v1/experts", json.dumps({"name": CANARY["prompt"], "price": {}}).encode()),
        ask(up, "/v1/state/rollback", CANARY["broken"].encode()),
    ]


def refuse_over_kafka(up: Running) -> list[str]:
    """Return what the dead letters say, their bytes apart: those are the sender's."""
    for kind, topic in (("prompt", "prompts"), ("response", "responses"), ("feedback", "feedback")):
        up.send(topic, *broken(kind))
    up.send("prompts", prompt("good", CANARY["conflict"]))
    reader = KafkaReader(up.kafka)
    topics = [f"router.{name}.dlq" for name in ("prompts", "responses", "feedback")]

    def letters() -> list[str]:
        found = [str(one.headers) for topic in topics for one in reader.read(topic)]
        return found if len(found) > 30 else []

    told: list[str] = until(letters, what="dead letters", limit_s=60.0)
    return told


def damage_the_state(guarded: Guarded) -> None:
    payload = CANARY["state"].encode()
    with raw_connection(guarded.url(CANARY["database"])) as connection:
        connection.execute(
            "UPDATE routing_states SET version = version + 1000, payload = %s, sha256 = %s"
            " WHERE is_active",
            [payload, checksum(payload)],
        )
        connection.execute("NOTIFY steersman_state")


def failing_commands(up: Running, guarded: Guarded) -> str:
    wrong = guarded.url(CANARY["wrong-database"])
    said = []
    for changes, *command in (
        ({"STEERSMAN_DATABASE_URL": wrong}, "migrate"),
        ({"STEERSMAN_DATABASE_URL": wrong.replace(":canary", ":p@canary")}, "migrate"),
        ({"STEERSMAN_DATABASE_URL": f"{CANARY['database']}"}, "policy", "show"),
        ({"STEERSMAN_KAFKA_SASL_PASSWRD": CANARY["sasl"]}, "policy", "show"),
        ({}, "settings"),
        ({}, "dlq", "list"),
        (
            {
                "STEERSMAN_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "STEERSMAN_KAFKA_SASL_MECHANISM": "PLAIN",
                "STEERSMAN_KAFKA_SASL_USERNAME": "ann",
                "STEERSMAN_KAFKA_TIMEOUT_S": "1",
            },
            "dlq",
            "list",
        ),
    ):
        with mock.patch.dict(up.environment, changes):
            status, told = up.cli(*command)
        assert told.strip()
        assert status in ((0,) if not changes else (2,)), told
        said.append(told)
    return "\n".join(said)


def kill_the_broker(up: Running) -> None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = entry.read_bytes().split(b"\0")
            address = f"tcp://{up.kafka.bootstrap_servers}".encode()
            if address in command and b"tansu" in command[0]:
                os.kill(int(entry.parent.name), signal.SIGKILL)


def test_nothing_that_is_printed_holds_a_text_a_key_or_a_password(
    up: Running, guarded: Guarded, endpoint: ThreadingHTTPServer
) -> None:
    until(lambda: up.http("GET", "/ready")[0] == 200, what="readiness")
    until(lambda: "small" in str(up.http("GET", "/v1/state")[1]), what="state with both")
    for name in ("good", "twice"):
        body = {"request_id": name, "prompt": f"{name} {CANARY['prompt']}"}
        assert up.http("POST", "/v1/routing/decision", body)[0] == 200
        up.send("responses", response(name, "strong", text=CANARY["answer"], cost_usd=1.0))
    word = {"request_id": "good", "rating": 1.0, "comment": CANARY["comment"]}
    assert ask(up, "/v1/feedback", json.dumps(word).encode()).startswith("201")
    told = refuse_over_http(up)
    assert all(reply.startswith("4") for reply in told), told
    told += refuse_over_kafka(up)
    asked: list[str] = endpoint.asked  # type: ignore[attr-defined]
    until(lambda: any("twice" in one for one in asked), what="question to the expert")
    happened(up, "judge.given_back")
    told.append(failing_commands(up, guarded))

    guarded.server.stop()
    body = {"request_id": "away", "prompt": CANARY["spooled"]}
    assert up.http("POST", "/v1/routing/decision", body)[0] == 200
    told.append(ask(up, "/v1/feedback", json.dumps(word).encode()))
    assert told[-1].startswith("503")
    happened(up, "role.waiting")
    guarded.again()
    happened(up, "degraded.ended")
    kill_the_broker(up)
    happened(up, "embedded_broker.died")
    up.send("prompts", prompt("late", CANARY["prompt"]))
    damage_the_state(guarded)
    happened(up, "state.unreadable")
    told.append(str(up.http("GET", "/metrics")))
    up.end(signal.SIGTERM)

    printed = everything(up, guarded)
    assert {"broker.log", "up", "postgres"} <= set(printed)
    assert logged(up) | {"DEBUG"} == OCCURRED
    assert '"level": "DEBUG"' in printed["up"]
    for where, text in [*printed.items(), *(("reply or command", one) for one in told)]:
        found = ANY.search(text)
        assert found is None, (where, text[max(0, found.start() - 300) : found.end() + 50])
        assert up.key not in text
