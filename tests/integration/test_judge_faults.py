"""Everything that an endpoint can do to a judge's worker, over real HTTP and PostgreSQL.

Whatever happens, no task is lost, no verdict is doubled, and no label comes from garbage.
"""

from __future__ import annotations

import itertools
import random
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from ingest.judging import client_factory
from judge.batch import MAX_ATTEMPTS, RETRY_AFTER_S
from judge.kept import Kept
from judge.llm import LlmJudge
from judge.paced import LONGEST_REST_S, OPENS_AFTER, Paced
from judge.pairs import UNREADABLE_TRIES, Panel
from judge.worker import JudgeWorker
from online.chat import Chat
from online.clients import Endpoint
from store.clock import ManualClock
from store.postgres.ledger import PostgresLedger
from store.records import ExpertId, Label, Price, RequestId, Verdict
from tests import fake_endpoints
from tests.contract.apache_kafka import must_run
from tests.factories import NOON, decided, expert, response, settings, task
from tests.fake_endpoints import FAULTS, Endpoints

pytestmark = pytest.mark.postgres

BIG, SMALL = ExpertId("big"), ExpertId("small")
TIMEOUT_S = 0.3
RETRIED = ("limited", "failed", "hung", "cut", "slow", "reset")
"""Faults that the SDK tries again by itself."""


class Site:
    """Judge tasks on sums, which both experts answer rightly, and products, which one does not."""

    def __init__(self, ledger: PostgresLedger, endpoints: Endpoints, *, requests: int = 1) -> None:
        self.ledger = ledger
        self.endpoints = endpoints
        self.clock = ManualClock(NOON)
        product_first = fake_endpoints.prompts(requests + 1)[1:]
        self.questions = {f"r{n}": text for n, text in enumerate(product_first)}
        with ledger.begin() as tx:
            for name in (BIG, SMALL):
                client = {"kind": "openai", "base_url": endpoints.url, "model": name}
                tx.experts.add(expert(name, client=client))
            tx.policies.set(settings(reference=BIG), actor="test", now=NOON)
            tx.decisions.record(
                [
                    decided(r, text=text, expert=BIG, due_experts=(SMALL,), reference=BIG)
                    for r, text in self.questions.items()
                ]
            )
            for request_id, text in self.questions.items():
                # In other words: one text shown twice would be one question, and one kept verdict.
                said = {SMALL: f"I think so: {fake_endpoints.answered('small', text)}"}
                said[BIG] = fake_endpoints.answered("big", text)
                tx.responses.record([response(request_id, expert=BIG, text=said[BIG])])
                tx.responses.record_shadow(response(request_id, expert=SMALL, text=said[SMALL]))
            tx.tasks.add([task(r, experts=(SMALL,)) for r in self.questions])
        self.panel = self.panel_at(endpoints.url)

    def panel_at(self, url: str) -> Panel:
        endpoint = Endpoint(base_url=url, model="judge", price=Price(request_usd=0.001))
        chat = Chat(endpoint, timeout_s=TIMEOUT_S, retries=1)
        judge = LlmJudge(chat, self.clock)
        paced = Paced(judge, self.clock, calls_per_s=0.0, concurrency=2)
        return Panel((Kept(paced, self.ledger, self.clock),))

    def worker(self, name: str = "w") -> JudgeWorker:
        return JudgeWorker(
            self.ledger,
            lambda: self.panel,
            client_factory(None),
            self.clock,
            name=name,
            announce=lambda _: [],
            publish=lambda _: None,
        )

    def labels(self) -> list[Label]:
        with self.ledger.begin() as tx:
            return list(tx.labels.settled_since(0).labels)

    def verdicts(self) -> list[Verdict]:
        with self.ledger.begin() as tx:
            return [v for r in self.questions for v in tx.labels.verdicts_of(RequestId(r))]

    def counts(self) -> dict[str, int]:
        with self.ledger.begin() as tx:
            return {k: v for k, v in tx.tasks.counts().items() if v}

    def check_that_all_is_labelled_as_if_nothing_had_happened(self) -> None:
        assert self.counts() == {"done": len(self.questions)}
        found = {(x.request_id, x.expert): (x.outcome, x.score) for x in self.labels()}
        for name, text in self.questions.items():
            right = fake_endpoints.answered("small", text) == fake_endpoints.answered("big", text)
            expected = (1, 0.5) if right else (0, 0.0)
            assert found.pop((RequestId(name), SMALL)) == expected
            assert found.pop((RequestId(name), BIG)) == (1, 0.5)
        assert not found
        keys = [(v.request_id, v.call) for v in self.verdicts()]
        assert sorted(keys) == sorted((r, call) for r in self.questions for call in (0, 1))
        assert self.endpoints.verdicts == len(keys), "each was asked for once"
        # Kept, or the call that was answered and up to two tries before it that may be billed.
        assert {v.cost_usd for v in self.verdicts()} <= {0.0, 0.001, 0.002, 0.003}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_lasts_costs_no_task_and_makes_no_label(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, fault: str
) -> None:
    site = Site(postgres_ledger, endpoints)
    endpoints.faults = iter(["", *[fault] * 100])  # in the middle of a pair
    for _ in range(2):
        assert site.worker().step() == 1
        assert site.counts() == {"pending": 1}
        site.clock.advance(RETRY_AFTER_S)
    assert site.labels() == []
    assert site.verdicts() == []
    endpoints.faults = iter(())
    assert site.worker().step() == 1
    site.check_that_all_is_labelled_as_if_nothing_had_happened()


