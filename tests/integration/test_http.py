"""The HTTP interface, as its callers meet it."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from ingest.http_serve import listen, serve
from ingest.logs import JsonFormatter
from ingest.settings import HttpSettings
from store.errors import SettingsInvalid, StoreUnavailable
from store.records import RequestId
from tests.integration.http_harness import EXPERT, WHISPERED, Api, error_of


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def client(api: Api) -> Iterator[TestClient]:
    with api.client() as running:
        yield running


def decide(client: TestClient, request_id: str = "r1", prompt: str = "What is 2 + 2?") -> Any:
    body = {"request_id": request_id, "prompt": prompt}
    return client.post("/v1/routing/decision", json=body)


# Decisions


def test_a_decision_comes_as_a_document_and_in_short_as_headers(client: TestClient) -> None:
    reply = decide(client)

    assert reply.status_code == 200
    assert reply.json()["schema"] == "steersman.decision"
    assert reply.json()["expert"] == "cheap"
    assert reply.headers["x-steersman-decision-id"] == "r1"
    assert reply.headers["x-steersman-expert"] == "cheap"
    assert reply.headers["x-steersman-reason"] == "routed"
    assert float(reply.headers["x-steersman-lambda"]) == reply.json()["threshold"]
    assert int(reply.headers["x-steersman-state-version"]) == reply.json()["state_version"]
    assert float(reply.headers["x-steersman-overhead-ms"]) >= 0.0


def test_a_missing_request_id_is_made_and_the_decision_found_under_it(client: TestClient) -> None:
    made = client.post("/v1/routing/decision", json={"prompt": "hello"}).json()

    assert uuid.UUID(made["request_id"]).version == 4
    assert client.get(f"/v1/decisions/{made['request_id']}").json() == made


def test_the_same_prompt_again_gets_the_stored_decision(client: TestClient) -> None:
    assert decide(client).json() == decide(client).json()


def test_the_same_id_with_another_prompt_is_a_conflict(client: TestClient) -> None:
    decide(client)

    error = error_of(decide(client, prompt="Something else"), 409)

    assert (error["code"], error["request_id"]) == ("request_conflict", "r1")


def test_an_id_of_any_text_travels_in_path_and_header(client: TestClient) -> None:
    reply = decide(client, "Ödön/ 1%?#")

    assert reply.headers["x-steersman-decision-id"] == "%C3%96d%C3%B6n/ 1%25?#"
    found = client.get("/v1/decisions/%C3%96d%C3%B6n%2F%201%25%3F%23")
    assert found.json()["request_id"] == "Ödön/ 1%?#"


def test_a_check_is_kept_with_its_prompt_and_refused_by_field(api: Api, client: TestClient) -> None:
    check = {"kind": "numeric", "answer": "3.5 km", "tolerance": 0.01}
    body = {"request_id": "r1", "prompt": "How far?", "check": check}

    assert client.post("/v1/routing/decision", json=body).status_code == 200
    with api.ledger.begin() as tx:
        assert json.loads(tx.decisions.prompt_check(RequestId("r1")) or "") == check

    reply = client.post("/v1/routing/decision", json=body | {"check": {"kind": "magic"}})
    error = error_of(reply, 422)
    assert (error["code"], error["field"]) == ("unknown_value", "check.kind")


def test_messages_are_accepted_in_place_of_a_prompt(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}]}

    assert client.post("/v1/routing/decision", json=body).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "unreadable_json"),
        (b"", 400, "unreadable_json"),
        (b'{"prompt": "\xff"}', 400, "unreadable_json"),
        (b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "unreadable_json"),
        (b'{"prompt": "a", "x": ' + b"[" * 50 + b"]" * 50 + b"}", 400, "unreadable_json"),
        (b'{"prompt": "a", "x": NaN}', 400, "not_finite"),
        (b'{"prompt": "a", "x": 1e999}', 400, "not_finite"),
        (b"[]", 422, "wrong_type"),
        (b'{"prompt": 3}', 422, "wrong_type"),
        (b"{}", 422, "missing_field"),
        (b'{"prompt": "a\\u0000"}', 422, "control_character"),
        (b'{"prompt": "a", "request_id": "\\u0000"}', 422, "control_character"),
        (b'{"prompt": "a", "request_id": "\\ud800"}', 422, "lone_surrogate"),
        (b'{"prompt": "a", "request_id": ""}', 422, "empty_field"),
        (b'{"prompt": "a", "schema": "steersman.label"}', 422, "unknown_schema"),
        (b'{"prompt": "' + b"a" * 65_537 + b'"}', 413, "prompt_too_long"),
        (b'{"prompt": "' + b"a" * 600_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_decided_is_refused_with_its_reason(
    content: bytes, status: int, code: str, client: TestClient
) -> None:
    json_type = {"content-type": "application/json; charset=utf-8"}
    reply = client.post("/v1/routing/decision", content=content, headers=json_type)

    assert error_of(reply, status)["code"] == code


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_another_content_type_is_refused(headers: dict[str, str], client: TestClient) -> None:
    reply = client.post("/v1/routing/decision", content=b'{"prompt": "a"}', headers=headers)

    assert error_of(reply, 415)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("path", ["/v1/decisions/%00", "/v1/decisions/" + "x" * 300])
def test_an_impossible_id_in_a_path_is_refused(path: str, client: TestClient) -> None:
    error_of(client.get(path), 422)


# Feedback


def test_feedback_is_stored_once_per_key(client: TestClient) -> None:
    decide(client)
    body = {"request_id": "r1", "rating": 1}
    first, again = (
        client.post("/v1/feedback", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)
    )

    assert (first.status_code, first.json()["repeated"]) == (201, False)
    assert (again.status_code, again.json()["repeated"]) == (200, True)


def test_a_source_that_says_too_much_is_told_when_to_go_on() -> None:
    api = Api(settings=HttpSettings(feedback_per_minute=2))
    with api.client() as client:
        decide(client)
        body = {"request_id": "r1", "rating": 1, "source": "bot"}
        said = [
            client.post("/v1/feedback", json=body, headers={"Idempotency-Key": f"k{n}"})
            for n in range(3)
        ]
        other = client.post(
            "/v1/feedback", json=body | {"source": "app"}, headers={"Idempotency-Key": "k3"}
        )
        api.clock.advance(30)
        later = client.post("/v1/feedback", json=body, headers={"Idempotency-Key": "k2"})

    assert [reply.status_code for reply in said] == [201, 201, 429]
    assert error_of(said[2], 429)["code"] == "too_much_feedback"
    assert said[2].headers["retry-after"] == "30"
    assert (other.status_code, later.status_code) == (201, 201)


def test_feedback_needs_a_key_a_request_and_a_rating(client: TestClient) -> None:
    body = {"request_id": "unknown", "rating": 0.5}
    key = {"Idempotency-Key": "k1"}

    missing = error_of(client.post("/v1/feedback", json=body), 422)
    unknown = error_of(client.post("/v1/feedback", json=body, headers=key), 404)
    rating = client.post("/v1/feedback", json={"request_id": "r1", "rating": 7}, headers=key)

    assert (missing["code"], missing["field"]) == ("missing_field", "idempotency-key")
    assert unknown["code"] == "unknown_request"
    assert error_of(rating, 422)["field"] == "rating"
    assert "steersman_feedback_unattributed_total 1.0" in client.get("/metrics").text


# Keys


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/experts"),
        ("PATCH", "/v1/experts/cheap"),
        ("PATCH", "/v1/policy"),
        ("POST", "/v1/state/rollback"),
    ],
)
def test_a_change_needs_an_admin_key_even_on_loopback(
    method: str, path: str, api: Api, client: TestClient
) -> None:
    bodies = {"/v1/experts": EXPERT, "/v1/experts/cheap": {"status": "paused"}}
    body = bodies.get(path, {"alpha": 0.1} if path == "/v1/policy" else {"version": 1})

    nobody = client.request(method, path, json=body)
    router = client.request(method, path, json=body, headers=api.keys["route"])

    assert error_of(nobody, 401)["code"] == "missing_key"
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert error_of(router, 403)["code"] == "missing_scope"


ELSEWHERE = [
    {"X-Forwarded-For": "192.0.2.7"},
    {"X-Forwarded-Proto": "https"},
    {"X-Real-IP": "192.0.2.7"},
    {"Forwarded": "for=192.0.2.7"},
    {"Via": "1.1 proxy"},
    {"Host": "rebound.example:8080"},
    {"Host": "localhost.rebound.example"},
    {"Host": "127.0.0.1@rebound.example"},
    {"Host": "[::1].rebound.example"},
    {"Host": ""},
]


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_on_loopback_a_proxied_or_rebound_request_needs_a_key(
    headers: dict[str, str], api: Api, client: TestClient
) -> None:
    prompt = {"prompt": "hello"}
    refused = client.post("/v1/routing/decision", json=prompt, headers=headers)
    assert error_of(refused, 401)["code"] == "missing_key"
    assert refused.headers["www-authenticate"] == "Bearer"
    word = {"request_id": "r1", "rating": 1}
    said = client.post("/v1/feedback", json=word, headers=headers | {"Idempotency-Key": "k"})
    assert error_of(said, 401)
    for path in (
        "/v1/decisions/r1",
        "/v1/experts",
        "/v1/experts/strong",
        "/v1/judges",
        "/v1/policy",
        "/v1/state",
        "/v1/alerts",
    ):
        assert error_of(client.get(path, headers=headers), 401)
        assert client.get(path, headers=headers | api.keys["route"]).status_code == 403
    with_key = headers | api.keys["route"]
    assert client.post("/v1/routing/decision", json=prompt, headers=with_key).status_code == 200
    assert client.get("/health", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"])
def test_on_loopback_this_machine_needs_no_key(host: str, client: TestClient) -> None:
    assert client.get("/v1/experts", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("listens", "host"), [("127.0.0.2", "127.0.0.2:80"), ("::1", "[::1]")])
def test_the_configured_loopback_address_needs_no_key(listens: str, host: str) -> None:
    with Api(settings=HttpSettings(host=listens)).client() as client:
        assert client.get("/v1/experts", headers={"Host": host}).status_code == 200


def test_on_an_exposed_address_everything_but_probes_needs_a_key() -> None:
    api = Api(settings=HttpSettings(host="192.0.2.1"))
    prompt = {"prompt": "hello"}
    with api.client() as client:
        assert error_of(client.post("/v1/routing/decision", json=prompt), 401)
        assert error_of(client.get("/v1/experts"), 401)
        assert error_of(client.get("/v1/experts", headers=api.keys["route"]), 403)
        for key in ("route", "admin"):
            decided = client.post("/v1/routing/decision", json=prompt, headers=api.keys[key])
            assert decided.status_code == 200
        assert client.get("/v1/experts", headers=api.keys["read"]).status_code == 200
        for path in ("/health", "/ready", "/metrics", "/openapi.json"):
            assert client.get(path).status_code == 200


# The process


def test_ready_waits_for_a_state(api: Api, client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "alive", "replica": "r-1"}
    assert client.get("/ready").json() == {"status": "ready", "state_version": 1}

    api.live.loaded = 0

    waiting = client.get("/ready")
    assert error_of(waiting, 503)["code"] == "no_state"
    assert waiting.headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200


def test_routes_and_methods_that_do_not_exist_answer_in_the_one_shape(client: TestClient) -> None:
    assert error_of(client.get("/nowhere"), 404)["code"] == "no_route"
    assert error_of(client.get("/v1/feedback"), 405)["code"] == "method_not_allowed"
    not_allowed = client.delete("/v1/policy")
    assert error_of(not_allowed, 405)["code"] == "method_not_allowed"
    assert "allow" in not_allowed.headers


def test_without_the_ledger_callers_are_told_to_come_back(api: Api, client: TestClient) -> None:
    api.ledger.is_away = True

    replies = [decide(client), client.get("/v1/experts"), client.get("/v1/decisions/r1")]

    for reply in replies:
        error = error_of(reply, 503)
        assert error["code"] == "store_unavailable"
        assert "db.internal" not in error["message"]
        assert int(reply.headers["retry-after"]) >= 1
    assert client.get("/metrics").status_code == 200


def test_metrics_show_the_ledger_and_the_refusals(client: TestClient) -> None:
    client.get("/nowhere")

    text = client.get("/metrics").text

    assert "steersman_lambda 0.5" in text
    assert "steersman_state_version 1.0" in text
    assert 'steersman_events_rejected_total{code="no_route",source="http"} 1.0' in text


@pytest.mark.parametrize(
    "cause", [RuntimeError(WHISPERED), StoreUnavailable("away"), KeyError(WHISPERED)]
)
def test_no_log_record_holds_a_prompt_or_a_key(
    cause: Exception, api: Api, client: TestClient
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    previous = root.level
    root.setLevel(logging.DEBUG)
    try:
        client.post("/v1/experts", json=EXPERT, headers=api.keys["admin"])
        decide(client, prompt=WHISPERED)
        client.post("/v1/routing/decision", content=WHISPERED, headers=api.keys["route"])
        api.handler.fails_with = cause
        failed = decide(client, request_id="r2", prompt=WHISPERED)
    finally:
        root.removeHandler(handler)
        root.setLevel(previous)

    logged = stream.getvalue()
    assert error_of(failed, 503 if isinstance(cause, StoreUnavailable) else 500)
    assert WHISPERED not in failed.text
    assert "expert.added" in logged
    assert isinstance(cause, StoreUnavailable) or "http.failed" in logged
    for secret in (WHISPERED, *api.secrets):
        assert secret not in logged


def test_the_document_describes_the_errors_of_every_route(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    shape = {"$ref": "#/components/schemas/ErrorDocument"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            replies = operation["responses"]
            assert "500" in replies, (method, path)
            for status in (status for status in replies if int(status) >= 400):
                assert replies[status]["content"]["application/json"]["schema"] == shape
    assert "HTTPValidationError" not in document["components"]["schemas"]
    decision = document["paths"]["/v1/routing/decision"]["post"]
    assert decision["requestBody"]["content"]["application/json"]["schema"]["required"] == []


# Serving


def test_uvicorn_serves_until_the_stop_event_is_set(api: Api) -> None:
    stop = threading.Event()
    settings = HttpSettings(port=0)
    listener = listen(settings)
    port = listener.getsockname()[1]
    thread = threading.Thread(
        target=serve, args=(api.app(), settings, stop), kwargs={"listener": listener}
    )
    thread.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            reply = client.post("/v1/routing/decision", json={"prompt": "hello"})
            refused = client.post("/v1/routing/decision", json={"prompt": ""})
        with pytest.raises(SettingsInvalid, match="cannot listen"):
            listen(HttpSettings(port=port))
    finally:
        stop.set()
        thread.join(20)

    assert (reply.status_code, refused.status_code) == (200, 422)
    assert not thread.is_alive()


def test_a_reply_does_not_wait_for_a_delayed_acknowledgement() -> None:
    with (
        listen(HttpSettings(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
