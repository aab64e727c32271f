"""What a call is expected to cost (design.md section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple

from store.errors import EventRejected
from store.records import Price

NOMINAL_INPUT_TOKENS = 200
NOMINAL_OUTPUT_TOKENS = 256.0
"""Assumed until an expert's own answers have been counted."""
FRAME_TOKENS = 32
"""More than any chat format adds to a message."""
MAX_OUTPUT_TOKENS = 2_048
"""Of an expert's answer that the router asks for itself."""
TRIES = 3
"""Of one call, at most; each may be billed if its end cannot be read."""


def check_price(price: Price) -> Price:
    """Return the price, or raise ``EventRejected``: CSCR's code let unknown experts be free, and
    free experts took 95 % of the traffic (algorithms.md 6.2, item 7).
    """
    parts = astuple(price)
    if any(not math.isfinite(part) or part < 0.0 for part in parts) or sum(parts) <= 0.0:
        raise EventRejected(
            "bad_price",
            "a price needs at least one positive part and no negative, NaN or infinite one; "
            "declare a nominal price for a local model",
            field="price",
        )
    return price


def expected_cost(
    price: Price, *, input_tokens: int, mean_output_tokens: float = NOMINAL_OUTPUT_TOKENS
) -> float:
    """Return the expected USD of one call."""
    tokens = (
        input_tokens * price.input_usd_per_mtok + mean_output_tokens * price.output_usd_per_mtok
    )
    return price.request_usd + tokens / 1e6


def most_cost(price: Price, texts: Sequence[str], *, max_tokens: int) -> float:
    """Return the USD of one try whose every byte is a token and that uses all its room.

    No tokenizer that works on bytes makes more of a text.
    """
    tokens = sum(len(text.encode(errors="surrogatepass")) + FRAME_TOKENS for text in texts)
    return expected_cost(price, input_tokens=tokens, mean_output_tokens=max_tokens)


def count_tokens(text: str) -> int:
    """Return a rough token count: four characters a token, at least one."""
    return max(1, len(text) // 4)
