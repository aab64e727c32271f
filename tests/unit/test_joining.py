"""How far an expert has come, and what it says of it: exact times in event time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ingest import cli
from ingest.local import BATCH, LocalLoop
from recalibrate.joining import Joining, joining, waits_for, with_present
from recalibrate.rolling import FLOOR
from store.describing import DescriptorKind
from store.lives import Share, Step
from store.policy import OFF
from store.records import (
    OUTSIDE_PROMISE,
    TRAFFIC,
    ExpertId,
    ExpertStatus,
    Price,
    PromptReceived,
    Reason,
    RequestId,
)
from tests.factories import CHEAP, NOON, STRONG, expert, probe_answer, settings
from tests.unit.loop_fakes import (
    QUALITY,
    SMALL,
    TINY,
    TRAINED,
    expert_of,
    loop,
    run,
    scorer_of,
    state_of,
    traffic,
)

NEW = ExpertId("new")
S = ExpertStatus
pytestmark = pytest.mark.usefixtures("few_cycles")


def newcomer() -> LocalLoop:
    """A trained loop that a good and cheap newcomer has just joined."""
    recorded = traffic(TRAINED + 320, quality={**QUALITY, NEW: QUALITY[SMALL]})
    made = loop(recorded, experts=[STRONG, SMALL, TINY])
    run(made, last=TRAINED)
    made.add_expert(NEW, Price(request_usd=0.1))
    return made


def seen(made: LocalLoop, name: ExpertId = NEW) -> Joining:
    one = expert_of(made, name)
    with made.ledger.begin() as tx:
        return joining(tx, one, now=made.clock.now())


def test_times_and_labels_are_those_of_the_ledger() -> None:
    made = newcomer()
    added, certified_after, labels = made.clock.now(), None, 0
    for start in range(TRAINED, TRAINED + 320, BATCH):
        run(made, first=start, last=start + BATCH)
        if certified_after is None and expert_of(made, NEW).status is S.CERTIFIED:
            certified_after = (made.clock.now() - added).total_seconds()
            with made.ledger.begin() as tx:
                given = tx.labels.settled_since(0).labels
            labels = sum(x.expert == NEW and x.purpose == TRAFFIC for x in given)
    found = seen(made)
    assert certified_after is not None
    assert found.seconds_to_certified == pytest.approx(certified_after)
    assert (found.labels_needed, found.labels_got) == (int(FLOOR), labels)
    assert labels >= FLOOR
    with made.ledger.begin() as tx:
        decisions = tx.decisions.find_many([RequestId(n) for n in made.traffic.prompts])
    served = [d for d in decisions.values() if d.expert == NEW]
    first = min(d.decided_at for d in served)
    assert found.seconds_to_first_route == (first - added).total_seconds()
    assert found.share == Share(
        served=len(served),
        ramped=sum(d.reason is Reason.RAMP for d in served),
        decisions=len(decisions),
    )
    assert [step.status for step in found.steps] == [
        S.REGISTERED,
        S.DESCRIBED,
        S.SHADOW,
        S.RAMPING,
        S.CERTIFIED,
    ]
    assert (found.state_version, found.replicas) == (state_of(made).version, ("local",))
    assert found.waits_for == ""
    (profile,) = found.descriptors
    assert (profile.kind, profile.expert) == (DescriptorKind.PROFILE, NEW)
    assert profile.details["status"] == "certified"
    assert profile.made_at == added + timedelta(seconds=certified_after)
    assert len(profile.vector) == scorer_of(made).centroids.shape[1]


def test_an_expert_that_was_just_added_has_no_times_and_says_what_it_waits_for() -> None:
    made = newcomer()
    found = seen(made)
    assert (found.seconds_to_first_route, found.seconds_to_certified) == (None, None)
    assert (found.labels_got, found.share.served, found.descriptors) == (0, 0, ())
    assert found.state_version == state_of(made).version
    assert "requests already judged" in found.waits_for


def test_a_pin_is_no_first_route_and_no_share() -> None:
    made = newcomer()
    pinned = PromptReceived(
        request_id=RequestId("pinned"),
        text="prompt 0 9999",
        received_at=made.clock.now(),
        pinned_expert=NEW,
    )
    made.handler.on_prompts([pinned])
    found = seen(made)
    assert found.seconds_to_first_route is None
    assert found.share.served == 0
    assert Reason.PINNED in OUTSIDE_PROMISE


def test_a_change_that_is_not_in_the_active_state_is_not_in_force() -> None:
    made = newcomer()
    with made.ledger.begin() as tx:
        tx.experts.set_price(NEW, Price(request_usd=0.2))
    found = seen(made)
    assert (found.state_version, found.replicas) == (None, ())
    made.settle()
    assert seen(made).replicas == ("local",)
    status = expert_of(made, NEW).status
    with made.ledger.begin() as tx:
        now = made.clock.now()
        tx.experts.set_status(NEW, before=status, after=S.PAUSED, now=now)
    assert seen(made).replicas == ()
    made.settle()
    assert seen(made).replicas == ("local",)  # out of the pool everywhere


def test_a_status_that_an_older_program_wrote_is_not_missing() -> None:
    at = NOON + timedelta(hours=1)
    one = expert(CHEAP, status=S.CERTIFIED, status_changed_at=at)
    assert with_present([Step(S.RAMPING, NOON)], one) == (
        Step(S.RAMPING, NOON),
        Step(S.CERTIFIED, at),
    )
    assert with_present([Step(S.CERTIFIED, NOON)], one) == (Step(S.CERTIFIED, NOON),)
    assert with_present([], one) == (Step(S.CERTIFIED, at),)


@pytest.mark.parametrize(
    ("status", "labels", "said"),
    [
        (S.REGISTERED, 0, "requests already judged"),
        (S.DESCRIBED, 0, "evidence"),
        (S.SHADOW, 10, "20 more labels of sampled traffic; about 9.0 hours to certification"),
        (S.SHADOW, 40, "evidence"),
        (S.RAMPING, 40, "60 more labels of sampled traffic; about 6.0 hours"),
        (S.RAMPING, 140, "docs/experts.md"),
        (S.PAUSED, 140, "steersman experts resume cheap"),
        (S.CERTIFIED, 140, ""),
        (S.RETIRED, 140, ""),
    ],
)
def test_every_status_says_what_it_waits_for(status: S, labels: int, said: str) -> None:
    found = waits_for(expert(CHEAP, status=status), settings(), labels=labels, per_hour=10.0)
    assert said in found
    assert bool(found) == bool(said)


def test_without_labels_nobody_can_say_how_long() -> None:
    one = expert(CHEAP, status=S.SHADOW)
    assert "no labels came" in waits_for(one, settings(), labels=0, per_hour=None)
    assert "mode is off" in waits_for(one, settings(mode=OFF), labels=0, per_hour=None)
    assert "policy set" in waits_for(one, None, labels=0, per_hour=None)
    assert waits_for(expert(STRONG), settings(reference=STRONG), labels=0, per_hour=1.0) == ""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> LocalLoop:
    made = newcomer()
    run(made, first=TRAINED, last=TRAINED + 320)
    with made.ledger.begin() as tx:
        tx.describing.answer(probe_answer(expert=NEW))

    @contextmanager
    def opened() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(ledger=made.ledger, clock=made.clock)

    monkeypatch.setattr("ingest.cli_experts_show.opened_backbone", opened)
    return made


def test_show_prints_the_figures_for_people_and_machines(shown: LocalLoop) -> None:
    found = seen(shown)
    text = CliRunner().invoke(cli.app, ["experts", "show", NEW])
    assert text.exit_code == 0, text.output
    for said in (
        "new is certified since 2026-01-01",
        f"to certified:    {found.seconds_to_certified:.1f} s",
        f"labels:          {found.labels_got} of 100 needed",
        "price:           0 USD per Mtok read, 0 written, 0.1 a request",
        "probes:          1 answers, 0.2500 USD",
        f"with state {found.state_version}, acknowledged by local",
        "nothing declared",
    ):
        assert said in text.output
    body = json.loads(CliRunner().invoke(cli.app, ["experts", "show", NEW, "--json"]).output)
    assert body["seconds_to_certified"] == found.seconds_to_certified
    assert body["last_day"]["decisions"] == found.share.decisions
    assert [step["status"] for step in body["steps"]][-1] == "certified"
    assert datetime.fromisoformat(body["added_at"]) < shown.clock.now()


def test_show_of_nobody_says_where_to_look(shown: LocalLoop) -> None:
    missing = CliRunner().invoke(cli.app, ["experts", "show", "nobody"])
    assert "steersman experts list" in str(missing.exception)
