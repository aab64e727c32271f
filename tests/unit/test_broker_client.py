"""What a client of Kafka makes of records that anybody may send."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from ingest.broker_client import event_of


@pytest.mark.parametrize("milliseconds", [2**62, -(2**62), 2**52])
def test_a_time_that_no_calendar_has_does_not_end_the_reader(milliseconds: int) -> None:
    """Bug: one such message, sent by anybody, ended every process that read its partition."""
    record = SimpleNamespace(
        topic="t", value=b"v", key=None, partition=0, offset=1, headers=(), timestamp=milliseconds
    )
    assert event_of(record).sent_at == datetime.fromtimestamp(0, UTC)
