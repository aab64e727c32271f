"""How a connection to Kafka is made, and what is said when there is none; imports no client."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ingest.topics import KafkaSettings
from store.errors import BrokerUnavailable, SettingsInvalid

DIRECT = "direct"
CONNECTIONS = "kafka.net.manager"
"""The logger to which the library tells why an attempt failed; its exception is a time-out."""
REASON_CHARACTERS = 200


class ForgottenSocket(socket.socket):
    """Closes itself when it is collected, without a warning.

    The library forgets a socket that could not connect, and one whose last bytes were still to
    be written when its client was closed: Python would warn (``ResourceWarning``) each time.
    """

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be made
            self.close()


class ForgottenTlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be made
            self.close()


class Reasons(logging.Handler):
    """Remembers why attempts to connect failed: for each kind of error the last one.

    Nothing is sent before there is a connection, so that no such error can quote a prompt.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        is_attempt = record.levelno == logging.WARNING  # at ERROR it adds that time is up
        for fact in record.args if is_attempt and isinstance(record.args, tuple) else ():
            if isinstance(fact, Exception):
                self._said[type(fact).__name__] = str(fact)[:REASON_CHARACTERS]

    def __str__(self) -> str:
        return "; ".join(self._said.values()) or "no answer"


@contextmanager
def reasons() -> Iterator[Reasons]:
    """Yield the reasons for which attempts of the block fail."""
    noted = Reasons()
    logger = logging.getLogger(CONNECTIONS)
    logger.addHandler(noted)
    try:
        yield noted
    finally:
        logger.removeHandler(noted)


def no_connection(settings: KafkaSettings, why: Reasons) -> BrokerUnavailable:
    """Return what to tell a person when no attempt to connect succeeded."""
    return BrokerUnavailable(
        f"no connection to {settings.bootstrap_servers} over {settings.security_protocol} within"
        f" {settings.timeout_s:g} s ({why}): check that the broker listens there,"
        " STEERSMAN_KAFKA_SECURITY_PROTOCOL, and the user, password and certificates of"
        " STEERSMAN_KAFKA_SASL_* and _TLS_*"
    )


def options_of(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every kind of client is told."""
    timeout_ms = int(settings.timeout_s * 1000)
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": "steersman",
        "bootstrap_timeout_ms": timeout_ms,
        "request_timeout_ms": timeout_ms,
        "reconnect_backoff_max_ms": 1_000,
        "proxy_url": f"{DIRECT}://",
        "security_protocol": settings.security_protocol,
    }
    if settings.sasl_mechanism:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls(settings)
    return options


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        if settings.tls_certificate_file is not None:
            context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file)
    except OSError as problem:  # ssl.SSLError is one
        raise SettingsInvalid(
            f"STEERSMAN_KAFKA_TLS_CA_FILE, _CERTIFICATE_FILE or _KEY_FILE cannot be used: {problem}"
        ) from problem
    context.sslsocket_class = ForgottenTlsSocket
    return context
