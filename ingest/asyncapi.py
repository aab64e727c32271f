"""The AsyncAPI description of the topics, made from the JSON Schemas of the wire format.

``python -m ingest.asyncapi docs/asyncapi.yaml`` writes it; a test says when it is out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ingest import wire
from ingest.topics import (
    ALERTS,
    DECISIONS,
    DEFAULT_PREFIX,
    FEEDBACK,
    LABELS,
    PROMPTS,
    RESPONSES,
    dead_letters_of,
)
from store.records import JsonObject

INBOUND = {PROMPTS: "prompt", RESPONSES: "response", FEEDBACK: "feedback"}
OUTBOUND = {DECISIONS: "decision", LABELS: "label", ALERTS: "alert"}
DEAD = "deadLetter"
TITLES = {
    PROMPTS: "Prompts that ask for a decision",
    RESPONSES: "Answers of experts to decided requests",
    FEEDBACK: "Words of users or services on answers",
    DECISIONS: "Which expert answers each request; a decision may come twice with one id",
    LABELS: "Judged answers; a label may come twice with one key",
    ALERTS: "What an on-call engineer should know",
}
HEADERS = {
    "reason": "Stable code of what is wrong.",
    "message": "The same for a person; quotes nothing of the event.",
    "field": "The offending field, if one can be named.",
    "source_topic": "Where the event was read.",
    "partition": "Its partition; absent for a response that was parked.",
    "offset": "Its offset; absent for a response that was parked.",
    "original_bytes": "Length of a value that had to be cut.",
    "replayed_from": "Set on an event that was replayed and failed again: its first dead letter.",
    "replayed": "Set on a note, which is no dead letter: partition:offset of the one replayed.",
}


def document() -> JsonObject:
    """Return the AsyncAPI 3.0 document."""
    channels: JsonObject = {}
    operations: JsonObject = {}
    for topic, kind in (INBOUND | OUTBOUND).items():
        channels[topic] = _channel(DEFAULT_PREFIX + topic, TITLES[topic], kind)
        action = "receive" if topic in INBOUND else "send"
        operations[f"{action}_{topic}"] = _operation(action, topic, kind)
    for topic in INBOUND:
        dead = f"{topic}_dlq"
        title = f"Events of {DEFAULT_PREFIX}{topic} that cannot be used, bytes unchanged"
        channels[dead] = _channel(dead_letters_of(DEFAULT_PREFIX + topic), title, DEAD)
        operations[f"send_{dead}"] = _operation("send", dead, DEAD)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Steersman events",
            "version": f"{wire.VERSION}.0.0",
            "description": "Messages are keyed by request_id. Readers accept unknown fields and "
            "refuse unknown versions. Delivery is at least once.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages()},
    }


def _channel(address: str, title: str, message: str) -> JsonObject:
    reference = {"$ref": f"#/components/messages/{message}"}
    return {"address": address, "title": title, "messages": {message: reference}}


def _operation(action: str, channel: str, message: str) -> JsonObject:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _messages() -> JsonObject:
    messages: JsonObject = {}
    for kind in wire.KINDS:
        schema = wire.schema_of(kind)
        messages[kind] = {
            "title": schema["title"],
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": schema,
            },
        }
    headers = {name: {"type": "string", "description": text} for name, text in HEADERS.items()}
    messages[DEAD] = {
        "title": "An event that cannot be used",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": ["reason", "message", "source_topic"],
            "properties": headers,
        },
        "payload": {"description": "The original bytes."},
    }
    return messages


def to_yaml(value: object, *, indent: int = 0) -> str:
    """Return JSON values as block YAML; scalars are written as JSON, which is YAML too."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        entries = [(f"{pad}{_key(name)}:", item) for name, item in value.items()]
    elif isinstance(value, list) and value:
        entries = [(f"{pad}-", item) for item in value]
    else:
        return f"{pad}{json.dumps(value)}\n"
    return "".join(_entry(head, item, indent) for head, item in entries)


def _entry(head: str, item: object, indent: int) -> str:
    if isinstance(item, dict | list) and item:
        return f"{head}\n{to_yaml(item, indent=indent + 1)}"
    return f"{head} {json.dumps(item)}\n"


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


def main(path: str) -> None:
    """Write the document."""
    Path(path).write_text(to_yaml(document()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
