"""What counts as an answer to a question of ``steersman init``.

Each check returns the answer, or raises ValueError or a SteersmanError with a message for whoever
answered.
"""

from __future__ import annotations

import math
import os
import re
from urllib.parse import urlsplit

from ingest.fields import Fields
from ingest.topics import KafkaSettings
from store.addresses import is_http_url
from store.errors import EventRejected
from store.policy import PolicySettings
from store.records import ExpertId

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_POSTGRES = re.compile(r"postgresql(\+psycopg)?://\S+")
_BROKERS = re.compile(r"[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*")


def check_name(text: str) -> str:
    """Return an expert's name."""
    try:
        return Fields({"name": text}).identifier("name")
    except EventRejected as refused:
        raise ValueError(refused.message) from None


def check_url(text: str) -> str:
    """Return the base URL of an endpoint."""
    text = text.rstrip("/")
    if not is_http_url(text):
        raise ValueError("must begin with http:// or https:// and name a host")
    if urlsplit(text).username is not None:
        raise ValueError("must hold no user or password: it is stored; name a key variable instead")
    if text.endswith("/chat/completions"):
        raise ValueError("must end before /chat/completions, as a rule with /v1")
    return text


def check_model(text: str) -> str:
    """Return a model name."""
    if not text.strip() or any(not letter.isprintable() for letter in text):
        raise ValueError("must be the model's name at that endpoint")
    return text.strip()


def check_key_variable(text: str) -> str:
    """Return the name of a key's variable. What might be a key is refused and not repeated."""
    if text and text not in os.environ and not _VARIABLE.fullmatch(text):
        raise ValueError("must name a variable, such as LLM_KEY (capitals, digits, _): not the key")
    if text.startswith("STEERSMAN_"):
        raise ValueError("must not begin with STEERSMAN_: such names are settings")
    return text


def check_number(text: str) -> float:
    """Return an amount of USD."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number, such as 0.15") from None
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError("must be finite and not negative")
    return number


def check_policy(name: str, text: str) -> object:
    """Return a policy setting's value."""
    changed = PolicySettings(reference=ExpertId("nobody")).changed({name: text})
    if name == "label_rate" and changed.label_rate == 0.0:
        raise ValueError("label_rate must be above 0: without labels the reference serves all")
    value: object = getattr(changed, name)
    return value


def check_traffic(text: str) -> int:
    """Return a number of requests a day."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10**12:
        raise ValueError("must be a whole number, at least 1")
    return int(text)


def check_database(text: str) -> str:
    """Return a PostgreSQL URL, or nothing."""
    if text and not _POSTGRES.fullmatch(text):
        raise ValueError("must read postgresql://USER@HOST/DATABASE")
    return text


def check_brokers(text: str) -> str:
    """Return Kafka's addresses, or nothing."""
    text = text.replace(" ", "")
    if text and not _BROKERS.fullmatch(text):
        raise ValueError("must read HOST:PORT, several separated by commas")
    return KafkaSettings(bootstrap_servers=text).bootstrap_servers
