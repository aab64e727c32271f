"""One running router, asked and pestered as its users, operators and the kernel would."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.backbone import CONNECTION_FILE, open_backbone, read_connection
from ingest.settings import ProcessSettings
from ingest.wire import decode_decision
from store.errors import SettingsInvalid
from tests.integration.running import Running, prompt, response
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

WHISPER = "whispered-prompt-text"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("up"))
    try:
        running.start()
        assert running.http("GET", "/ready")[0] == 503  # no state yet
        status, key = running.cli("keys", "create", "ann", "--scope", "admin")
        assert status == 0, key
        running.key = key.strip()
        assert running.cli("experts", "add", "strong", "--request", "1")[0] == 0
        status, said = running.cli("policy", "set", "reference=strong", "label_rate=1")
        assert status == 0, said
        assert running.cli("experts", "add", "small", "--request", ".1")[0] == 0
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


def test_a_policy_is_in_force_within_seconds(up: Running) -> None:
    status, said = up.cli("policy", "set", "alpha=.15")
    assert status == 0, said
    found = re.search(r"in force as state (\d+) on r-1 after ([\d.]+) s", said)
    assert found is not None, said
    assert float(found[2]) < 5.0
    assert up.http("GET", "/ready")[0] == 200
    assert up.http("GET", "/v1/state")[1]["serving_version"] >= int(found[1])


def test_an_unknown_reference_is_refused_at_once(up: Running) -> None:
    status, said = up.cli("policy", "set", "reference=ghost")
    assert (status, said.count("\n")) == (2, 1)
    assert "steersman experts list" in said


def test_experts_are_added_once_over_http_and_cli(up: Running) -> None:
    body = {"name": "http-one", "price": {"request_usd": 0.3}, "client": {"kind": "recorded"}}
    assert up.http("POST", "/v1/experts", body)[0] == 201
    assert up.http("POST", "/v1/experts", body)[0] == 409
    assert up.cli("experts", "add", "cli-one", "--request", "0.3")[0] == 0
    status, said = up.cli("experts", "add", "cli-one", "--request", "0.3")
    assert (status, said) == (2, "steersman: expert cli-one exists already\n")
    assert "http-one" in (listed := up.cli("experts", "list")[1])
    assert "cli-one" in listed
    until(lambda: {"http-one", "cli-one"} <= experts_served(up), what="state with both")

    assert up.cli("experts", "pause", "cli-one")[0] == 0
    until(lambda: "cli-one" not in able(up), what="state without the paused")


def experts_served(up: Running) -> set[str]:
    return set(up.http("GET", "/v1/state")[1]["serving"].get("experts", {}))


def able(up: Running) -> set[str]:
    experts = up.http("GET", "/v1/state")[1]["serving"].get("experts", {})
    return {name for name, status in experts.items() if status != "paused"}


@pytest.mark.parametrize(
    "price", [{"request_usd": -1}, {"request_usd": 0}, {}, {"request_usd": "cheap"}]
)
def test_a_price_that_is_none_is_refused(up: Running, price: dict[str, object]) -> None:
    body = {"name": "bad", "price": price, "client": {"kind": "recorded"}}
    assert up.http("POST", "/v1/experts", body)[0] == 422


def test_kafka_and_http_give_one_decision(up: Running) -> None:
    up.send("prompts", prompt("both", f"soup and bread {WHISPER}"))
    seen = up.read("decisions", lambda e: any(b'"both"' in one.value for one in e))
    mine = [d for one in seen if (d := decode_decision(one.value)).request_id == "both"]
    body = {"request_id": "both", "prompt": f"soup and bread {WHISPER}"}
    status, decided = up.http("POST", "/v1/routing/decision", body)
    assert status == 200
    assert decided["expert"] == mine[0].expert
    assert decided["decided_at"] == mine[0].decided_at.isoformat()
    body["prompt"] = "another text"
    assert up.http("POST", "/v1/routing/decision", body)[0] == 409
    metrics = str(up.http("GET", "/metrics")[1])
    assert "steersman_decisions_total" in metrics
    assert re.search(r"steersman_stream_lag\{partition=.0.,topic=.router\.prompts.\} \d", metrics)


BAD_PROMPTS = {
    "unreadable_json": [b"\xff\x00{", b"{"],
    "unknown_version": [prompt("v", "x", version=2)],
    "unknown_schema": [prompt("s", "x", schema="steersman.other")],
    "missing_field": [prompt(None, "x"), prompt("m", None)],
    "empty_field": [prompt("", "x"), prompt("e", " ")],
    "prompt_too_long": [prompt("l", "x" * (64 * 1024 + 1))],
    "far_future": [prompt("f", "x", created_at="2999-01-01T00:00:00Z")],
    "not_finite": [b'{"schema":"steersman.prompt","version":1,"request_id":"n","prompt":NaN}'],
    "request_conflict": [prompt("good-0", "a text that good-0 never had")],
}


def test_bad_prompts_are_told_why_and_cost_no_other(up: Running) -> None:
    good = [prompt(f"good-{n}", f"court and clause {n}") for n in range(20)]
    up.send("prompts", good[0])
    up.read("decisions", lambda e: any(b'"good-0"' in one.value for one in e))
    bad = [value for values in BAD_PROMPTS.values() for value in values]
    mixed = [one for pair in zip(good[1:], bad, strict=False) for one in pair]
    up.send("prompts", *mixed, *good[1 + len(bad) :])
    letters = up.read("prompts.dlq", lambda e: len(e) >= len(bad))
    told = {one.value: one.headers["reason"] for one in letters}
    assert told == {v: code for code, values in BAD_PROMPTS.items() for v in values}
    for number in range(20):
        until(
            lambda n=number: up.http("GET", f"/v1/decisions/good-{n}")[0] == 200,  # type: ignore[misc]
            what=f"decision of good-{number}",
        )


def test_an_early_response_waits_and_an_unknown_expert_is_refused(up: Running) -> None:
    up.send(
        "responses",
        response("early", "strong", cost_usd=1.0),
        response("early", "ghost"),
        response("early", "strong", cost_usd=-1.0),
    )
    letters = up.read("responses.dlq", lambda e: len(e) >= 2)
    assert sorted(one.headers["reason"] for one in letters) == ["negative_number", "unknown_expert"]
    decide = {"request_id": "early", "prompt": "garlic", "expert": "strong"}
    assert up.http("POST", "/v1/routing/decision", decide)[0] == 200
    until(lambda: "0 parked" in parked(up), what="delivery of the parked response")


def parked(up: Running) -> str:
    from store.postgres.connecting import raw_connection  # noqa: PLC0415

    with raw_connection(read_connection(up.run_dir)["database_url"]) as connection:
        waiting = connection.execute("SELECT count(*) FROM parked_responses").fetchone()
        stored = connection.execute(
            "SELECT count(*) FROM responses WHERE request_id = 'early'"
        ).fetchone()
    assert waiting is not None
    assert stored is not None
    return f"{waiting[0]} parked" if stored[0] else "not stored"


def test_rollback_over_cli_and_http_holds(up: Running) -> None:
    for go_back in (
        lambda: up.cli("state", "rollback", "1"),
        lambda: up.http("POST", "/v1/state/rollback", {"version": 1}),
    ):
        before = up.http("GET", "/v1/state")[1]["active"]["version"]
        status, said = go_back()
        assert status in {0, 200}, said
        until(
            lambda v=before: up.http("GET", "/v1/state")[1]["serving_version"] > v,  # type: ignore[misc]
            what="newer state",
        )
        assert up.http("GET", "/v1/policy")[1]["settings"]["hold"] is True
    status, said = up.cli("state", "rollback", "999999")
    assert (status, said) == (2, "steersman: there is no state 999999\n")


def test_observing_shows_what_is_missing_and_serves_the_reference(up: Running) -> None:
    status, said = up.cli("policy", "set", "mode=observe", "hold=false")
    assert status == 0, said
    body = {"request_id": "watched", "prompt": f"oven and sauce {WHISPER}"}
    decided = up.http("POST", "/v1/routing/decision", body)[1]
    assert (decided["expert"], decided["reason"]) == ("strong", "observed")
    assert (decided["would_serve"], decided["would_reason"]) == ("strong", "safe_cold")
    shown = up.http("GET", "/v1/state")[1]
    assert shown["mode"] == "observe"
    assert shown["waiting"]["need"] == 400
    said = up.cli("state", "show")[1]
    assert "mode observe: the reference serves everything but pins" in said
    assert "of 400 sampled prompts, serving the reference" in said
    status, said = up.cli("observe")
    assert status == 0, said
    assert said.startswith("Is it safe to turn it on?")
    assert "Not yet: nothing has been learnt" in said
    found = json.loads(up.cli("observe", "--format", "json")[1])
    assert (found["observation"]["mode"], found["observation"]["outlooks"]) == ("observe", [])
    assert WHISPER not in said + json.dumps(found)
    assert up.cli("policy", "set", "mode=apply")[0] == 0


def test_the_report_tells_of_this_period_and_of_no_prompt(up: Running, tmp_path: Path) -> None:
    status, said = up.cli("report")
    assert status == 0, said
    assert said.startswith("Risk report, ")
    assert "Left out: " in said, "requests of the test before were observed"
    assert WHISPER not in said
    path = tmp_path / "risk.html"
    assert up.cli("report", "--format", "html", "--output", str(path))[0] == 0
    assert WHISPER not in path.read_text()
    assert "<svg" in path.read_text()
    assert json.loads(up.cli("report", "--format", "json")[1])["kind"] == "steersman.risk_report"
    assert (
        "nothing was decided from 2020-01-01"
        in up.cli("report", "--from", "2020-01-01", "--to", "2020-01-02")[1]
    )
    assert up.cli("report", "--from", "2020-01-02", "--to", "2020-01-01")[0] == 2


def test_a_second_up_is_refused(up: Running) -> None:
    settings = ProcessSettings(run_dir=up.run_dir)
    with pytest.raises(SettingsInvalid, match="runs in"):
        open_backbone(settings, embedded=True).__enter__()
    assert up.http("GET", "/ready")[0] == 200


def test_a_kill_loses_nothing_that_was_acknowledged(up: Running) -> None:
    body = {"request_id": "kept", "prompt": f"onion {WHISPER}"}
    status, decided = up.http("POST", "/v1/routing/decision", body)
    assert status == 200
    version = up.http("GET", "/v1/state")[1]["active"]["version"]
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    up.start()
    until(lambda: up.http("GET", "/ready")[0] == 200, what="readiness")
    assert up.http("GET", "/v1/state")[1]["serving_version"] >= version
    assert up.http("GET", "/v1/decisions/kept")[1] == decided
    assert up.http("POST", "/v1/routing/decision", body)[1] == decided


def test_a_stop_leaves_nothing_behind_and_no_secret_in_the_log(up: Running) -> None:
    assert up.server_processes()
    assert up.end(signal.SIGTERM) == 0
    until(lambda: not up.server_processes(), what="end of the servers")
    assert not (up.run_dir / CONNECTION_FILE).exists()
    log = up.log.read_text()
    assert "up.ready" in log
    for secret in (WHISPER, up.key, "court and clause", "a text that"):
        assert secret not in log
    status, said = up.cli("policy", "show")
    assert status == 2
    assert "start `steersman up`" in said
