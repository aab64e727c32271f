"""HTTP over the real handler and PostgreSQL, asked what its own document allows, and worse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from ingest.memory_stream import MemoryBroker, MemorySink
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from tests.integration.fuzzed_router import FuzzedRouter, drawn
from tests.integration.http_harness import client_of
from tests.integration.test_http_fuzz import BODIES, ENDPOINTS, HEADERS, check

pytestmark = pytest.mark.postgres

BY_DOCUMENT, BODIES_SENT = 120, 2_000
"""Requests for each operation of the document; bodies of any kind for the changing ones."""


@pytest.fixture(scope="module")
def router(postgres_server: EmbeddedPostgres) -> Iterator[FuzzedRouter]:
    with raw_connection(postgres_server.url()) as admin:
        admin.execute("CREATE DATABASE fuzzed TEMPLATE steersman_template STRATEGY file_copy")
    ledger = PostgresLedger(postgres_server.url("fuzzed"))
    yield FuzzedRouter(ledger, MemorySink(MemoryBroker()))
    ledger.close()


@pytest.fixture(scope="module")
def client(router: FuzzedRouter) -> Iterator[TestClient]:
    with client_of(router.app()) as client:
        yield client


def test_what_the_document_describes_gets_an_answer_it_describes(
    router: FuzzedRouter, client: TestClient
) -> None:
    sent = 0
    document = client.get("/openapi.json").json()
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        described = document["paths"][operation.path][operation.method]["responses"]
        for case in drawn(operation.as_strategy(), BY_DOCUMENT):
            asked = case.as_transport_kwargs(base_url="http://localhost")
            reply = client.request(
                asked["method"],
                asked["url"],
                params=asked.get("params"),
                headers=dict(asked.get("headers") or {}) | router.admin,
                json=asked.get("json"),
                content=asked.get("data"),
            )
            check(reply)
            assert str(reply.status_code) in described, (operation.label, reply.text)
            sent += 1
    assert sent >= 9 * BY_DOCUMENT  # the rest has no parameters: one request is all there is


def test_any_body_gets_an_answer_over_postgresql(router: FuzzedRouter, client: TestClient) -> None:
    requests = drawn(st.tuples(st.sampled_from(ENDPOINTS), BODIES, HEADERS), BODIES_SENT)
    key: Any = {name: value.encode() for name, value in router.admin.items()}
    for endpoint, body, headers in requests:
        usual: Any = {"content-type": b"application/json", "idempotency-key": b"k"}
        check(client.request(*endpoint, content=body, headers=usual | headers | key))
    assert len(requests) == BODIES_SENT
