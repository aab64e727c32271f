"""Words of a newer version, read from the ledger by this one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ingest.http_models import ExpertDocument
from store.errors import EventRejected
from store.newer import known_or_newer
from store.records import AlertKind, ExpertStatus, Reason
from store.transitions import ROUTABLE, check_expert
from tests import factories


def test_a_known_value_is_the_member_itself() -> None:
    assert known_or_newer(Reason, "routed") is Reason.ROUTED


def test_a_newer_value_is_kept_and_is_no_known_member() -> None:
    resting = known_or_newer(ExpertStatus, "resting")
    assert (resting, resting.value, f"{resting}") == ("resting", "resting", "resting")
    assert json.dumps({"status": resting}) == '{"status": "resting"}'
    assert resting not in {*ExpertStatus, *ROUTABLE}
    assert resting == known_or_newer(ExpertStatus, "resting")
    assert hash(resting) == hash(known_or_newer(ExpertStatus, "resting"))
    with pytest.raises(ValueError, match="resting"):
        ExpertStatus("resting")


def test_an_expert_of_a_newer_status_is_shown_and_left_alone() -> None:
    resting = known_or_newer(ExpertStatus, "resting")
    shown = ExpertDocument.model_validate(replace(factories.expert("new"), status=resting))
    assert json.loads(shown.model_dump_json())["status"] == "resting"
    with pytest.raises(EventRejected, match="cannot become certified"):
        check_expert(resting, ExpertStatus.CERTIFIED)


def test_alerts_of_a_newer_kind_read_as_they_were_written() -> None:
    assert known_or_newer(AlertKind, "tea_cold").value == "tea_cold"
