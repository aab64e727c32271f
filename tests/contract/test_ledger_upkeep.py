"""The promises of ``store/upkeep.py``: days made, days dropped, one user's text erased."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from store.facts import ResponseOutcome
from store.ledger import Ledger
from store.records import AuditEntry, ExpertId, RequestId
from store.upkeep import ERASED, REWOUND, Erased, KeptDay, coming_days, revision_of
from tests.contract.acts import R1, R2, decide
from tests.factories import (
    ENCODER,
    NOON,
    calibration,
    decided,
    expert,
    feedback,
    label,
    later,
    message,
    response,
    state,
    task,
    verdict,
)

DAY = NOON.date()
OLD = DAY - timedelta(days=100)
THEN = NOON - timedelta(days=100)
A, B, C = (RequestId(name) for name in "abc")
CHECK = '{"kind":"exact","answer":"42"}'


def kept(ledger: Ledger, day: date) -> KeptDay | None:
    with ledger.begin() as tx:
        return next((one for one in tx.upkeep.survey() if one.day == day), None)


def old_day(ledger: Ledger) -> None:
    """A day a hundred days ago: ``a`` judged with every fact, ``b`` not sampled."""
    decide(ledger, "a", decided_at=THEN)
    decide(ledger, "b", decided_at=THEN, is_sampled=False)
    with ledger.begin() as tx:
        tx.responses.record([response("a", received_at=THEN), response("b", received_at=THEN)])
        tx.responses.record_shadow(response("a", expert=ExpertId("other")))
        tx.labels.add([verdict("a")], [label("a")])
        tx.tasks.add([task("a")])
        [leased] = tx.tasks.lease(worker="w", now=NOON, lease_s=60, limit=1)
        tx.tasks.finish(leased.task_id or 0, worker="w")


def drop_facts(ledger: Ledger, day: date = OLD) -> bool:
    with ledger.begin() as tx:
        return tx.upkeep.drop_facts(day, actor="ann", now=NOON)


def drop_text(ledger: Ledger, day: date = OLD) -> bool:
    with ledger.begin() as tx:
        return tx.upkeep.drop_text(day, actor="ann", now=NOON)


def erase(ledger: Ledger, tenant: str, session_id: str | None = None) -> Erased:
    with ledger.begin() as tx:
        return tx.upkeep.erase(DAY, tenant=tenant, session_id=session_id, actor="ann", now=NOON)


# Days


def test_coming_days_are_made_once(ledger: Ledger) -> None:
    days = coming_days(later(3 * 86_400))
    with ledger.begin() as tx:
        made = tx.upkeep.prepare_days(days)
        assert set(made) <= set(days)
        assert tx.upkeep.prepare_days(days) == []
    with ledger.begin() as tx:
        assert set(days) <= set(tx.upkeep.days())
        assert tx.upkeep.days() == sorted(tx.upkeep.days())
        assert tx.upkeep.prepare_days(days) == []


def test_a_decision_makes_room_for_its_own_day(ledger: Ledger) -> None:
    decide(ledger, "a", decided_at=THEN)
    with ledger.begin() as tx:
        assert OLD in tx.upkeep.days()


def test_a_survey_tells_what_a_day_holds_and_what_needs_it(ledger: Ledger) -> None:
    old_day(ledger)
    with ledger.begin() as tx:
        tx.tasks.add([task("a", purpose="probe")])
        tx.outbox.add([message("b")])
    found = kept(ledger, OLD)
    assert found is not None
    assert (found.has_text, found.has_keys) == (True, True)
    assert (found.judged, found.open_tasks, found.unpublished) == (1, 1, 1)
    assert found.facts_bytes > found.text_bytes > 0


# Facts


def test_a_dropped_day_is_as_if_nobody_had_asked(ledger: Ledger) -> None:
    old_day(ledger)
    decide(ledger, "c")
    assert drop_facts(ledger)
    with ledger.begin() as tx:
        assert OLD not in tx.upkeep.days()
        assert tx.decisions.find_many([A, B]) == {}
        assert tx.decisions.sampled([A, C], encoder=ENCODER)[0].request_id == C
        assert tx.decisions.prompt_text(A) is None
        assert tx.responses.find(A) is None
        assert tx.responses.find_shadow(A, ExpertId("other")) is None
        assert tx.labels.verdicts_of(A) == []
        assert (tx.labels.count(), tx.labels.settled_since(0).labels) == (0, ())
        assert tx.tasks.counts()["done"] == 0
        [again] = tx.decisions.record([decided("a", text="Another question")])
        assert again.is_new


def test_what_was_dropped_is_in_the_audit_trail_and_changes_the_revision(ledger: Ledger) -> None:
    old_day(ledger)
    with ledger.begin() as tx:
        before = tx.upkeep.revision()
    assert drop_facts(ledger)
    with ledger.begin() as tx:
        [entry] = tx.operations.audit_trail(limit=9)
        assert (entry.actor, entry.action, entry.at) == ("ann", "facts.dropped", NOON)
        assert entry.detail["day"] == str(OLD)
        assert tx.upkeep.revision() != before


def test_a_rewound_ledger_is_at_another_revision_although_it_lost_an_entry(ledger: Ledger) -> None:
    """Bug: learning went on with what the ledger no longer held once a rewind had filled it up."""
    with ledger.begin() as tx:
        erased = AuditEntry(actor="ann", action=ERASED, detail={}, at=NOON)
        tx.operations.audit(erased)
        with_erasure = tx.upkeep.revision()
    rewound = AuditEntry(actor="cli", action=REWOUND, detail={}, at=NOON + timedelta(hours=1))
    with ledger.begin() as tx:
        tx.operations.audit(rewound)
        both = tx.upkeep.revision()
    without_erasure = revision_of(1, rewound.at)  # the backup is older than it
    assert len({0, with_erasure, both, without_erasure}) == 4


def test_a_day_is_dropped_once(ledger: Ledger) -> None:
    old_day(ledger)
    assert drop_facts(ledger)
    assert not drop_facts(ledger)
    assert not drop_text(ledger)
    with ledger.begin() as tx:
        assert len(tx.operations.audit_trail(limit=9)) == 1


def test_an_unfinished_judge_task_keeps_facts_and_text(ledger: Ledger) -> None:
    old_day(ledger)
    with ledger.begin() as tx:
        tx.tasks.add([task("a", purpose="probe")])
    assert not drop_facts(ledger)
    assert not drop_text(ledger)
    with ledger.begin() as tx:
        assert tx.decisions.prompt_text(A) == "What is 2 + 2?"
        assert tx.operations.audit_trail(limit=9) == []


def test_a_message_that_has_not_left_keeps_the_facts(ledger: Ledger) -> None:
    old_day(ledger)
    with ledger.begin() as tx:
        [waiting] = tx.outbox.add([message("b")])
    assert not drop_facts(ledger)
    with ledger.begin() as tx:
        tx.outbox.mark([waiting.message_id or 0], now=NOON)
    assert drop_facts(ledger)


def test_a_drop_that_fails_leaves_the_day(ledger: Ledger) -> None:
    class Stop(Exception):
        pass

    def drop_and_fail() -> None:
        with ledger.begin() as tx:
            assert tx.upkeep.drop_facts(OLD, actor="ann", now=NOON)
            raise Stop

    old_day(ledger)
    with pytest.raises(Stop):
        drop_and_fail()
    with ledger.begin() as tx:
        assert OLD in tx.upkeep.days()
        assert tx.decisions.find(A) is not None
        assert tx.labels.count() == 1
        assert len(tx.labels.settled_since(0).labels) == 1
        assert tx.upkeep.revision() == 0


def test_a_cursor_from_before_a_drop_still_reads_every_later_label_once(ledger: Ledger) -> None:
    old_day(ledger)
    decide(ledger, "c")
    with ledger.begin() as tx:
        cursor = tx.labels.settled_since(0).cursor
    assert drop_facts(ledger)
    with ledger.begin() as tx:
        tx.labels.add([], [label("c")])
    with ledger.begin() as tx:
        settled = tx.labels.settled_since(cursor)
        assert [x.request_id for x in settled.labels] == [C]
        assert tx.labels.settled_since(settled.cursor).labels == ()


def test_numbers_and_other_days_go_on_after_a_drop(ledger: Ledger) -> None:
    old_day(ledger)
    [seq] = decide(ledger, "c")
    assert drop_facts(ledger)
    with ledger.begin() as tx:
        assert tx.decisions.last_seq() == seq
        assert tx.decisions.find(C) is not None
    [newer] = decide(ledger, "d")
    assert newer > seq


# Text


def test_dropped_text_leaves_the_facts(ledger: Ledger) -> None:
    old_day(ledger)
    with ledger.begin() as tx:
        tx.operations.record_feedback(
            feedback("f1", request_id=A, received_at=THEN, comment="too long")
        )
    assert drop_text(ledger)
    with ledger.begin() as tx:
        [entry] = tx.operations.audit_trail(limit=9)
        assert (entry.actor, entry.action) == ("ann", "text.dropped")
        assert tx.decisions.prompt_text(A) is None
        served, shadow = tx.responses.find(A), tx.responses.find_shadow(A, ExpertId("other"))
        assert served is not None
        assert shadow is not None
        assert (served.text, shadow.text) == (None, None)
        assert (served.cost_usd, served.output_tokens) == (0.0012, 1)
        assert [s.request_id for s in tx.decisions.sampled([A], encoder=ENCODER)] == [A]
        assert tx.labels.count() == 1
        assert tx.upkeep.revision() == 0  # nothing that teaches has gone
    found = kept(ledger, OLD)
    assert found is not None
    assert not found.has_text
    assert not drop_text(ledger)


def test_a_check_is_dropped_with_the_text(ledger: Ledger) -> None:
    given = decided("a", decided_at=THEN)
    with ledger.begin() as tx:
        tx.decisions.record([replace(given, prompt=replace(given.prompt, check=CHECK))])
        assert tx.decisions.prompt_check(A) == CHECK
    assert drop_text(ledger)
    with ledger.begin() as tx:
        assert tx.decisions.prompt_check(A) is None


def test_a_day_without_text_takes_late_facts_and_goes_later(ledger: Ledger) -> None:
    old_day(ledger)
    assert drop_text(ledger)
    decide(ledger, "late", decided_at=THEN)
    with ledger.begin() as tx:
        [outcome] = tx.responses.record([response("late")])
        assert outcome is ResponseOutcome.NEW
    assert drop_facts(ledger)


def test_a_redelivery_is_recognised_when_the_text_has_gone(ledger: Ledger) -> None:
    old_day(ledger)
    assert drop_text(ledger)
    with ledger.begin() as tx:
        [same] = tx.decisions.record([decided("a")])
        [other] = tx.decisions.record([decided("a", text="Another question")])
        assert (same.is_new, same.is_conflict, other.is_conflict) == (False, False, True)
        answers = tx.responses.record([response("a"), response("a", text="5")])
        assert answers == [ResponseOutcome.DUPLICATE, ResponseOutcome.CONFLICT]


def test_no_probe_is_drawn_from_a_request_without_text(ledger: Ledger) -> None:
    old_day(ledger)
    decide(ledger, "c")
    with ledger.begin() as tx:
        tx.labels.add([], [label("c")])
    assert drop_text(ledger)
    with ledger.begin() as tx:
        probes = tx.decisions.recent_judged(
            9, excluding_fold=0, without=ExpertId("new"), encoder=ENCODER
        )
        assert [s.request_id for s in probes] == [C]


# Ids


def test_ids_go_in_batches_and_those_of_sampled_requests_stay(ledger: Ledger) -> None:
    names = [f"u{n}" for n in range(7)]
    decide(ledger, *names, decided_at=THEN, is_sampled=False)
    decide(ledger, "a", decided_at=THEN)
    decide(ledger, "today", is_sampled=False)
    batches, last = [], None
    for _ in range(4):
        with ledger.begin() as tx:
            done = tx.upkeep.drop_keys(OLD, after=last, limit=3)
        batches.append(done.count)
        if (last := done.last) is None:
            break
    assert batches == [3, 3, 1]
    with ledger.begin() as tx:
        found = tx.decisions.find_many([RequestId(n) for n in [*names, "a", "today"]])
        assert set(found) == {A, RequestId("today")}
        [again] = tx.decisions.record([decided("u1", text="Another question")])
        assert again.is_new
    survey = kept(ledger, OLD)
    assert survey is not None
    assert not survey.has_keys


def test_a_batch_of_ids_that_just_fits_is_the_last_or_is_followed_by_none(ledger: Ledger) -> None:
    decide(ledger, "u1", "u2", decided_at=THEN, is_sampled=False)
    with ledger.begin() as tx:
        done = tx.upkeep.drop_keys(OLD, after=None, limit=2)
        assert done.count == 2
        if done.last is not None:
            rest = tx.upkeep.drop_keys(OLD, after=done.last, limit=2)
            assert (rest.count, rest.last) == (0, None)


# Routing states and what ages


def test_dropped_states_are_gone_and_the_active_one_stays(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for version in range(1, 5):
            tx.states.publish(state(version))
            tx.states.acknowledge(version, replica="r", now=NOON)
    with ledger.begin() as tx:
        assert tx.upkeep.drop_states([1, 2, 4, 99], actor="ann", now=NOON) == 2
        assert tx.upkeep.drop_states([1, 2], actor="ann", now=NOON) == 0
    with ledger.begin() as tx:
        assert [s.version for s in tx.states.history(limit=9)] == [4, 3]
        assert tx.states.find(1) is None
        assert tx.states.acknowledged(1) == {}
        assert (tx.states.active_version(), tx.states.active()) == (4, state(4))
        [entry] = tx.operations.audit_trail(limit=9)
        assert (entry.action, entry.detail) == ("states.dropped", {"versions": [1, 2]})
        tx.states.publish(state(5))
        assert tx.states.active_version() == 5


def test_aged_messages_feedback_and_calibrations_go_but_not_what_has_not_left(
    ledger: Ledger,
) -> None:
    decide(ledger, "r1")
    with ledger.begin() as tx:
        sent, waiting = tx.outbox.add([message("r1"), message("r2")])
        tx.outbox.mark([sent.message_id or 0], now=NOON)
        tx.operations.record_feedback(feedback("f1"))
        tx.operations.record_feedback(feedback("f2", received_at=later(99)))
        tx.states.record_calibration(calibration())
        tx.states.record_calibration(calibration(calibrated_at=later(99)))
    with ledger.begin() as tx:
        assert tx.upkeep.drop_aged(before=NOON, limit=9) == 0
        assert tx.upkeep.drop_aged(before=later(1), limit=9) == 3
        assert tx.upkeep.drop_aged(before=later(1), limit=9) == 0
    with ledger.begin() as tx:
        assert tx.outbox.unmarked(limit=9) == [waiting]
        assert tx.operations.record_feedback(feedback("f1"))
        assert not tx.operations.record_feedback(feedback("f2"))
        [left] = tx.states.calibrations(limit=9)
        assert left.calibrated_at == later(99)


def test_aged_rows_go_a_few_at_a_time(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for _ in range(5):
            tx.states.record_calibration(calibration())
    with ledger.begin() as tx:
        assert [tx.upkeep.drop_aged(before=later(1), limit=2) for _ in range(4)] == [2, 2, 1, 0]


# Erasing


def asked(
    ledger: Ledger, name: str, tenant: str, session_id: str | None, *, check: str | None = None
) -> None:
    given = decided(name, tenant=tenant)
    given = replace(given, prompt=replace(given.prompt, session_id=session_id, check=check))
    with ledger.begin() as tx:
        tx.decisions.record([given])
        tx.responses.record([response(name)])
        tx.responses.record_shadow(response(name, expert=ExpertId("other")))
        tx.operations.record_feedback(
            feedback(f"f-{name}", request_id=RequestId(name), comment="mine")
        )
        tx.labels.add([], [label(name)])


ALL = Erased(prompts=1, responses=1, shadow_answers=1, comments=1, embeddings=1)


def test_one_user_s_text_goes_and_everybody_else_s_stays(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1")
    asked(ledger, "b", "acme", "s2")
    asked(ledger, "c", "other", "s1")
    assert erase(ledger, "acme", "s1") == ALL
    with ledger.begin() as tx:
        assert tx.decisions.prompt_text(A) is None
        served, shadow = tx.responses.find(A), tx.responses.find_shadow(A, ExpertId("other"))
        assert served is not None
        assert shadow is not None
        assert (served.text, shadow.text) == (None, None)
        assert tx.decisions.find(A) is not None
        assert served.cost_usd == 0.0012
        assert tx.labels.count() == 3
        for other in (B, C):
            answer = tx.responses.find(other)
            assert tx.decisions.prompt_text(other) == "What is 2 + 2?"
            assert answer is not None
            assert answer.text == "4"


def test_a_check_is_kept_with_its_prompt_and_erased_with_it(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1", check=CHECK)
    asked(ledger, "b", "acme", "s2", check=CHECK)
    asked(ledger, "c", "acme", "s2")
    with ledger.begin() as tx:
        assert [tx.decisions.prompt_check(one) for one in (A, B, C)] == [CHECK, CHECK, None]
        assert tx.decisions.prompt_check(RequestId("unknown")) is None
    erase(ledger, "acme", "s1")
    with ledger.begin() as tx:
        assert [tx.decisions.prompt_check(one) for one in (A, B)] == [None, CHECK]


def test_a_whole_tenant_is_erased_without_a_session(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1")
    asked(ledger, "b", "acme", None)
    asked(ledger, "c", "other", None)
    assert erase(ledger, "acme") == ALL + ALL
    with ledger.begin() as tx:
        assert tx.decisions.prompt_text(C) is not None


def test_erasing_again_finds_nothing_and_says_nothing(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1")
    erase(ledger, "acme", "s1")
    with ledger.begin() as tx:
        revision = tx.upkeep.revision()
    assert erase(ledger, "acme", "s1") == Erased()
    with ledger.begin() as tx:
        assert tx.upkeep.revision() == revision != 0
        assert len(tx.operations.audit_trail(limit=9)) == 1


def test_an_erasure_is_audited_without_the_session_s_name(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "alice@example.com")
    erase(ledger, "acme", "alice@example.com")
    with ledger.begin() as tx:
        [entry] = tx.operations.audit_trail(limit=9)
    assert (entry.actor, entry.action) == ("ann", "text.erased")
    assert (entry.detail["tenant"], entry.detail["prompts"]) == ("acme", 1)
    assert "alice" not in str(entry.detail)


def test_an_erased_request_teaches_nothing_and_hides_no_other(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1")
    asked(ledger, "b", "acme", "s2")
    erase(ledger, "acme", "s1")
    with ledger.begin() as tx:
        assert [s.request_id for s in tx.decisions.sampled([A, B], encoder=ENCODER)] == [B]
        assert [
            s.request_id for s in tx.decisions.first_sampled(1, excluding_fold=0, encoder=ENCODER)
        ] == [B]
        probes = tx.decisions.recent_judged(
            9, excluding_fold=0, without=ExpertId("new"), encoder=ENCODER
        )
        assert [s.request_id for s in probes] == [B]


def test_a_redelivery_is_recognised_after_erasure(ledger: Ledger) -> None:
    asked(ledger, "a", "acme", "s1")
    erase(ledger, "acme", "s1")
    with ledger.begin() as tx:
        [same] = tx.decisions.record([decided("a", tenant="acme")])
        assert not same.is_new
        assert not same.is_conflict
        answers = tx.responses.record([response("a"), response("a", text="5")])
        assert answers == [ResponseOutcome.DUPLICATE, ResponseOutcome.CONFLICT]
    assert erase(ledger, "acme", "s1") == Erased()


def test_a_parked_answer_of_an_erased_request_loses_its_text(ledger: Ledger) -> None:
    decide(ledger, "r1", tenant="acme")
    with ledger.begin() as tx:
        tx.experts.add(expert())
        tx.responses.park(response("r1"), b"original", now=NOON)
        tx.responses.park(response("r2"), b"original", now=NOON)
    assert erase(ledger, "acme").parked_responses == 1
    assert erase(ledger, "acme") == Erased()
    with ledger.begin() as tx:
        found = {
            r.request_id: (r.text, raw)
            for r, raw in tx.responses.take_expired(before=later(1), limit=9)
        }
    assert found == {R1: (None, b""), R2: ("4", b"original")}
