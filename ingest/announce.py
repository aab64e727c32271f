"""Labels and alerts as messages that leave: the wire format meets the outbox here."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.topics import ALERTS, LABELS
from ingest.wire import encode_alert, encode_label
from store.records import Alert, Label, OutboxMessage


def announce_labels(labels: Sequence[Label]) -> list[OutboxMessage]:
    """Return one message per label, keyed by request."""
    return [
        OutboxMessage(topic=LABELS, key=label.request_id, value=encode_label(label))
        for label in labels
    ]


def announce_alert(alert: Alert) -> OutboxMessage:
    """Return the message of an alert, keyed by what it names."""
    return OutboxMessage(topic=ALERTS, key=alert.subject, value=encode_alert(alert))