@pytest.mark.parametrize("fault", RETRIED)
def test_a_fault_that_passes_is_not_even_seen(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, fault: str
) -> None:
    site = Site(postgres_ledger, endpoints)
    endpoints.faults = iter([fault, "", fault, ""])
    assert site.worker().step() == 1
    assert endpoints.calls["judge"] == 4
    site.check_that_all_is_labelled_as_if_nothing_had_happened()


def test_a_long_outage_counts_against_no_task_and_is_asked_about_ever_more_seldom(
    postgres_ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    site = Site(postgres_ledger, endpoints)
    endpoints.faults = itertools.repeat("no_completion")
    for _ in range(4 * MAX_ATTEMPTS):
        site.worker().step()
        site.clock.advance(RETRY_AFTER_S)
    asked = endpoints.calls["judge"]
    assert OPENS_AFTER < asked < 2 * OPENS_AFTER
    assert site.counts() == {"pending": 1}
    endpoints.faults = iter(())
    site.clock.advance(LONGEST_REST_S)
    assert site.worker().step() == 1
    site.check_that_all_is_labelled_as_if_nothing_had_happened()


@pytest.mark.parametrize(
    "said", ['{"verdict": "A"}', '{"winner": "C"}', '{"winner": "A', "A is better.", ""]
)
def test_a_reply_that_is_no_verdict_is_asked_again_then_a_loss_that_trains_nothing(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, said: str
) -> None:
    site = Site(postgres_ledger, endpoints)
    endpoints.says = said
    assert site.worker().step() == 1
    assert endpoints.calls["judge"] == UNREADABLE_TRIES
    assert site.counts() == {"done": 1}
    assert [(x.expert, x.outcome, x.score) for x in site.labels()] == [(SMALL, 0, None)]
    assert site.verdicts() == []


def test_two_workers_and_every_fault_at_random_lose_nothing_and_double_nothing(
    postgres_ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    site = Site(postgres_ledger, endpoints, requests=24)
    rng = random.Random(1)  # noqa: S311
    endpoints.faults = iter([rng.choice(["", "", *FAULTS]) for _ in range(40)])
    for _ in range(40):
        threads = [threading.Thread(target=site.worker(name).step) for name in ("w1", "w2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
        if site.counts() == {"done": 24}:
            break
        site.clock.advance(LONGEST_REST_S)
    site.check_that_all_is_labelled_as_if_nothing_had_happened()


def test_an_endpoint_that_speaks_no_tls_is_away(
    postgres_ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    site = Site(postgres_ledger, endpoints)
    site.panel = site.panel_at(endpoints.url.replace("http:", "https:"))
    is_away_until_it_is_right(site)


@pytest.fixture
def unvouched(tmp_path: Path) -> ssl.SSLContext:
    """TLS by a certificate of our own; without openssl the test is skipped, in CI it fails."""
    if shutil.which("openssl") is None:
        why = "openssl makes the certificate: apt install openssl"
        if must_run():
            pytest.fail(why)
        pytest.skip(why)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2"
    subprocess.run([*made.split(), "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


def test_an_endpoint_whose_certificate_nobody_vouches_for_is_away(
    postgres_ledger: PostgresLedger, endpoints: Endpoints, unvouched: ssl.SSLContext
) -> None:
    site = Site(postgres_ledger, endpoints)
    with fake_endpoints.running(tls=unvouched) as unknown:
        site.panel = site.panel_at(unknown.url)
        is_away_until_it_is_right(site)
        assert not unknown.calls


def is_away_until_it_is_right(site: Site) -> None:
    site.worker().step()
    assert site.counts() == {"pending": 1}
    site.clock.advance(RETRY_AFTER_S)
    with site.ledger.begin() as tx:
        [waiting] = tx.tasks.lease(worker="look", now=site.clock.now(), lease_s=1.0, limit=9)
        assert waiting.last_error == "the judge did not answer: APIConnectionError"
        tx.tasks.give_back(
            waiting.task_id or 0, worker="look", due_at=site.clock.now(), error="", counts=False
        )
    assert site.labels() == []
    site.panel = site.panel_at(site.endpoints.url)
    site.worker().step()
    site.check_that_all_is_labelled_as_if_nothing_had_happened()
