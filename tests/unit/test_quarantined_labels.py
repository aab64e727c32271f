"""What a judge in quarantine said is out of λ, as if it had never been; so is what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pytest

from ingest.announce import announce_alert
from ingest.local import SECONDS_PER_BATCH, LocalLoop
from judge.pairs import Panel
from judge.port import Judge, Question, Reply
from judge.recorded import RecordedJudge
from recalibrate.cycle import Recalibrator
from recalibrate.inputs import LABEL_TIMEOUT_S
from recalibrate.observing import observe
from recalibrate.outlook_words import lines
from recalibrate.rollback import roll_back
from store.judging import Quarantine
from store.records import SAFE, TRAFFIC, AlertKind, ExpertId, Reason, TaskStatus
from tests.unit.loop_fakes import (
    SMALL,
    TINY,
    TRAINED,
    ClusterEncoder,
    alerts_of,
    expert_of,
    loop,
    run,
    scorer_of,
    state_of,
    traffic,
)

MORE = 96
HONEST, LIAR, SECOND = "b-honest", "a-liar", "c-second"
NEW = ExpertId("new")


class Changing:
    """A judge behind which the model can change: honest, or one that calls every answer a tie."""

    family: str | None = None

    def __init__(self, honest: Judge) -> None:
        self._honest = honest
        self.version = HONEST

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        if self.version == LIAR:
            return Reply(preference=0.5, grade_a=1.0, grade_b=1.0)
        return self._honest.compare(question)


@dataclass
class Run:
    """A loop whose last requests are judged by somebody else, or not yet."""

    made: LocalLoop
    judge: Changing
    lied_from: datetime

    def settle(self) -> None:
        self.made.clock.advance(SECONDS_PER_BATCH)
        self.made.settle()

    def quarantine(self) -> int:
        held = Quarantine(
            judge_version=LIAR,
            since=self.lied_from,
            reason="a canary won",
            imposed_at=self.made.clock.now(),
        )
        with self.made.ledger.begin() as tx:
            left_out = tx.judging.quarantine(held, actor="canaries")
        self.made.clock.advance(SECONDS_PER_BATCH)
        self.made.settle(judge=False)
        return left_out

    def facts(self) -> tuple[float, float, str, Reason | None]:
        """What is in force: λ, the labels behind it, the scorer and why the reference serves."""
        state = state_of(self.made)
        return (
            state.threshold,
            state.effective_labels,
            scorer_of(self.made).sha256(),
            state.safe_reason,
        )

    def relearn(self) -> None:
        """Recompute everything, as a process does that starts now."""
        self.made.recalibrator = Recalibrator(
            self.made.ledger,
            self.made.clock,
            encoder=ClusterEncoder.identity,
            announce=announce_alert,
            send=lambda _: None,
        )
        self.made.settle(judge=False)


def made_run(
    last: str | None,
    *,
    honest: int = TRAINED,
    more: int = MORE,
    new: int = 0,
    is_panel: bool = False,
) -> Run:
    """The first requests are judged honestly, the rest by ``last``, or by nobody yet; ``new``
    ones are still to come. A panel has an honest judge beside it.
    """
    recorded = traffic(honest + more + new)
    judge = Changing(RecordedJudge(recorded, margin=0.05))
    made = loop(recorded, judge=judge)
    if is_panel:
        beside = Changing(RecordedJudge(recorded, margin=0.05))
        beside.version = SECOND
        made.panel = Panel((beside, judge))
    run(made, last=honest)
    made.clock.advance(1.0)
    lied_from = made.clock.now()
    judge.version = last or HONEST
    list(made.serve(list(recorded.prompts)[honest : honest + more], judge=lambda: last is not None))
    return Run(made, judge, lied_from)


@pytest.fixture
def lied() -> Run:
    return made_run(LIAR)


def test_what_a_quarantined_judge_said_is_as_if_it_had_never_been(lied: Run) -> None:
    never = made_run(None)
    assert lied.facts() != never.facts()
    assert lied.quarantine() == 3 * MORE
    never.relearn()
    assert lied.facts() == never.facts()
    lied.relearn()
    assert lied.facts() == never.facts()


def test_what_a_panel_said_with_a_quarantined_judge_is_as_if_it_had_never_been() -> None:
    """Whether the panel is still in force or not, and what the judge said alone goes with it."""
    lied = made_run(LIAR, new=16, is_panel=True)
    earlier = lied.made.panel
    lied.made.panel = Panel((lied.judge,))
    list(lied.made.serve(list(lied.made.traffic.prompts)[TRAINED + MORE :]))
    never = made_run(None, new=16, is_panel=True)
    never.made.clock.advance(SECONDS_PER_BATCH)
    list(never.made.serve(list(never.made.traffic.prompts)[TRAINED + MORE :], judge=lambda: False))
    assert lied.facts() != never.facts()
    assert lied.quarantine() == 3 * (MORE + 16)
    lied.relearn()
    never.relearn()
    assert lied.facts() == never.facts()
    with lied.made.ledger.begin() as tx:
        assert tx.tasks.counts()["pending"] == MORE + 16
    lied.made.panel = earlier  # as a process that was not stopped: what it says is out as well
    lied.made.worker.step()
    lied.relearn()
    assert lied.facts() == never.facts()


def test_of_two_judges_in_quarantine_the_lifted_one_brings_its_own_labels_back() -> None:
    """A panel with both stays out; what the lifted one said alone counts by the usual rule."""
    lied, honest = made_run(LIAR, is_panel=True), made_run(None, is_panel=True)
    lied.quarantine()
    with lied.made.ledger.begin() as tx:
        now = lied.made.clock.now()
        other = Quarantine(judge_version=SECOND, since=lied.lied_from, reason="-", imposed_at=now)
        tx.judging.quarantine(other, actor="ann")
        assert tx.judging.lift(LIAR, actor="ann", now=now)
    lied.relearn()
    honest.relearn()
    assert lied.facts() == honest.facts()
    with lied.made.ledger.begin() as tx:
        assert tx.tasks.counts()["pending"] == MORE
        assert tx.judging.lift(SECOND, actor="ann", now=lied.made.clock.now())
        assert tx.tasks.counts()["pending"] == 0
    believed = made_run(LIAR, is_panel=True)
    lied.relearn()
    believed.relearn()
    assert lied.facts() == believed.facts()


def test_once_judged_again_it_is_as_if_only_the_other_judge_had_spoken(lied: Run) -> None:
    other = made_run(SECOND)
    lied.quarantine()
    lied.judge.version = SECOND
    while lied.made.worker.step():
        lied.made.clock.advance(1.0)
    lied.relearn()
    other.relearn()
    assert lied.facts() == other.facts()
    with lied.made.ledger.begin() as tx:
        tasks = tx.tasks.listed(status=None, purpose=TRAFFIC, limit=9_999)
        assert [one.status for one in tasks] == [TaskStatus.DONE] * (TRAINED + MORE)


def test_a_lifted_judge_counts_again_by_the_rule_that_always_held(lied: Run) -> None:
    """Of two versions on one request the lower one counts, whichever came first."""
    believed = made_run(LIAR)
    lied.quarantine()
    lied.judge.version = SECOND
    lied.made.settle()
    with lied.made.ledger.begin() as tx:
        assert tx.judging.lift(LIAR, actor="ann", now=lied.made.clock.now())
    lied.made.settle()
    believed.relearn()
    assert lied.facts() == believed.facts()


def test_few_labels_left_are_enough_to_take_the_threshold_back() -> None:
    """A state made of lies alone is replaced although there is nothing to learn from."""
    liar = made_run(LIAR, honest=0, more=TRAINED)
    assert state_of(liar.made).threshold < SAFE
    liar.quarantine()
    assert state_of(liar.made).threshold == SAFE
    with liar.made.ledger.begin() as tx:
        assert tx.labels.settled_since(0).labels == ()


def test_lies_leave_the_threshold_before_everything_is_learnt_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Learning a long window anew takes minutes; λ is recomputed for the scorer that serves."""
    liar = made_run(LIAR, honest=48, more=TRAINED)
    assert state_of(liar.made).threshold < SAFE
    monkeypatch.setattr("recalibrate.scoring.AT_ONCE", 4)
    liar.quarantine()  # and one step
    assert state_of(liar.made).threshold == SAFE
    published = [liar.made.recalibrator.step() for _ in range(48)]
    assert sum(version is not None for version in published) == 1


