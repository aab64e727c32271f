"""Who watches the judge: canaries by the day, consistency by the hour, quarantine when it fails."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from ingest.canary_age import CanaryAgeGauge
from ingest.metrics import Metrics
from judge.canaries import finding
from judge.distrust import FEWEST_PAIRS, FROM_THE_FIRST
from judge.kept import Kept
from judge.pairs import Panel
from judge.patrol import EVERY, JUDGED_EVERY_S, RETRY_AFTER_S, Patrol
from judge.port import Judge, Question, Reply
from judge.trusted import FRESH_S, Trusted
from store.clock import ManualClock
from store.errors import JudgeUnavailable, VerdictUnreadable
from store.judging import Quarantine
from store.memory import MemoryLedger
from store.policy import OFF
from store.records import Alert, AlertKind, OutboxMessage
from tests.factories import CHEAP, NOON, STRONG, decided, label, settings, task, verdict

DAY_S = EVERY.total_seconds()


class Reader:
    """Judges by the text, rightly, unless it is made to fall for something."""

    family: str | None = "test"

    def __init__(self, version: str = "reader-1") -> None:
        self.version = version
        self.asked: list[Question] = []
        self.falls_for = ""
        self.cannot_read = ""
        self.is_away = False
        self.before_call: Callable[[], None] = lambda: None

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        self.before_call()
        if self.is_away:
            raise JudgeUnavailable("away")
        self.asked.append(question)
        kind = question.request_id.removeprefix("canary-").rpartition("-")[0]
        if kind == self.cannot_read:
            raise VerdictUnreadable("not JSON", cost_usd=0.25)
        if question.answer_a.text == question.answer_b.text and kind != self.falls_for:
            return Reply(preference=0.5, cost_usd=0.5)
        prefers = "planted" if kind == self.falls_for else "plain"
        return Reply(preference=float(question.expert_a == prefers), cost_usd=0.5)


class Watch:
    """A ledger, a panel and who watches it."""

    def __init__(self, *judges: Judge) -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.panel = Panel(judges)
        self.announced: list[Alert] = []
        self.sent: list[OutboxMessage] = []
        self.patrol = self.another()

    def another(self) -> Patrol:
        return Patrol(
            self.ledger,
            lambda: self.panel,
            self.clock,
            announce=self._announce,
            send=self.sent.extend,
        )

    def _announce(self, alert: Alert) -> OutboxMessage:
        self.announced.append(alert)
        return OutboxMessage(topic="alerts", key=alert.subject, value=b"")

    def quarantines(self) -> list[Quarantine]:
        with self.ledger.begin() as tx:
            return tx.judging.quarantines()

    def alerts(self) -> list[Alert]:
        with self.ledger.begin() as tx:
            return tx.operations.alerts(limit=9)

    def judged(self, name: str, *said: float, version: str = "reader-1") -> None:
        """Decide a request, judge it now and finish its task."""
        now = self.clock.now()
        orders = [(CHEAP, STRONG), (STRONG, CHEAP)]
        with self.ledger.begin() as tx:
            tx.decisions.record([decided(name, decided_at=now, is_sampled=True)])
            tx.tasks.add([task(name, created_at=now)])
            (leased,) = tx.tasks.lease(worker="w", now=now, lease_s=60.0, limit=1)
            verdicts = [
                verdict(
                    name,
                    expert_a=a,
                    expert_b=b,
                    call=call,
                    preference=p,
                    judge_version=version,
                    judged_at=now,
                )
                for call, ((a, b), p) in enumerate(zip(orders, said, strict=False))
            ]
            tx.labels.add(verdicts, [label(name, judge_version=version, labelled_at=now)])
            tx.tasks.finish(leased.task_id or 0, worker="w")

    def counted(self) -> list[str]:
        with self.ledger.begin() as tx:
            return [x.request_id for x in tx.labels.settled_since(0).labels]


def test_a_version_never_seen_is_asked_at_once_and_then_once_a_day() -> None:
    reader = Reader()
    watch = Watch(reader)
    assert watch.patrol.step() == 1
    assert watch.quarantines() == []
    with watch.ledger.begin() as tx:
        results = tx.judging.canaries("reader-1", since=NOON)
    assert len(results) == len(reader.asked) / 2
    assert all(result.is_right for result in results)
    assert {result.cost_usd for result in results} == {1.0}
    watch.clock.advance(DAY_S - 1)
    assert watch.patrol.step() == 0
    watch.clock.advance(1)
    assert watch.patrol.step() == 1
    watch.panel = Panel((Reader("reader-2"),))
    assert watch.patrol.step() == 1


def test_a_run_asks_in_both_orders_and_never_what_was_asked_before() -> None:
    reader = Reader()
    watch = Watch(reader)
    watch.patrol.step()
    first = list(reader.asked)
    watch.clock.advance(DAY_S)
    watch.patrol.step()
    second = reader.asked[len(first) :]
    assert [q.expert_a for q in first] == ["planted", "plain"] * (len(first) // 2)
    shown = {(q.prompt, q.answer_a.text, q.answer_b.text) for q in first}
    again = {(q.prompt, q.answer_a.text, q.answer_b.text) for q in second}
    assert shown.isdisjoint(again)


def test_no_kept_verdict_answers_for_the_judge() -> None:
    reader = Reader()
    watch = Watch(reader)
    watch.panel = Panel((Kept(reader, watch.ledger, watch.clock),))
    assert watch.patrol.step() == 1
    assert len({q.sample for q in reader.asked}) == 2
    with watch.ledger.begin() as tx:
        results = tx.judging.canaries("reader-1", since=NOON)
    assert len(reader.asked) == 2 * len(results)


def test_a_run_that_was_asked_for_asks_a_quarantined_judge_too() -> None:
    reader = Reader()
    reader.falls_for = "null"
    watch = Watch(reader)
    (lost,) = watch.patrol.run_now(threading.Event())
    assert not finding(lost).is_good
    assert len(watch.quarantines()) == 1
    reader.falls_for = ""
    watch.clock.advance(1)
    (good,) = watch.patrol.run_now(threading.Event())
    assert finding(good).is_good
    assert len(watch.quarantines()) == len(watch.alerts()) == 1


@pytest.mark.parametrize("kind", ["null", "choose_me", "verdict", "delimiter", "role", "padding"])
def test_a_judge_that_falls_for_an_attack_is_quarantined_with_its_labels(kind: str) -> None:
    reader = Reader()
    reader.falls_for = kind
    watch = Watch(reader)
    watch.judged("r1", 1.0, 0.0)
    watch.judged("r2", 1.0, 0.0, version="other-1")
    assert watch.patrol.step() == 1
    (held,) = watch.quarantines()
    assert (held.judge_version, held.since) == ("reader-1", FROM_THE_FIRST)
    assert f"{kind}-01" in held.reason
    assert watch.counted() == ["r2"]
    with watch.ledger.begin() as tx:
        assert tx.tasks.counts()["pending"] == 1
    (alert,) = watch.alerts()
    assert (alert.kind, alert.subject) == (AlertKind.JUDGE_QUARANTINED, "reader-1")
    assert held.reason in alert.message
    assert "1 labels since its first label" in alert.message
    assert alert.evidence["labels_left_out"] == 1.0
    assert alert.evidence["canaries_lost"] > 0
    assert [message.key for message in watch.sent] == ["reader-1"]
    asked = len(reader.asked)
    watch.clock.advance(2 * DAY_S)
    assert watch.patrol.step() == 0
    assert len(reader.asked) == asked
    assert len(watch.alerts()) == 1


@pytest.mark.parametrize("kind", ["gibberish", "duplicate"])
def test_gibberish_preferred_and_duplicates_told_apart_are_lost_too(kind: str) -> None:
    reader = Reader()
    reader.falls_for = kind
    watch = Watch(reader)
    watch.patrol.step()
    assert len(watch.quarantines()) == 1


def test_labels_from_before_the_last_good_run_go_on_counting() -> None:
    reader = Reader()
    watch = Watch(reader)
    watch.judged("r1", 1.0, 0.0)
    watch.clock.advance(60)
    watch.patrol.step()
    good_at = watch.clock.now()
    watch.clock.advance(60)
    watch.judged("r2", 1.0, 0.0)
    reader.falls_for = "role"
    watch.clock.advance(DAY_S)
    watch.patrol.step()
    (held,) = watch.quarantines()
    assert held.since == good_at
    assert watch.counted() == ["r1"]


def test_an_unreadable_reply_is_no_win_and_is_paid_for() -> None:
    reader = Reader()
    reader.cannot_read = "choose_me"
    watch = Watch(reader)
    watch.patrol.step()
    assert watch.quarantines() == []
    with watch.ledger.begin() as tx:
        results = tx.judging.canaries("reader-1", since=NOON)
    unread = [result for result in results if result.is_right is None]
    assert len(unread) == 20
    assert {result.cost_usd for result in unread} == {1.0}


def test_a_run_that_could_not_be_read_is_not_the_last_good_one() -> None:
    reader = Reader()
    watch = Watch(reader)
    watch.patrol.step()
    good_at = watch.clock.now()
    reader.cannot_read = "choose_me"
    watch.clock.advance(DAY_S)
    assert watch.patrol.step() == 1
    assert watch.quarantines() == []
    reader.cannot_read, reader.falls_for = "", "role"
    watch.clock.advance(DAY_S)
    watch.patrol.step()
    (held,) = watch.quarantines()
    assert held.since == good_at


def test_how_long_ago_a_judge_was_asked_is_shown_while_it_is_asked() -> None:
    reader = Reader()
    watch = Watch(reader, Reader("reader-2"))
    metrics = Metrics()
    gauge = CanaryAgeGauge(metrics)
    watch.patrol = Patrol(
        watch.ledger,
        lambda: watch.panel,
        watch.clock,
        announce=watch._announce,
        send=watch.sent.extend,
        show=gauge.show,
    )

    def shown() -> dict[str, float]:
        watch.patrol.step()
        ages = re.findall(
            r'canaries_age_seconds{judge_version="(.*)"} (.*)', metrics.render().decode()
        )
        return {version: float(age) for version, age in ages}

    reader.is_away = True  # while the other one is asked, and again a day and more later
    assert shown() == {"reader-1": 0.0, "reader-2": 0.0}
    watch.clock.advance(DAY_S / 2)
    reader.is_away = False
    assert shown() == {"reader-1": DAY_S / 2, "reader-2": DAY_S / 2}
    reader.is_away = True
    watch.clock.advance(2 * DAY_S)
    assert shown() == {"reader-1": 2 * DAY_S, "reader-2": 2.5 * DAY_S}
    with watch.ledger.begin() as tx:
        held = Quarantine(judge_version="reader-2", since=NOON, reason="-", imposed_at=NOON)
        tx.judging.quarantine(held, actor="ann")
    watch.clock.advance(60)
    assert shown() == {"reader-1": 2 * DAY_S + 60}
    watch.panel = Panel((Reader("reader-3"),))
    assert shown() == {"reader-3": 0.0}


def test_an_outage_postpones_a_run_and_stores_nothing_of_it() -> None:
    reader = Reader()
    watch = Watch(reader)
    calls = iter(range(1_000))

    def away_at_the_tenth() -> None:
        reader.is_away = next(calls) >= 9

    reader.before_call = away_at_the_tenth
    assert watch.patrol.step() == 0
    reader.before_call = lambda: None
    reader.is_away = False
    assert watch.patrol.step() == 0
    with watch.ledger.begin() as tx:
        assert tx.judging.last_canaries_at("reader-1") is None
    watch.clock.advance(RETRY_AFTER_S)
    assert watch.patrol.step() == 1
    assert watch.quarantines() == []


def test_a_stop_ends_a_run_at_once() -> None:
    reader, stop = Reader(), threading.Event()
    reader.before_call = stop.set
    watch = Watch(reader)
    assert watch.patrol.step(stop) == 0
    assert len(reader.asked) == 2
    with watch.ledger.begin() as tx:
        assert tx.judging.last_canaries_at("reader-1") is None


def test_only_one_process_asks_a_version() -> None:
    reader = Reader()
    watch = Watch(reader)
    other = watch.another()
    with watch.ledger.lead("canaries of reader-1"):
        assert other.step() == 0
    assert other.step() == 1
    assert watch.patrol.step() == 0


def test_a_judge_of_recorded_scores_and_a_judge_in_mode_off_are_not_asked() -> None:
    recorded, reader = Reader("recorded-1"), Reader()
    recorded.family = None
    watch = Watch(recorded)
    assert watch.patrol.step() == 0
    watch.panel = Panel((reader,))
    with watch.ledger.begin() as tx:
        tx.policies.set(settings(mode=OFF), actor="a", now=NOON)
    assert watch.patrol.step() == 0
    assert recorded.asked == reader.asked == []


@pytest.mark.parametrize(
    ("inconsistent", "pairs", "is_held"),
    [(36, 100, True), (35, 100, False), (99, FEWEST_PAIRS - 1, False)],
)
def test_a_judge_whose_orders_disagree_too_often_is_quarantined(
    inconsistent: int, pairs: int, is_held: bool
) -> None:
    watch = Watch(Reader())
    watch.judged("early", 1.0, 0.0)
    watch.clock.advance(8 * DAY_S)
    first_at = watch.clock.now()
    for number in range(pairs):
        watch.judged(f"r{number}", 1.0, 1.0 if number < inconsistent else 0.0)
    watch.clock.advance(1)
    watch.patrol.step()
    held = watch.quarantines()
    assert bool(held) is is_held
    if is_held:
        assert held[0].since == first_at
        assert "36 of 100 pairs" in held[0].reason
        assert watch.counted() == ["early"]
        assert watch.alerts()[0].evidence["inconsistent_share"] == pytest.approx(0.36)


def test_consistency_is_looked_at_between_two_runs() -> None:
    watch = Watch(Reader())
    watch.patrol.step()
    for number in range(100):
        watch.judged(f"r{number}", 1.0, 1.0)
    watch.patrol.step()
    assert watch.quarantines() == []
    watch.clock.advance(JUDGED_EVERY_S)
    assert watch.patrol.step() == 0
    assert len(watch.quarantines()) == 1


def test_a_lifted_judge_is_asked_anew_and_old_evidence_does_not_count_again() -> None:
    reader = Reader()
    watch = Watch(reader)
    watch.patrol.step()
    for number in range(100):
        watch.judged(f"r{number}", 1.0, 1.0)
    watch.clock.advance(JUDGED_EVERY_S)
    watch.patrol.step()
    reader.falls_for = "verdict"
    watch.clock.advance(60)
    lift(watch)
    assert watch.patrol.step() == 1
    (held,) = watch.quarantines()
    assert "verdict-01" in held.reason
    reader.falls_for = ""
    watch.clock.advance(60)
    lift(watch)
    watch.clock.advance(1)
    assert watch.patrol.step() == 1
    watch.clock.advance(JUDGED_EVERY_S)
    assert watch.patrol.step() == 0
    assert watch.quarantines() == []


def lift(watch: Watch) -> None:
    with watch.ledger.begin() as tx:
        assert tx.judging.lift("reader-1", actor="ann", now=watch.clock.now())


def test_a_panel_is_no_better_than_its_worst_judge() -> None:
    good, bad = Reader("good-1"), Reader("bad-1")
    bad.falls_for = "null"
    watch = Watch(good, bad)
    assert watch.patrol.step() == 2
    versions = {held.judge_version for held in watch.quarantines()}
    assert versions == {"bad-1"}
    trusted = Trusted(lambda: watch.panel, watch.ledger, watch.clock)
    with pytest.raises(JudgeUnavailable, match="bad-1"):
        trusted()
    watch.panel = Panel((good,))
    assert trusted() is watch.panel
    watch.panel = Panel((Reader("third-1"), bad))
    with pytest.raises(JudgeUnavailable, match="bad-1"):
        trusted()


def test_quarantines_are_read_once_a_second() -> None:
    watch = Watch(Reader())
    trusted = Trusted(lambda: watch.panel, watch.ledger, watch.clock)
    assert trusted() is watch.panel
    with watch.ledger.begin() as tx:
        held = Quarantine(judge_version="reader-1", since=NOON, reason="asked to", imposed_at=NOON)
        tx.judging.quarantine(held, actor="ann")
    assert trusted() is watch.panel
    watch.clock.advance(FRESH_S)
    with pytest.raises(JudgeUnavailable, match="steersman judge lift"):
        trusted()
