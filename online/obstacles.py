"""Hard filters: which experts cannot serve a request, whatever they would score.

They come before any score and do not look at λ. C_λ(x) is what it was, less the experts that
cannot serve x: still nested in λ, and never larger, so ``worst_in_set`` (1 if some member is
unacceptable, promise.md section 2) can only fall. λ is calibrated with the same rule: where an
expert could not serve, it is no member (``recalibrate/window.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from online.costs import NOMINAL_OUTPUT_TOKENS, count_tokens
from online.state import RoutingState
from store.errors import EventRejected
from store.needs import Capabilities, Needs
from store.records import ExpertId, PromptReceived

HEADROOM = 1.25
"""A prompt is taken for a quarter longer than its rough count: the count is an estimate, and roles
and tool definitions come on top."""
BYTES_PER_TOKEN = 4
"""Beyond Latin scripts a character is about a token, and three bytes: bytes estimate both."""


class Obstacle(StrEnum):
    """Why an expert cannot serve a request."""

    NOT_ALLOWED = "not_allowed"
    CONTEXT_WINDOW = "context_window"
    OUTPUT_LIMIT = "output_limit"
    TOOLS = "tools"
    JSON_MODE = "json_mode"
    REGION = "region"


def needs_of(prompt: PromptReceived) -> Needs:
    """Return everything a request needs: what the sender stated, and room for its prompt.

    A past request brings the room that it was decided with: its text may be erased since. No
    sender can state it.
    """
    size = len(prompt.text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN
    counted = math.ceil(HEADROOM * max(count_tokens(prompt.text), size))
    tokens = max(prompt.needs.input_tokens, counted)
    return replace(prompt.needs, allowed=prompt.allowed_experts, input_tokens=tokens)


def obstacle(needs: Needs, expert: ExpertId, declared: Capabilities) -> Obstacle | None:
    """Return the first reason why an expert cannot serve, None when it can."""
    if needs.allowed is not None and expert not in needs.allowed:
        return Obstacle.NOT_ALLOWED
    return _inability(needs, declared)


def exclusions(needs: Needs, state: RoutingState) -> dict[ExpertId, str]:
    """Return the experts of the pool that cannot serve a request, each with its reason."""
    # Without stated needs only declared limits can stand in the way: most pools have few.
    pool = state.pool if needs.is_stated else state.limited
    found = ((m.name, obstacle(needs, m.name, m.capabilities)) for m in pool)
    return {name: reason.value for name, reason in found if reason is not None}


def check_reference(needs: Needs, state: RoutingState, excluded: Mapping[ExpertId, str]) -> None:
    """Raise ``EventRejected`` if the reference cannot serve.

    It is the safe fallback and the yardstick: without it nothing can be promised, nor judged.
    """
    reference = state.reference
    reason = excluded.get(reference.name)
    if reason == Obstacle.NOT_ALLOWED:
        raise EventRejected(
            "reference_not_allowed",
            f"allowed_experts must contain the reference {reference.name!r}: it is the safe"
            " fallback; pin an expert to do without it",
            field="allowed_experts",
        )
    if reason is not None:
        problem, field = _explained(Obstacle(reason), needs, reference.capabilities)
        raise EventRejected(
            "reference_cannot_serve",
            f"the reference {reference.name!r} {problem}; it is the safe fallback. Pin an expert"
            " that can, ask for less, or declare what the reference can do",
            field=field,
        )


def check_pin(expert: ExpertId, needs: Needs, declared: Capabilities) -> None:
    """Raise ``EventRejected`` if a pinned expert cannot serve: pins outrank learning, not this."""
    if (reason := _inability(needs, declared)) is not None:
        problem, _ = _explained(reason, needs, declared)
        raise EventRejected(
            "expert_cannot_serve",
            f"the pinned expert {expert!r} {problem}; pin another, ask for less, or declare what"
            " it can do",
            field="expert",
        )


def _inability(needs: Needs, declared: Capabilities) -> Obstacle | None:
    if declared.context_tokens is not None and _room(needs) > declared.context_tokens:
        return Obstacle.CONTEXT_WINDOW
    limit = declared.max_output_tokens
    if limit is not None and needs.output_tokens is not None and needs.output_tokens > limit:
        return Obstacle.OUTPUT_LIMIT
    if needs.tools and not declared.tools:
        return Obstacle.TOOLS
    if needs.json_mode and not declared.json_mode:
        return Obstacle.JSON_MODE
    if needs.regions is not None and not _stays_within(declared.regions, needs.regions):
        return Obstacle.REGION
    return None


def _room(needs: Needs) -> int:
    """Return the tokens of prompt and answer; an answer nobody sized has the nominal length."""
    answer = NOMINAL_OUTPUT_TOKENS if needs.output_tokens is None else needs.output_tokens
    return needs.input_tokens + int(answer)


def _stays_within(regions: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Return whether every region where the prompt may end up is allowed."""
    return bool(regions) and set(regions) <= set(allowed)


def _explained(reason: Obstacle, needs: Needs, declared: Capabilities) -> tuple[str, str]:
    """Return what stands in the way in words, and the field of the event that asks for it."""
    match reason:
        case Obstacle.CONTEXT_WINDOW:
            return (
                f"has a window of {declared.context_tokens} tokens; prompt and answer take about"
                f" {_room(needs)} (estimated, with headroom)",
                "prompt",
            )
        case Obstacle.OUTPUT_LIMIT:
            return (
                f"writes at most {declared.max_output_tokens} tokens, {needs.output_tokens} are"
                " needed",
                "needs.output_tokens",
            )
        case Obstacle.REGION:
            where = ", ".join(declared.regions) or "no region that it declares"
            return f"may process a prompt in {where}", "needs.regions"
        case _:
            return f"does not declare {reason}", f"needs.{reason}"