def test_a_learner_that_starts_after_the_quarantine_takes_the_threshold_back() -> None:
    liar = made_run(LIAR, honest=0, more=TRAINED)
    made = liar.made
    made.clock.advance(1.0)
    with made.ledger.begin() as tx:
        held = Quarantine(
            judge_version=LIAR,
            since=liar.lied_from,
            reason="a canary won",
            imposed_at=made.clock.now(),
        )
        tx.judging.quarantine(held, actor="canaries")
    made.clock.advance(1.0)
    liar.relearn()
    assert state_of(made).threshold == SAFE
    version = state_of(made).version
    made.clock.advance(1.0)
    liar.relearn()
    assert state_of(made).version == version


def test_a_learner_that_starts_after_a_lift_makes_a_state_of_the_labels_that_count_again() -> None:
    """Of fewer labels than ask for one; nothing else than the state's own word tells of a lift."""
    few = made_run(LIAR, honest=0, more=16)
    few.quarantine()
    made = few.made
    with made.ledger.begin() as tx:
        assert tx.judging.lift(LIAR, actor="ann", now=made.clock.now())
    version = state_of(made).version
    few.relearn()
    assert state_of(made).version == version + 1
    few.relearn()
    assert state_of(made).version == version + 1


def test_a_quarantine_by_a_clock_that_is_behind_is_seen_by_a_learner_that_starts() -> None:
    liar = made_run(LIAR, honest=0, more=TRAINED)
    with liar.made.ledger.begin() as tx:
        at = liar.lied_from
        held = Quarantine(judge_version=LIAR, since=at, reason="-", imposed_at=at)
        tx.judging.quarantine(held, actor="canaries")
    assert state_of(liar.made).threshold < SAFE
    liar.relearn()
    assert state_of(liar.made).threshold == SAFE


