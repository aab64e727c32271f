"""Addresses of HTTP endpoints, as people write them."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_http_url(text: str) -> bool:
    """Return whether a text is an address that an HTTP client could call."""
    try:
        parts = urlsplit(text)
        named = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    is_clean = text.isprintable() and " " not in text
    return named and is_clean and parts.scheme in {"http", "https"}
