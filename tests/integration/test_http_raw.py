"""Bytes that are no proper HTTP: refused or hung up on, and the next request is answered."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ingest.http_serve import listen, serve
from ingest.settings import HttpSettings
from tests.integration.http_harness import Api

HEAD = b"POST /v1/routing/decision HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PATIENCE_S = 10.0
ASKED = {
    "negative length": HEAD + b"Content-Length: -5\r\n\r\n{}",
    "length that is no number": HEAD + b"Content-Length: ten\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk of no size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "endless chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    "coding of nobody": HEAD + b"Transfer-Encoding: rot13\r\n\r\n{}",
    "no request line": b"\r\n\r\n\r\n\x00\x01\x02\r\n\r\n",
    "half a request line": b"POST\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "path that is none": b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without a name": b"GET /health HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "header without a colon": b"GET /health HTTP/1.1\r\nHost x\r\n\r\n",
    "header of a megabyte": HEAD + b"X-Long: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "100,000 headers": HEAD + b"X: y\r\n" * 100_000 + b"\r\n",
    "path of a megabyte": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c403035f") + b"\x00" * 188,
}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    settings, stop = HttpSettings(port=0), threading.Event()
    listener = listen(settings)
    where = listener.getsockname()[:2]
    app = Api(settings=settings).app()
    server = threading.Thread(
        target=serve, args=(app, settings, stop), kwargs={"listener": listener}
    )
    server.start()
    yield where
    stop.set()
    server.join(PATIENCE_S)
    assert not server.is_alive()


def said(connection: socket.socket) -> bytes:
    """Read until the other side hangs up; a time-out is a failure."""
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            found += part
    return found


FUTURE = b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n"


def is_well(address: tuple[str, int]) -> None:
    with socket.create_connection(address, PATIENCE_S) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said(connection).startswith(b"HTTP/1.1 200 ")


def answered(address: tuple[str, int], sent: bytes) -> bytes:
    """Send what may be no HTTP; return what comes back until the other side hangs up."""
    with socket.create_connection(address, PATIENCE_S) as connection:
        with suppress(ConnectionError):  # it need not read all of it
            connection.sendall(sent)
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError as gone:
            if gone.errno != errno.ENOTCONN:  # it hung up already
                raise
        return said(connection)


@pytest.mark.parametrize("sent", ASKED.values(), ids=ASKED)
def test_what_is_not_http_is_refused_or_hung_up_on(address: tuple[str, int], sent: bytes) -> None:
    answer = answered(address, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:300]
    is_well(address)


def test_a_version_of_the_future_is_answered_in_todays_or_hung_up_on(
    address: tuple[str, int],
) -> None:
    """A server may answer in the highest version that it speaks (RFC 9110, section 2.5)."""
    answer = answered(address, FUTURE)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:300]
    is_well(address)


def test_bodies_that_never_come_keep_nobody_waiting(address: tuple[str, int]) -> None:
    slow = [socket.create_connection(address, PATIENCE_S) for _ in range(100)]
    for connection in slow:
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n{")
    is_well(address)
    for connection in slow:
        connection.close()
    is_well(address)
