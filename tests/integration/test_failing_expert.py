"""A real endpoint on loopback that starts to fail and recovers, from the call to the state."""

from __future__ import annotations

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
from store.records import AlertKind, ExpertId, ExpertStatus
from tests.factories import CHEAP, NOON, STRONG, decided, expert, response, settings, task
from tests.fake_endpoints import Endpoints
from tests.unit.test_judge_worker import ScriptedJudge

pytestmark = pytest.mark.postgres


class Router:
    """Judge, prober, watch and learner over one PostgreSQL ledger."""

    def __init__(self, ledger: PostgresLedger, endpoints: Endpoints) -> None:
        endpoints.is_final = True
        self.ledger = ledger
        self.clock = ManualClock(NOON)
        self.asked = 0
        client = {"kind": "openai", "base_url": endpoints.url, "model": "small"}
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
    postgres_ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    router = Router(postgres_ledger, endpoints)
    router.judged(2)
    assert router.lead() == {CHEAP, STRONG}
    endpoints.status = 503
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
    endpoints.status = 200
    endpoints.calls.clear()
    for _ in range(3):
        router.clock.advance(120.0)
        assert router.prober.step() == 1
        assert endpoints.last["messages"][0]["content"] == "Reply with the word OK."
    assert endpoints.calls.total() == 3
    assert router.lead() == {CHEAP, STRONG}
    assert router.status() is ExpertStatus.CERTIFIED
    assert router.alerts() == [AlertKind.EXPERT_RECOVERED, AlertKind.EXPERT_FAILING]


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_declines_requests_stays(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, status: int
) -> None:
    router = Router(postgres_ledger, endpoints)
    endpoints.status = status
    router.judged(12)
    assert router.lead() == {CHEAP, STRONG}
    assert not router.alerts()


@pytest.mark.parametrize(
    ("status", "error"), [(401, "unauthorized"), (403, "unauthorized"), (429, "rate_limited")]
)
def test_how_a_call_failed_is_kept(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, status: int, error: str
) -> None:
    router = Router(postgres_ledger, endpoints)
    endpoints.status = status
    router.judged(5)
    assert router.lead() == {STRONG}
    with postgres_ledger.begin() as tx:
        found = tx.experts.find(CHEAP)
    assert found is not None
    assert found.health.error == error
