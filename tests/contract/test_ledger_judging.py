"""What is known of judges, on every ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.judging import (
    AuditCandidate,
    AuditedPair,
    CanaryResult,
    Consistency,
    KeptVerdict,
    Quarantine,
    SourceAgreement,
    VersionLabels,
    panel_version,
)
from store.ledger import Ledger
from store.records import PROBE, TRAFFIC, ExpertId, JudgeTask, RequestId, TaskStatus
from store.upkeep import LIFTED, QUARANTINED
from tests.factories import (
    CHEAP,
    ENCODER,
    NOON,
    STRONG,
    decided,
    feedback,
    label,
    later,
    response,
    verdict,
)

HONEST, LIAR = "honest-1", "liar-1"


def kept(number: int, **changes: object) -> KeptVerdict:
    verdict = KeptVerdict(
        key=bytes([number]) * 32,
        judge_version=HONEST,
        preference=1.0,
        grade_a=None,
        grade_b=None,
        kept_at=later(number),
    )
    return replace(verdict, **changes)  # type: ignore[arg-type]


def quarantine(version: str = LIAR, **changes: object) -> Quarantine:
    one = Quarantine(
        judge_version=version, since=later(10), reason="a canary won", imposed_at=later(60)
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def canary(name: str, minutes: float, **changes: object) -> CanaryResult:
    one = CanaryResult(judge_version=HONEST, ran_at=later(minutes), name=name, is_right=True)
    return replace(one, **changes)  # type: ignore[arg-type]


def audited(request_id: str, **changes: object) -> AuditedPair:
    one = AuditedPair(
        request_id=RequestId(request_id),
        expert=CHEAP,
        auditor="ann",
        reference=STRONG,
        preference=0.5,
        judge_version=HONEST,
        judge_outcome=1,
        inclusion_probability=0.02,
        category="all",
        audited_at=later(1),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def test_a_verdict_is_kept_once_and_forgotten_by_age(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.judging.keep([])
        tx.judging.keep([kept(2), kept(1), kept(2, preference=0.0)])
        tx.judging.keep([kept(1, preference=0.0), kept(3, grade_a=0.25, grade_b=1.0)])
    with ledger.begin() as tx:
        assert tx.judging.kept([]) == {}
        assert tx.judging.kept([kept(n).key for n in (1, 2, 3, 4)]) == {
            kept(1).key: kept(1),
            kept(2).key: kept(2),
            kept(3).key: kept(3, grade_a=0.25, grade_b=1.0),
        }
        assert tx.judging.forget(before=later(3), limit=1) == 1
        assert tx.judging.forget(before=later(3), limit=9) == 1
        assert list(tx.judging.kept([kept(n).key for n in (1, 2, 3)])) == [kept(3).key]


def test_canaries_are_read_by_version_and_instant(ledger: Ledger) -> None:
    other = canary("null", 5, judge_version=LIAR, is_right=False, cost_usd=0.5)
    with ledger.begin() as tx:
        assert tx.judging.last_canaries_at(HONEST) is None
        tx.judging.record_canaries([canary("null", 2), canary("fake", 2, is_right=None)])
        tx.judging.record_canaries([canary("null", 1), other, canary("null", 2, is_right=False)])
    with ledger.begin() as tx:
        assert tx.judging.last_canaries_at(HONEST) == later(2)
        assert tx.judging.canary_runs() == {HONEST: later(2), LIAR: later(5)}
        assert tx.judging.canaries(HONEST, since=later(2)) == [
            canary("fake", 2, is_right=None),
            canary("null", 2),
        ]
        assert tx.judging.canaries(LIAR, since=NOON) == [other]


def judged(ledger: Ledger, *numbers: int, version: str = LIAR, purpose: str = TRAFFIC) -> None:
    """Decide, judge and label requests r1, r2, ..., each at its minute."""
    for number in numbers:
        name = RequestId(f"r{number}")
        task = JudgeTask(
            request_id=name, experts=(CHEAP,), purpose=purpose, created_at=later(number)
        )
        given = label(name, judge_version=version, purpose=purpose, labelled_at=later(number))
        with ledger.begin() as tx:
            tx.decisions.record([decided(name, decided_at=later(number), is_sampled=True)])
            tx.tasks.add([task])
            (leased,) = tx.tasks.lease(worker="w", now=later(number), lease_s=60.0, limit=1)
            tx.labels.add([], [given])
            tx.tasks.finish(leased.task_id or 0, worker="w")


def counted(ledger: Ledger) -> list[str]:
    with ledger.begin() as tx:
        return sorted(
            f"{x.request_id} {x.judge_version}" for x in tx.labels.settled_since(0).labels
        )


def test_a_quarantine_leaves_labels_out_and_has_them_judged_anew(ledger: Ledger) -> None:
    judged(ledger, 9, 10, 11)
    judged(ledger, 12, version=HONEST)
    judged(ledger, 13, purpose=PROBE)
    with ledger.begin() as tx:
        before = tx.upkeep.revision()
        assert tx.judging.quarantine(quarantine(), actor="canaries") == 3
    assert counted(ledger) == ["r12 honest-1", "r9 liar-1"]
    with ledger.begin() as tx:
        assert tx.upkeep.revision() != before
        assert tx.labels.arrived(since=NOON, encoder=ENCODER).requests == 2
        assert tx.labels.count() == 5
        assert tx.judging.quarantines() == [quarantine()]
        again = tx.tasks.lease(worker="w", now=later(60), lease_s=60.0, limit=9)
        assert sorted(task.request_id for task in again) == ["r10", "r11", "r13"]
        assert {task.attempts for task in again} == {1}
        assert all("liar-1" in (task.last_error or "") for task in again)
        newest = tx.operations.audit_trail(limit=1)[0]
        assert (newest.action, newest.actor) == (QUARANTINED, "canaries")
        assert newest.detail == {"judge_version": LIAR, "reason": "a canary won", "labels": 3}
        tx.labels.add([], [label("r10", judge_version=HONEST, labelled_at=later(61))])
    assert counted(ledger) == ["r10 honest-1", "r12 honest-1", "r9 liar-1"]


def test_what_is_left_out_is_no_reason_to_probe_and_none_not_to(ledger: Ledger) -> None:
    judged(ledger, 9, 11)
    judged(ledger, 12, version=HONEST)
    with ledger.begin() as tx:
        probe = label("r12", expert=ExpertId("new"), judge_version=LIAR, labelled_at=later(13))
        tx.labels.add([], [probe])

    def probed() -> list[str]:
        with ledger.begin() as tx:
            found = tx.decisions.recent_judged(
                9, excluding_fold=9, without=ExpertId("new"), encoder=ENCODER
            )
        return [request.request_id for request in found]

    assert probed() == ["r9", "r11"]
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(), actor="a")
    assert probed() == ["r9", "r12"]


def test_what_a_judge_said_before_its_quarantine_is_not_kept(ledger: Ledger) -> None:
    lies = [kept(n, judge_version=LIAR) for n in (9, 10, 11)]
    with ledger.begin() as tx:
        tx.judging.keep([*lies, kept(12)])
        tx.judging.quarantine(quarantine(), actor="a")
    with ledger.begin() as tx:
        found = tx.judging.kept([verdict.key for verdict in (*lies, kept(12))])
    assert set(found) == {lies[0].key, kept(12).key}


def test_a_quarantine_reaches_back_and_never_forward(ledger: Ledger) -> None:
    judged(ledger, 9, 10)
    with ledger.begin() as tx:
        assert tx.judging.quarantine(quarantine(since=later(11)), actor="a") == 0
        assert tx.judging.quarantine(quarantine(since=later(10)), actor="a") == 1
        again = quarantine(since=later(30), reason="another", imposed_at=later(90))
        assert tx.judging.quarantine(again, actor="a") == 1
        assert tx.judging.quarantines() == [replace(again, since=later(10))]


def test_a_lifted_quarantine_lets_labels_count_again(ledger: Ledger) -> None:
    judged(ledger, 9, 10)
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(), actor="a")
    with ledger.begin() as tx:
        before = tx.upkeep.revision()
        assert not tx.judging.lift(HONEST, actor="ann", now=later(70))
        assert tx.judging.lift(LIAR, actor="ann", now=later(70))
        assert not tx.judging.lift(LIAR, actor="ann", now=later(71))
        assert tx.upkeep.revision() != before
        assert tx.operations.audit_trail(limit=1)[0].action == LIFTED
        assert tx.judging.quarantines() == []
    assert counted(ledger) == ["r10 liar-1", "r9 liar-1"]


def compared(ledger: Ledger, number: int, *said: float, version: str = HONEST) -> None:
    """Compare the pair of request r<number> at its minute: cheap first, strong first, and so on."""
    name = f"r{number}"
    with ledger.begin() as tx:
        tx.decisions.record([decided(name, decided_at=later(number), is_sampled=True)])
        given = []
        for call, preference in enumerate(said):
            a, b = (CHEAP, STRONG) if call != 1 else (STRONG, CHEAP)
            given.append(
                verdict(
                    name,
                    expert_a=a,
                    expert_b=b,
                    judge_version=version,
                    call=call,
                    preference=preference,
                    judged_at=later(number),
                )
            )
        tx.labels.add(given, [])


def test_consistency_is_that_of_both_orders_on_the_newest_pairs(ledger: Ledger) -> None:
    compared(ledger, 1, 1.0, 0.0)
    compared(ledger, 2, 0.5, 0.5)
    compared(ledger, 3, 1.0, 1.0, 1.0)
    compared(ledger, 4, 0.0, 0.0, 1.0)
    compared(ledger, 5, 1.0)  # unreadable in the other order
    compared(ledger, 6, 0.0, 1.0, version=LIAR)

    def found(version: str = HONEST, *, minutes: float = 0, limit: int = 9) -> tuple[int, int]:
        with ledger.begin() as tx:
            one = tx.judging.consistency(version, since=later(minutes), limit=limit)
        assert (one.first_at is None) == (one.pairs == 0)
        return one.pairs, one.inconsistent

    assert found() == (4, 2)
    assert found(minutes=2) == (3, 2)
    assert found(limit=1) == (1, 1)
    assert found(LIAR) == (1, 0)
    assert found("unknown") == (0, 0)
    with ledger.begin() as tx:
        newest = tx.judging.consistency(HONEST, since=NOON, limit=2)
    assert newest == Consistency(pairs=2, inconsistent=2, first_at=later(3))
    assert newest.share == 1.0
    assert Consistency(pairs=0, inconsistent=0, first_at=None).share == 0.0


def test_labels_are_counted_by_version_with_those_left_out(ledger: Ledger) -> None:
    judged(ledger, 9, 10, 11)
    judged(ledger, 12, version=HONEST)
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(), actor="a")
    honest = VersionLabels(
        judge_version=HONEST, labels=1, left_out=0, first_at=later(12), last_at=later(12)
    )
    liar = VersionLabels(
        judge_version=LIAR, labels=3, left_out=2, first_at=later(9), last_at=later(11)
    )
    with ledger.begin() as tx:
        assert tx.judging.labelled(since=NOON) == [honest, liar]
        assert tx.judging.labelled(since=later(12)) == [honest]


def test_it_is_known_when_a_quarantine_was_lifted_last(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.judging.lifted_at(LIAR) is None
        for minutes in (70, 80):
            tx.judging.quarantine(quarantine(), actor="a")
            tx.judging.lift(LIAR, actor="ann", now=later(minutes))
        tx.judging.lift(HONEST, actor="ann", now=later(90))
    with ledger.begin() as tx:
        assert tx.judging.lifted_at(LIAR) == later(80)
        assert tx.judging.lifted_at(HONEST) is None


def test_feedback_is_compared_with_the_labels_of_the_answers_served(ledger: Ledger) -> None:
    served = {1: CHEAP, 2: CHEAP, 3: CHEAP, 4: STRONG, 5: CHEAP, 6: CHEAP}
    said = {1: 1.0, 2: 0.0, 3: 1.0, 4: 1.0, 5: 1.0, 6: 0.5}
    with ledger.begin() as tx:
        assert tx.judging.feedback_agreement() == []
        for number, expert in served.items():
            name = f"r{number}"
            tx.decisions.record([decided(name, decided_at=later(number), expert=expert)])
            word = feedback(f"f{number}", request_id=RequestId(name), rating=said[number])
            tx.operations.record_feedback(word)
        tx.operations.record_feedback(feedback("g", request_id=RequestId("r1"), source="another"))
        tx.labels.add(
            [],
            [
                label("r1", outcome=1, judge_version=HONEST),
                label("r1", outcome=0, judge_version="zeta"),
                label("r1", outcome=0, expert=ExpertId("mid"), judge_version="a"),
                label("r2", outcome=0, judge_version=HONEST),
                label("r3", outcome=1, judge_version=HONEST),
                label("r3", outcome=0, judge_version="verifier-1"),
                label("r4", outcome=1, expert=STRONG, judge_version=HONEST),
                label("r5", outcome=1, judge_version=LIAR, labelled_at=later(20)),
                label("r6", outcome=1, judge_version=HONEST),
            ],
        )
        tx.judging.quarantine(quarantine(), actor="a")
    with ledger.begin() as tx:
        assert tx.judging.feedback_agreement() == [
            SourceAgreement(source="another", ratings=1, judged=1, agreeing=1),
            SourceAgreement(source="user", ratings=6, judged=3, agreeing=2),
        ]


def test_a_person_is_heard_once_about_a_pair(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.judging.audit_pair(audited("r2", audited_at=later(2)))
        assert tx.judging.audit_pair(audited("r1"))
        assert not tx.judging.audit_pair(audited("r1", preference=1.0))
        assert tx.judging.audit_pair(audited("r1", auditor="bob", preference=0.0))
        assert tx.judging.audit_pair(audited("r1", expert=ExpertId("mid")))
    with ledger.begin() as tx:
        assert tx.judging.audited() == [
            audited("r1"),
            audited("r1", auditor="bob", preference=0.0),
            audited("r1", expert=ExpertId("mid")),
            audited("r2", audited_at=later(2)),
        ]


def answered(
    ledger: Ledger, number: int, *, text: str | None = "4", shadow: str | None = "four"
) -> None:
    """Store the served answer of the cheap expert and a shadow answer of the reference."""
    name = f"r{number}"
    with ledger.begin() as tx:
        tx.responses.record([response(name, text=text)])
        tx.responses.record_shadow(response(name, expert=STRONG, text=shadow))


def test_pairs_can_be_audited_while_their_texts_are_there(ledger: Ledger) -> None:
    judged(ledger, 1, 2, 3, 4, 5, version=HONEST)
    judged(ledger, 6, version="verifier-1")
    judged(ledger, 7, version=LIAR)
    judged(ledger, 8, version=HONEST, purpose=PROBE)
    for number in (1, 2, 6, 7, 8):
        answered(ledger, number)
    answered(ledger, 3, text=None)
    answered(ledger, 4, shadow=None)
    with ledger.begin() as tx:
        given = label("r1", expert=STRONG, judge_version=HONEST, labelled_at=later(1))
        tx.labels.add([], [given])
        found = tx.judging.auditable(HONEST, limit=9)
        assert [one.request_id for one in found] == ["r2", "r1"]
        assert found[1] == AuditCandidate(
            request_id=RequestId("r1"),
            expert=CHEAP,
            reference=STRONG,
            judge_version=HONEST,
            outcome=given.outcome,
            inclusion_probability=0.05,
            category="math",
            longer_by=-3,
            judged_at=later(1),
        )
        assert tx.judging.auditable(HONEST, limit=1) == []  # the last label is the reference's
        assert tx.judging.auditable(HONEST, limit=5) == found[:1]
        assert tx.judging.auditable("nobody", limit=9) == []
        tx.upkeep.erase(NOON.date(), tenant="default", session_id=None, actor="a", now=later(9))
        assert tx.judging.auditable(HONEST, limit=9) == []


def test_the_newest_version_is_the_one_whose_traffic_labels_count(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.judging.newest_version() is None
    judged(ledger, 9, version=HONEST)
    judged(ledger, 10, version=LIAR)
    judged(ledger, 11, version="probing", purpose=PROBE)
    judged(ledger, 12, version="verifier-1")
    with ledger.begin() as tx:
        assert tx.judging.newest_version() == LIAR
        tx.judging.quarantine(quarantine(), actor="a")
        assert tx.judging.newest_version() == HONEST
        assert tx.judging.auditable(LIAR, limit=9) == []


THIRD = "third-1"


def awaited(ledger: Ledger) -> int:
    with ledger.begin() as tx:
        return tx.decisions.watermark(now=later(61), timeout_s=60)


def pending(ledger: Ledger) -> list[str]:
    with ledger.begin() as tx:
        return sorted(t.request_id for t in tx.tasks.listed(status=TaskStatus.PENDING, limit=99))


def test_a_member_takes_the_labels_of_every_panel_with_it_along(ledger: Ledger) -> None:
    """Of panels that are no longer in force, of answers that nobody could judge, and late ones."""
    with_it, first = panel_version([HONEST, LIAR]), panel_version([LIAR, HONEST, THIRD])
    without = panel_version([HONEST, THIRD])
    judged(ledger, 9, 10, version=with_it)
    judged(ledger, 11, version=first)
    judged(ledger, 12, version=without)
    judged(ledger, 13)
    with ledger.begin() as tx:
        assert tx.judging.quarantine(quarantine(), actor="canaries") == 3
    assert counted(ledger) == sorted([f"r9 {with_it}", f"r12 {without}"])
    assert pending(ledger) == ["r10", "r11", "r13"]
    judged(ledger, 14, version=panel_version([THIRD, LIAR]))
    assert counted(ledger) == sorted([f"r9 {with_it}", f"r12 {without}"])
    with ledger.begin() as tx:
        left_out = {one.judge_version: one.left_out for one in tx.judging.labelled(since=NOON)}
        assert (left_out[with_it], left_out[first], left_out[without]) == (1, 1, 0)
        again = label("r10", judge_version=without, labelled_at=later(61))
        tx.labels.add([verdict("r10", judge_version=LIAR)], [again])  # as the earlier panel's are
    assert f"r10 {without}" in counted(ledger)


def test_of_two_members_in_quarantine_one_that_is_lifted_lifts_its_own_alone(
    ledger: Ledger,
) -> None:
    both, one = panel_version([HONEST, LIAR]), panel_version([THIRD, LIAR])
    judged(ledger, 10, version=both)
    judged(ledger, 11, version=one)
    judged(ledger, 12, version=LIAR)
    judged(ledger, 13, version="verifier-1")
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(), actor="a")
        tx.judging.quarantine(quarantine(HONEST), actor="a")
    assert counted(ledger) == ["r13 verifier-1"]
    assert awaited(ledger) == 0
    with ledger.begin() as tx:
        assert tx.judging.lift(LIAR, actor="ann", now=later(70))
    assert counted(ledger) == sorted([f"r11 {one}", "r12 liar-1", "r13 verifier-1"])
    assert pending(ledger) == ["r10"]
    assert awaited(ledger) == 0
    with ledger.begin() as tx:
        assert tx.judging.lift(HONEST, actor="ann", now=later(71))
    assert len(counted(ledger)) == awaited(ledger) == 4
    assert pending(ledger) == []


def test_a_panel_can_be_held_and_lifted_by_its_own_name(ledger: Ledger) -> None:
    panel = panel_version([HONEST, LIAR])
    judged(ledger, 10, version=panel)
    judged(ledger, 11, version=LIAR)
    with ledger.begin() as tx:
        assert tx.judging.quarantine(quarantine(panel), actor="ann") == 1
        assert tx.judging.quarantine(quarantine(), actor="ann") == 2
        assert tx.judging.lift(LIAR, actor="ann", now=later(70))
    assert counted(ledger) == ["r11 liar-1"]
    with ledger.begin() as tx:
        assert tx.judging.lift(panel, actor="ann", now=later(70))
    assert counted(ledger) == sorted([f"r10 {panel}", "r11 liar-1"])


def test_the_watermark_waits_for_what_is_judged_anew(ledger: Ledger) -> None:
    """As for a request that is judged for the first time: until its task ends, or the time-out."""
    judged(ledger, 9, 10, 11, 12)
    judged(ledger, 13, version=HONEST)
    assert awaited(ledger) == 5
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(), actor="a")
    assert awaited(ledger) == 1
    for name, seq in (("r10", 2), ("r11", 3)):
        with ledger.begin() as tx:
            (task,) = tx.tasks.lease(worker="w", now=later(61), lease_s=60.0, limit=1)
            assert task.request_id == name
            given = label(name, judge_version=HONEST, labelled_at=later(61))
            tx.labels.add([], [given])
            if name == "r10":
                tx.tasks.finish(task.task_id or 0, worker="w")
            else:
                tx.tasks.bury(task.task_id or 0, worker="w", error="its tenant is not judged")
        assert awaited(ledger) == seq
    with ledger.begin() as tx:
        assert tx.decisions.watermark(now=later(73), timeout_s=60) == 5


def test_a_probe_that_is_judged_anew_holds_no_watermark(ledger: Ledger) -> None:
    judged(ledger, 10, purpose=PROBE)
    with ledger.begin() as tx:
        task = JudgeTask(
            request_id=RequestId("r10"), experts=(CHEAP,), purpose=TRAFFIC, created_at=later(10)
        )
        tx.tasks.add([task])
        (leased,) = tx.tasks.lease(worker="w", now=later(10), lease_s=60.0, limit=1)
        tx.tasks.finish(leased.task_id or 0, worker="w")
        tx.judging.quarantine(quarantine(), actor="a")
    assert pending(ledger) == ["r10"]
    assert awaited(ledger) == 1


def test_what_another_judge_said_already_is_not_judged_a_third_time(ledger: Ledger) -> None:
    judged(ledger, 10, 11)
    with ledger.begin() as tx:
        tx.judging.quarantine(quarantine(since=later(11)), actor="a")
        (again,) = tx.tasks.lease(worker="w", now=later(61), lease_s=60.0, limit=9)
        tx.labels.add([], [label("r11", judge_version=HONEST, labelled_at=later(61))])
        tx.tasks.finish(again.task_id or 0, worker="w")
    with ledger.begin() as tx:
        assert tx.judging.quarantine(quarantine(since=later(9)), actor="a") == 2
    assert pending(ledger) == ["r10"]
    assert awaited(ledger) == 0


def test_a_lift_ends_no_task_that_never_brought_a_label(ledger: Ledger) -> None:
    judged(ledger, 10, purpose=PROBE)
    other = JudgeTask(
        request_id=RequestId("r10"), experts=(ExpertId("new"),), purpose=PROBE, created_at=later(10)
    )
    with ledger.begin() as tx:
        tx.tasks.add([other])
        tx.judging.quarantine(quarantine(), actor="a")
    with ledger.begin() as tx:
        assert tx.judging.lift(LIAR, actor="a", now=later(70))
        (left,) = tx.tasks.listed(status=TaskStatus.PENDING, limit=9)
    assert left.experts == other.experts


def test_a_quarantine_that_is_not_committed_leaves_everything_as_it_was(ledger: Ledger) -> None:
    panel = panel_version([HONEST, LIAR])
    judged(ledger, 10, version=panel)

    def crash() -> None:
        with ledger.begin() as tx:
            tx.judging.quarantine(quarantine(), actor="a")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        crash()
    assert counted(ledger) == [f"r10 {panel}"]
    assert (pending(ledger), awaited(ledger)) == ([], 1)
    with ledger.begin() as tx:
        assert tx.upkeep.revision() == 0
