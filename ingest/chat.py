"""One text from chat messages, always the same for the same messages."""

from __future__ import annotations

from ingest.fields import Fields

MESSAGES = 2_000
PARTS = 2_000


def render(event: Fields, *, limit: int) -> str:
    """Return the messages of an OpenAI-style chat as one text.

    A lone user message is its bare content, so that the same question asked as ``prompt`` or as
    ``messages`` is the same prompt to everything that learns. Otherwise each message is
    ``role: content``, a blank line between them. Messages without content (tool calls) are left
    out. What is not text cannot be routed on and is refused (``unsupported_content``).
    """
    turns = [
        (message.identifier("role"), _content(message, limit=limit))
        for message in event.objects("messages", limit=MESSAGES)
    ]
    spoken = [(role, content) for role, content in turns if content]
    if len(turns) == 1 and turns[0][0] == "user":
        text = turns[0][1]
    else:
        text = "\n\n".join(f"{role}: {content}" for role, content in spoken)
    if not text.strip():
        raise event.refusal("empty_field", "messages", "must hold some text")
    return text


def _content(message: Fields, *, limit: int) -> str:
    if not message.has("content"):
        return ""
    if isinstance(message.raw("content"), str):
        return message.text("content", limit=limit, code="prompt_too_long")
    parts = message.objects("content", limit=PARTS)
    return "\n".join(_part(part, limit=limit) for part in parts)


def _part(part: Fields, *, limit: int) -> str:
    if part.identifier("type") != "text":
        raise part.refusal("unsupported_content", "type", "must be text")
    return part.text("text", limit=limit, code="prompt_too_long")
