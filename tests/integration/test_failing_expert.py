"""A real endpoint on loopback that starts to fail and recovers, from the call to the state."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ingest.announce import announce_alert, announce_labels
from ingest.judging import client_factory
from judge.pairs import Panel
from judge.probing import Prober
from judge.worker import JudgeWorker
from online.snapshot import load_state
from recalibrate.cycle import Recalibrator
from recalibrate.watch import HealthWatch
from store.clock import ManualClock
from store.postgres.ledger import PostgresLedger
from store.records import AlertKind, ExpertId, ExpertStatus, JsonObject
from tests.factories import CHEAP, NOON, STRONG, decided, expert, response, settings, task
from tests.unit.test_judge_worker import ScriptedJudge

pytestmark = pytest.mark.postgres


class Endpoint:
    """OpenAI's chat interface; answers with a status of the test's choosing."""

    def __init__(self) -> None:
        self.status = 200
        self.prompts: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                asked: JsonObject = json.loads(self.rfile.read(length))
                messages = asked["messages"]
                assert isinstance(messages, list)
                endpoint.prompts.append(messages[0]["content"])
                choice = {"index": 0, "finish_reason": "stop"} | {
                    "message": {"role": "assistant", "content": "OK"}
                }
                ok = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                body = json.dumps(ok | {"choices": [choice]}).encode()
                self.send_response(endpoint.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                # The client's own retries need not wait in a test.
                self.send_header("x-should-retry", "false")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(10.0)


class Router:
    """Judge, prober, watch and learner over one PostgreSQL ledger."""

    def __init__(self, ledger: PostgresLedger, endpoint: Endpoint) -> None:
        self.ledger = ledger
        self.clock = ManualClock(NOON)
        self.asked = 0
        client = {"kind": "openai", "base_url": endpoint.url, "model": "m"}
        with ledger.begin() as tx:
            for name in (CHEAP, STRONG):
                tx.experts.add(expert(name, status=ExpertStatus.CERTIFIED, client=client))
            tx.policies.set(settings(), actor="test", now=NOON)
        clients = client_factory(None)
        self.worker = JudgeWorker(
            ledger,
            lambda: Panel((ScriptedJudge(),)),
            clients,
            self.clock,
            name="w",
            announce=announce_labels,
            publish=lambda _: None,
        )
        self.prober = Prober(ledger, clients, self.clock)
        self.watch = HealthWatch(ledger, self.clock, announce=announce_alert, send=lambda _: None)
        self.learner = Recalibrator(
            ledger, self.clock, encoder="e", announce=announce_alert, send=lambda _: None
        )

    def judged(self, count: int) -> None:
        """Have requests judged: the reference has answered, the cheap expert is asked now."""
        self.clock.advance(1.0)
        names = [f"r{self.asked + n}" for n in range(count)]
        self.asked += count
        with self.ledger.begin() as tx:
            tx.decisions.record([decided(n, expert=STRONG, decided_at=NOON) for n in names])
            tx.responses.record(
                [response(n, expert=STRONG, received_at=self.clock.now()) for n in names]
            )
            tx.tasks.add([task(n, created_at=self.clock.now()) for n in names])
        while self.worker.step():
            pass

    def lead(self, wait_s: float = 1.0) -> set[ExpertId]:
        """Let the leader work; return the pool in force."""
        self.clock.advance(wait_s)
        self.watch.step()
        self.learner.step()
        with self.ledger.begin() as tx:
            active = tx.states.active()
        assert active is not None
        return set(load_state(active.payload, sha256=active.sha256).members)

    def alerts(self) -> list[AlertKind]:
        with self.ledger.begin() as tx:
            return [a.kind for a in tx.operations.alerts(limit=9)]

    def status(self) -> ExpertStatus:
        with self.ledger.begin() as tx:
            found = tx.experts.find(CHEAP)
        assert found is not None
        return found.status


def test_an_endpoint_that_fails_is_out_of_the_pool_until_it_answers_probes(
    postgres_ledger: PostgresLedger, endpoint: Endpoint
) -> None:
    router = Router(postgres_ledger, endpoint)
    router.judged(2)
    assert router.lead() == {CHEAP, STRONG}
    endpoint.status = 503
    router.judged(4)
    assert router.lead() == {CHEAP, STRONG}
    router.judged(1)
    assert router.lead() == {STRONG}
    assert router.alerts() == [AlertKind.EXPERT_FAILING]
    with postgres_ledger.begin() as tx:
        active = tx.states.active()
        failures = tx.calls.failures(CHEAP, after=NOON, limit=9)
    assert active is not None
    assert active.cause == "expert"
    assert {f.error for f in failures} == {"unavailable"}

    router.clock.advance(31.0)
    assert router.prober.step() == 1
    assert router.lead() == {STRONG}, "it still fails"
    endpoint.status = 200
    endpoint.prompts.clear()
    for _ in range(3):
        router.clock.advance(120.0)
        assert router.prober.step() == 1
    assert endpoint.prompts == ["Reply with the word OK."] * 3
    assert router.lead() == {CHEAP, STRONG}
    assert router.status() is ExpertStatus.CERTIFIED
    assert router.alerts() == [AlertKind.EXPERT_RECOVERED, AlertKind.EXPERT_FAILING]


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_declines_requests_stays(
    postgres_ledger: PostgresLedger, endpoint: Endpoint, status: int
) -> None:
    router = Router(postgres_ledger, endpoint)
    endpoint.status = status
    router.judged(12)
    assert router.lead() == {CHEAP, STRONG}
    assert not router.alerts()


@pytest.mark.parametrize(
    ("status", "error"), [(401, "unauthorized"), (403, "unauthorized"), (429, "rate_limited")]
)
def test_how_a_call_failed_is_kept(
    postgres_ledger: PostgresLedger, endpoint: Endpoint, status: int, error: str
) -> None:
    router = Router(postgres_ledger, endpoint)
    endpoint.status = status
    router.judged(5)
    assert router.lead() == {STRONG}
    with postgres_ledger.begin() as tx:
        found = tx.experts.find(CHEAP)
    assert found is not None
    assert found.health.error == error