def test_a_state_that_a_rollback_brought_back_is_not_believed_beyond_its_labels() -> None:
    liar = made_run(LIAR, honest=0, more=TRAINED)
    lies = state_of(liar.made)
    assert lies.threshold < SAFE
    liar.quarantine()
    roll_back(liar.made.ledger, lies.version, actor="ann", clock=liar.made.clock)
    liar.made.settle(judge=False)
    assert state_of(liar.made).threshold == SAFE


def test_tasks_that_wait_again_hold_the_watermark_back_for_a_while_at_most() -> None:
    """New requests wait behind those that are judged again, and count once the time-out is over."""
    lied = made_run(LIAR, new=16)
    lied.quarantine()
    clock, ledger = lied.made.clock, lied.made.ledger

    def watermark() -> int:
        with ledger.begin() as tx:
            return tx.decisions.watermark(now=clock.now(), timeout_s=LABEL_TIMEOUT_S)

    with ledger.begin() as tx:
        assert tx.tasks.counts()["pending"] == MORE
    assert watermark() == TRAINED
    names = list(lied.made.traffic.prompts)[TRAINED + MORE :]
    list(lied.made.serve(names, judge=lambda: False))
    assert watermark() == TRAINED
    with ledger.begin() as tx:
        (first,) = tx.tasks.lease(worker="w", now=clock.now(), lease_s=1.0, limit=1)
    assert first.request_id not in names
    clock.advance(LABEL_TIMEOUT_S + 1.0)
    assert watermark() == TRAINED + MORE + len(names)


def test_a_floor_set_by_a_liar_raises_no_alarm_about_honest_labels() -> None:
    liar = made_run(LIAR, honest=0, more=2 * TRAINED)
    floors = {e: expert_of(liar.made, e).baseline.floor for e in (SMALL, TINY)}
    assert all(floor is not None and floor > 0.9 for floor in floors.values())
    liar.quarantine()
    assert expert_of(liar.made, TINY).baseline.floor is None
    liar.judge.version = SECOND
    liar.made.settle()
    for _ in range(3):
        liar.settle()
    kinds = {alert.kind for alert in alerts_of(liar.made)}
    assert AlertKind.EXPERT_REGRESSION not in kinds


def test_what_people_read_leaves_them_out_too(lied: Run) -> None:
    ledger, clock = lied.made.ledger, lied.made.clock
    seen = observe(ledger, clock)
    assert (seen.judged, seen.left_out) == (TRAINED + MORE, 0)
    assert not any("quarantine" in line for line in lines(seen))
    lied.quarantine()
    seen = observe(ledger, clock)
    assert (seen.judged, seen.left_out) == (TRAINED, 3 * MORE)
    assert any(f"{3 * MORE} labels" in line and "quarantine" in line for line in lines(seen))
    with ledger.begin() as tx:
        arrived = tx.labels.arrived(since=lied.lied_from, encoder=ClusterEncoder.identity)
        probed = tx.decisions.recent_judged(
            1_000, excluding_fold=0, without=NEW, encoder=ClusterEncoder.identity
        )
    assert arrived.requests == 0
    assert max(request.seq for request in probed) <= TRAINED
