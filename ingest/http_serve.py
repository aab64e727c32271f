"""Running the application under uvicorn until a stop event is set."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from ingest.settings import HttpSettings
from store.errors import SettingsInvalid

log = logging.getLogger(__name__)

BACKLOG = 2_048
GRACE_S = 10
"""Seconds that requests in flight get to finish."""


class _Server(uvicorn.Server):
    """Ends when the event is set; signals belong to the process, which sets it."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listen(settings: HttpSettings) -> socket.socket:
    """Return a listening socket; with port 0 its name says which port it got.

    Raises
    ------
    SettingsInvalid
        The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        sock = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as problem:
        raise SettingsInvalid(
            f"cannot listen on {settings.host} port {settings.port}: {problem.strerror}"
        ) from problem
    # asyncio would do this for sockets of its own; without it a reply, written as head and body,
    # waits 40 ms for the caller's delayed acknowledgement. Accepted sockets inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def url_from_here(listener: socket.socket) -> str:
    """Return where this machine reaches the listener, whichever addresses it listens on."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: FastAPI,
    settings: HttpSettings,
    stop: threading.Event,
    *,
    listener: socket.socket | None = None,
) -> None:
    """Serve until ``stop`` is set, then finish what is in flight; from any thread.

    Pass the ``listener`` of ``listen`` to know the port, or to fail before other roles start.
    """
    sock = listener or listen(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
    )
    host, port = sock.getsockname()[:2]
    log.info("http.listening", extra={"host": host, "port": port})
    with contextlib.closing(sock):
        _Server(config, stop).run(sockets=[sock])
    log.info("http.stopped", extra={"host": host, "port": port})
