"""What serving processes do while the broker, the database or a readable state is missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.announce import announce_alert
from ingest.demo_traffic import GEMINI, DemoPrompt, load_prompts
from recalibrate.cycle import Recalibrator
from recalibrate.publication import publish
from store.clock import SystemClock
from store.policy import PolicySettings
from store.postgres.connecting import raw_connection
from store.postgres.ledger import PostgresLedger
from store.records import AlertKind, Decision, RequestId
from tests import factories
from tests.acceptance.story_runs import encoder
from tests.calls import ask
from tests.faults import crashing, replays
from tests.faults.conftest import Servers
from tests.faults.crashing import RoleProcess
from tests.faults.replays import KILLED, Replay

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.kafka, pytest.mark.timeout(900)]
ENCODED = 64
"""Prompts for the real encoder: two batches."""
DAMAGED = "UPDATE routing_states SET payload = substr(payload, 1, 100) WHERE version = %s"


@pytest.fixture
def prompts() -> list[DemoPrompt]:
    """Prompts whose embeddings are in the cache."""
    found = load_prompts()[:8]
    encoder().encode([p.text for p in found])
    return found


@contextmanager
def serving(run: Replay, **options: Any) -> Iterator[RoleProcess]:
    """A serving process with a first state; the learner that made it is gone."""
    with run.open():
        learner = run.start("learn", "learn")
        run.wait_for_state()
        replays.stop([learner])
        process = run.start("serve", "serve", **options)
        run.until(lambda: is_ready(run.url_of("serve", process)), "readiness")
        yield process


def is_ready(url: str) -> bool:
    try:
        ask(f"{url}/ready")
    except OSError:
        return False
    return True


def decide(url: str, prompt: DemoPrompt) -> dict[str, Any]:
    body = {"request_id": prompt.request_id, "prompt": prompt.text}
    told: dict[str, Any] = ask(f"{url}/v1/routing/decision", body)
    return told


def stored(run: Replay, *names: str) -> dict[RequestId, Decision]:
    with run.ledger.begin() as tx:
        return tx.decisions.find_many([RequestId(name) for name in names])


def unsent(run: Replay) -> int:
    with run.ledger.begin() as tx:
        return len(tx.outbox.unmarked(limit=1_000))


def test_http_goes_on_while_the_broker_is_away(
    servers: Servers, tmp_path: Path, prompts: list[DemoPrompt]
) -> None:
    run = servers.replay(tmp_path, "broker_away")
    with serving(run) as process:
        url = run.url_of("serve", process)
        servers.kafka.kill()
        try:
            told = {p.request_id: decide(url, p) for p in prompts}
            assert unsent(run) == len(prompts)
        finally:
            servers.kafka.start()
        found = stored(run, *told)
        assert {n: d.expert for n, d in found.items()} == {n: t["expert"] for n, t in told.items()}
        run.until(lambda: unsent(run) == 0, "empty outbox")


def test_killed_between_the_spool_and_the_reply(
    servers: Servers, tmp_path: Path, prompts: list[DemoPrompt]
) -> None:
    run, name = servers.replay(tmp_path, "spool"), prompts[0].request_id
    with serving(run, die_at="after spooling") as process:
        url = run.url_of("serve", process)
        servers.kill_postgres()
        try:
            with pytest.raises(ConnectionError):
                decide(url, prompts[0])
            assert process.wait(30.0) == KILLED
        finally:
            servers.start_postgres()
        assert run.log("serve").read_text().endswith(f"{crashing.REACHED} after spooling\n")
        run.until(lambda: not stored(run, name), "ledger")
        run.start("serve", "serve")
        run.until(lambda: bool(stored(run, name)), "decision from the spool")
        assert stored(run, name)[RequestId(name)].degraded
        run.until(lambda: unsent(run) == 0, "empty outbox")


def test_started_on_a_damaged_state_it_serves_the_last_good_one(
    servers: Servers, tmp_path: Path, prompts: list[DemoPrompt]
) -> None:
    run = servers.replay(tmp_path, "damaged")
    with serving(run) as before:
        replays.stop([before])
        learner = run.start("learn", "learn")
        run.wait_for_policy(run.touch_policy())
        replays.stop([learner])
        with raw_connection(run.url) as connection:
            connection.execute(DAMAGED, [2])
        process = run.start("serve", "serve")
        told = decide(run.url_of("serve", process), prompts[0])
        assert (told["expert"], told["state_version"]) == (GEMINI, 1)
        with run.ledger.begin() as tx:
            (alert,) = tx.operations.alerts(limit=10)
        assert (alert.kind, alert.evidence) == (AlertKind.STATE_REFUSED, {"refused_version": 2.0})
        run.start("learn", "learn")
        run.until(lambda: serves(run, process) == 3, "a new state in force")


def serves(run: Replay, process: RoleProcess) -> object:
    return ask(f"{run.url_of('serve', process)}/ready")["state_version"]


def test_of_two_recalibrations_at_once_one_publishes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, clock = PostgresLedger(database_url), SystemClock()
    with ledger.begin() as tx:
        tx.policies.set(PolicySettings(reference=factories.STRONG), actor="ann", now=clock.now())
        tx.experts.add(factories.expert(factories.STRONG))
    both = threading.Barrier(2)

    def together(*given: Any, **named: Any) -> Any:
        both.wait(60.0)
        return publish(*given, **named)

    monkeypatch.setattr("recalibrate.cycle.publish", together)
    published: list[int | None] = []

    def recalibrate() -> None:
        one = Recalibrator(ledger, clock, encoder="e", announce=announce_alert, send=lambda _: None)
        published.append(one.step())

    threads = [threading.Thread(target=recalibrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.begin() as tx:
        history = [state.version for state in tx.states.history(limit=10)]
        calibrations = len(tx.states.calibrations(limit=10))
    ledger.close()
    assert sorted(published, key=str) == [1, None]
    assert (history, calibrations) == ([1], 1)


def test_killed_with_the_real_encoder_at_work(servers: Servers, tmp_path: Path) -> None:
    run = servers.replay(tmp_path, "encoder", prompts=ENCODED)
    with run.open():
        others = [run.start(role, role) for role in ("learn", "ingest", "judge")]
        run.wait_for_state()
        first = run.start_whole("serve", tmp_path / "no-cache")
        run.stream.feed(ENCODED)
        run.until(lambda: len(stored(run, *run.stream.sent)) > 0, "decisions")
        first.kill()
        assert first.wait() == KILLED
        assert 0 < len(stored(run, *run.stream.sent)) < ENCODED
        again = run.start_whole("serve", tmp_path / "no-cache")
        run.rest()
        again.terminate()
        assert again.wait(60.0) == 0
        replays.stop(others)
        run.check()
