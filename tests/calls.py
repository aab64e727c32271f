"""HTTP calls of a router that runs as a process on this machine."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

PATIENCE_S = 60.0


def ask(url: str, body: object = None, *, key: str = "") -> Any:
    """Return the document of a GET, or of a POST if there is a body; raises unless it is 2xx.

    ``key`` is the caller's API key.
    """
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, headers)  # noqa: S310  our own loopback address
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310
        return json.load(reply)
