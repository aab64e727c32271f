"""Whatever is sent: no 5xx, and every error in the one shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.integration.http_harness import Api, error_of

ENDPOINTS = [
    ("POST", "/v1/routing/decision"),
    ("POST", "/v1/feedback"),
    ("POST", "/v1/experts"),
    ("PATCH", "/v1/experts/cheap"),
    ("PATCH", "/v1/policy"),
    ("POST", "/v1/state/rollback"),
]
KNOWN = [
    "request_id", "prompt", "messages", "tenant", "allowed_experts", "expert", "schema", "version",
    "rating", "source", "comment", "name", "price", "client", "kind", "status", "alpha", "hold",
    "input_usd_per_mtok", "base_url", "model", "role", "content", "created_at", "reference",
    "judge",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(st.characters(), max_size=20),  # surrogates and NUL too
    st.sampled_from(["recorded", "openai", "cheap", "strong", "paused", "1e999", "nan", "r1"]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.integers(10**300, 10**301), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KNOWN), TEXTS), inner, max_size=4),
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.one_of(st.sampled_from(KNOWN), TEXTS), VALUES, max_size=8)
BODIES = st.one_of(
    OBJECTS.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value).encode()),
    OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace")),
    st.binary(max_size=60),
)
HEADERS = st.dictionaries(
    st.sampled_from(["idempotency-key", "content-type", "content-encoding", "x-other"]),
    st.one_of(
        st.sampled_from(["application/json", "text/plain", "gzip", "k1"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=300),
    ).map(lambda text: text.encode("latin-1")),
    max_size=3,
)
PATHS = st.one_of(st.binary(max_size=12).map(quote), st.text("abc/%0F.?&=1", max_size=12))


@dataclass(frozen=True)
class Running:
    """A client and the key it uses."""

    client: TestClient
    admin: dict[str, str]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    api = Api()
    with api.client() as client:
        yield Running(client, api.keys["admin"])


def check(reply: Any) -> None:
    """Hold a reply to the promise."""
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        error = error_of(reply, reply.status_code)
        assert error["code"]
        assert error["message"]


def test_any_body_gets_an_answer(running: Running) -> None:
    sent = 0

    @given(endpoint=st.sampled_from(ENDPOINTS), body=BODIES, headers=HEADERS)
    @settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
    def ask(endpoint: tuple[str, str], body: bytes, headers: dict[str, bytes]) -> None:
        nonlocal sent
        usual: Any = {"content-type": b"application/json", "idempotency-key": b"k"} | headers
        key: Any = {name: value.encode() for name, value in running.admin.items()}
        check(running.client.request(*endpoint, content=body, headers=usual | key))
        sent += 1

    ask()
    assert sent >= 600


def test_any_path_gets_an_answer(running: Running) -> None:
    sent = 0

    @given(
        method=st.sampled_from(["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE"]),
        prefix=st.sampled_from(
            ["/", "/v1/decisions/", "/v1/experts/", "/v1/alerts?limit=", "/v1/state?"]
        ),
        rest=PATHS,
    )
    @settings(max_examples=300)
    def ask(method: str, prefix: str, rest: str) -> None:
        nonlocal sent
        url = "http://localhost" + prefix + rest
        check(running.client.request(method, url, headers=running.admin))
        sent += 1

    ask()
    assert sent >= 300
