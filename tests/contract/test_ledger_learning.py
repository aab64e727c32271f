"""The promises of ``store/ledger.py`` on what learning needs: responses, tasks, labels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.duels import AGAIN, DUEL, Duel
from store.errors import LeaseLost
from store.facts import PutOff, ResponseOutcome
from store.judging import Quarantine
from store.ledger import Ledger
from store.records import (
    ExpertId,
    JudgeTask,
    Label,
    RequestId,
    TaskStatus,
)
from store.upkeep import RETRIED
from tests.contract.acts import R1, R2, at_once, decide
from tests.factories import (
    CHEAP,
    NOON,
    STRONG,
    decided,
    expert,
    label,
    later,
    response,
    task,
    verdict,
)

# Responses


def test_a_response_is_new_once_then_a_duplicate_or_a_conflict(ledger: Ledger) -> None:
    decide(ledger, "r1")
    with ledger.begin() as tx:
        assert tx.responses.record([response()]) == [ResponseOutcome.NEW]
    with ledger.begin() as tx:
        outcomes = tx.responses.record(
            [
                response(received_at=later(90_000), latency_ms=1.0),
                response(text="5"),
                response(expert=STRONG),
                response(cost_usd=0.5),
                response(text=None),
                response("nobody"),
            ]
        )
        assert outcomes == [
            ResponseOutcome.DUPLICATE,
            *[ResponseOutcome.CONFLICT] * 4,
            ResponseOutcome.UNKNOWN_REQUEST,
        ]
        assert tx.responses.find(R1) == response()
        assert tx.responses.find(RequestId("nobody")) is None


def test_a_response_twice_in_one_batch_is_stored_once(ledger: Ledger) -> None:
    decide(ledger, "r1", "r2")
    with ledger.begin() as tx:
        batch = [response("r2"), response(), response(), response(text="5"), response("r3")]
        assert tx.responses.record(batch) == [
            ResponseOutcome.NEW,
            ResponseOutcome.NEW,
            ResponseOutcome.DUPLICATE,
            ResponseOutcome.CONFLICT,
            ResponseOutcome.UNKNOWN_REQUEST,
        ]


def test_a_response_without_text_or_cost_is_stored(ledger: Ledger) -> None:
    bare = response(
        text=None, cost_usd=None, input_tokens=None, output_tokens=None, latency_ms=None
    )
    decide(ledger, "r1")
    with ledger.begin() as tx:
        assert tx.responses.record([bare, bare]) == [ResponseOutcome.NEW, ResponseOutcome.DUPLICATE]
        assert tx.responses.find(R1) == bare


def test_a_shadow_answer_is_kept_once_per_request_and_expert(ledger: Ledger) -> None:
    decide(ledger, "r1")
    with ledger.begin() as tx:
        assert tx.responses.record_shadow(response(expert=STRONG))
        assert not tx.responses.record_shadow(response(expert=STRONG, text="other"))
        assert tx.responses.record_shadow(response(expert=CHEAP))
        assert tx.responses.find_shadow(R1, STRONG) == response(expert=STRONG)
        assert tx.responses.find_shadow(R2, STRONG) is None
        assert tx.responses.find(R1) is None


def test_mean_output_tokens_are_of_the_pools_latest_answers_that_state_them(
    ledger: Ledger,
) -> None:
    names = [f"r{n}" for n in range(1_001)]
    decide(ledger, *names, "shadowed", is_sampled=False)
    with ledger.begin() as tx:
        assert tx.responses.mean_output_tokens() == {}
        for name in ("cheap", "strong", "silent"):
            tx.experts.add(expert(name))
        old = response(names[0], received_at=later(-1), output_tokens=1_000_000)
        fresh = [response(name, received_at=NOON, output_tokens=10) for name in names[1:]]
        tx.responses.record([old, *fresh])
        shadow = response("shadowed", received_at=later(1), output_tokens=2_010)
        tx.responses.record_shadow(shadow)
        tx.responses.record_shadow(replace(shadow, expert=STRONG))
        tx.responses.record_shadow(replace(shadow, expert=ExpertId("silent"), output_tokens=None))
        assert tx.responses.mean_output_tokens() == {CHEAP: 12.0, STRONG: 2_010.0}


def test_a_parked_response_is_taken_once_its_decision_is_visible(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.responses.park(response(), b"raw 1", now=NOON)
        tx.responses.park(response(), b"again", now=later(1))
        tx.responses.park(response("r2"), b"raw 2", now=later(2))
    with ledger.begin() as tx:
        assert tx.responses.take_parked(limit=9) == []
    decide(ledger, "r1", "r2")
    with ledger.begin() as tx:
        assert tx.responses.take_parked(limit=1) == [(response(), b"raw 1")]
        assert tx.responses.take_parked(limit=9) == [(response("r2"), b"raw 2")]
        assert tx.responses.take_parked(limit=9) == []


def test_a_parked_response_expires(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.responses.park(response(), b"raw 1", now=NOON)
        tx.responses.park(response("r2"), b"raw 2", now=later(600))
    with ledger.begin() as tx:
        assert tx.responses.take_expired(before=NOON, limit=9) == []
        assert tx.responses.take_expired(before=later(600), limit=9) == [(response(), b"raw 1")]
        assert tx.responses.take_expired(before=later(600), limit=9) == []


# Judge tasks


def lease(ledger: Ledger, worker: str, *, after_s: float = 0, limit: int = 9) -> list[JudgeTask]:
    with ledger.begin() as tx:
        return tx.tasks.lease(worker=worker, now=later(after_s), lease_s=60, limit=limit)


def test_a_request_has_one_task_per_purpose_and_set_of_experts(ledger: Ledger) -> None:
    both = (CHEAP, STRONG)
    with ledger.begin() as tx:
        assert tx.tasks.add([task(), task(), task(purpose="probe"), task(experts=both)]) == 3
        assert tx.tasks.add([task(experts=both[::-1]), task("r2")]) == 1
        assert tx.tasks.counts() == {"pending": 4, "leased": 0, "done": 0, "dead": 0}


def test_tasks_are_leased_oldest_first_and_count_their_attempts(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        old = task("r1", created_at=later(-2), tenant="acme")
        tx.tasks.add([task("r2", created_at=later(-1)), old])
    [first, second] = lease(ledger, "w")
    assert (first.request_id, second.request_id) == (R1, R2)
    assert (first.attempts, first.status, first.experts) == (1, "leased", (CHEAP,))
    assert (first.purpose, first.tenant, second.tenant) == ("traffic", "acme", "default")
    assert first.created_at == later(-2)
    assert lease(ledger, "other") == []


def named(tasks: list[JudgeTask]) -> list[str]:
    return [str(one.request_id) for one in tasks]


def test_tenants_take_turns_from_the_one_behind_the_last(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for name, count in (("big", 30), ("Large", 30), ("small", 3)):
            tx.tasks.add(
                [task(f"{name}{n}", created_at=later(n), tenant=name) for n in range(count)]
            )
        tx.tasks.add([task("small-old", created_at=later(-9), tenant="small")])

    def next_after(tenant: str, limit: int) -> list[str]:
        with ledger.begin() as tx:
            now = later(99)
            return named(tx.tasks.lease(worker="w", now=now, lease_s=60, limit=limit, after=tenant))

    # By code point, whatever the database's collation: capitals first.
    assert next_after("", 4) == ["Large0", "big0", "small-old", "Large1"]
    assert next_after("Large", 4) == ["big1", "small0", "Large2", "big2"]
    assert next_after("zzz", 2) == ["Large3", "big3"]
    assert next_after("big", 7) == [
        "small1",
        "Large4",
        "big4",
        "small2",
        "Large5",
        "big5",
        "Large6",
    ]


def test_a_tenant_with_a_few_tasks_is_served_though_another_has_thousands_older(
    ledger: Ledger,
) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task(f"a{n}", created_at=later(-99), tenant="a") for n in range(2_000)])
        tx.tasks.add([task(f"z{n}", tenant="z") for n in range(3)])
    found = lease(ledger, "w", limit=6)
    assert [one.tenant for one in found] == ["a", "z"] * 3


def test_concurrent_workers_never_share_a_task(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task(f"r{n}") for n in range(40)])

    def work(number: int) -> list[int | None]:
        mine: list[int | None] = []
        while leased := lease(ledger, f"w{number}", limit=3):
            mine += [one.task_id for one in leased]
        return mine

    taken = [task_id for mine in at_once(8, work) for task_id in mine]
    assert len(taken) == len(set(taken)) == 40


def test_an_expired_lease_goes_to_another_worker_and_the_first_has_lost_it(
    ledger: Ledger,
) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task()])
    [mine] = lease(ledger, "w1")
    assert lease(ledger, "w2", after_s=59) == []
    [theirs] = lease(ledger, "w2", after_s=60)
    assert (theirs.task_id, theirs.attempts) == (mine.task_id, 2)
    assert mine.task_id is not None
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.finish(mine.task_id, worker="w1")
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.bury(mine.task_id, worker="w1", error="late")
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.give_back(mine.task_id, worker="w1", due_at=NOON, error="late", counts=True)
    with ledger.begin() as tx:
        tx.tasks.finish(mine.task_id, worker="w2")
        assert tx.tasks.counts()["done"] == 1
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.finish(mine.task_id, worker="w2")


def test_a_renewed_lease_lasts_from_now_and_counts_no_attempt(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task()])
    [mine] = lease(ledger, "w1")
    assert mine.task_id is not None
    with ledger.begin() as tx:
        tx.tasks.renew(mine.task_id, worker="w1", now=later(50), lease_s=60)
    assert lease(ledger, "w2", after_s=109) == []
    [theirs] = lease(ledger, "w2", after_s=110)
    assert theirs.attempts == 2
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.renew(mine.task_id, worker="w1", now=later(111), lease_s=60)
    with ledger.begin() as tx:
        tx.tasks.finish(mine.task_id, worker="w2")
    with pytest.raises(LeaseLost), ledger.begin() as tx:
        tx.tasks.renew(mine.task_id, worker="w2", now=later(111), lease_s=60)


@pytest.mark.parametrize(("counts", "attempts"), [(True, 2), (False, 1)])
def test_a_task_given_back_is_due_again_and_an_outage_takes_the_attempt_back(
    ledger: Ledger, counts: bool, attempts: int
) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task()])
    [mine] = lease(ledger, "w1")
    assert mine.task_id is not None
    with ledger.begin() as tx:
        due = later(30)
        tx.tasks.give_back(mine.task_id, worker="w1", due_at=due, error="503", counts=counts)
    assert lease(ledger, "w2", after_s=29) == []
    [again] = lease(ledger, "w2", after_s=30)
    assert (again.attempts, again.last_error) == (attempts, "503")


def test_the_oldest_task_is_one_that_is_not_over(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.tasks.oldest() is None
        tx.tasks.add([task(f"r{n}", created_at=later(n)) for n in range(3)])
        assert tx.tasks.oldest() == NOON
    first, second, _ = [one.task_id or 0 for one in lease(ledger, "w", after_s=9)]
    with ledger.begin() as tx:
        assert tx.tasks.oldest() == NOON
        tx.tasks.finish(first, worker="w")
        assert tx.tasks.oldest() == later(1)
        tx.tasks.bury(second, worker="w", error="gone")
        assert tx.tasks.oldest() == later(2)


def test_tasks_are_put_off_together_and_those_of_others_stay(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task(f"r{n}") for n in range(4)])
    mine = [one.task_id or 0 for one in lease(ledger, "w1", limit=2)]
    [theirs, *_] = [one.task_id or 0 for one in lease(ledger, "w2", limit=1)]
    with ledger.begin() as tx:
        assert tx.tasks.put_off([], worker="w1") == set()
        returned = [
            PutOff(task_id=task_id, due_at=later(30 + n), error=f"away {n}")
            for n, task_id in enumerate([*mine, theirs, 999])
        ]
        assert tx.tasks.put_off(returned, worker="w1") == set(mine)
        assert tx.tasks.put_off(returned, worker="w1") == set()
        assert tx.tasks.counts() == {"pending": 3, "leased": 1, "done": 0, "dead": 0}
    assert [one.request_id for one in lease(ledger, "w3", after_s=29)] == ["r3"]
    [first] = lease(ledger, "w3", after_s=30)
    [second] = lease(ledger, "w3", after_s=31)
    assert [one.task_id for one in (first, second)] == mine
    assert [(one.attempts, one.last_error) for one in (first, second)] == [
        (1, "away 0"),
        (1, "away 1"),
    ]


def test_a_buried_task_stays_counted_and_is_never_leased_again(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task()])
    [mine] = lease(ledger, "w1")
    assert mine.task_id is not None
    with ledger.begin() as tx:
        tx.tasks.bury(mine.task_id, worker="w1", error="unreadable")
        assert tx.tasks.add([task()]) == 0
    assert lease(ledger, "w2", after_s=9_999) == []
    with ledger.begin() as tx:
        assert tx.tasks.counts() == {"pending": 0, "leased": 0, "done": 0, "dead": 1}


def test_tasks_are_listed_newest_first_by_status(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task("r1", tenant="acme"), task("r2"), task("r3")])
    [mine] = lease(ledger, "w1", limit=1)
    assert mine.task_id is not None
    with ledger.begin() as tx:
        tx.tasks.bury(mine.task_id, worker="w1", error="gone")
        every = tx.tasks.listed(status=None, limit=9)
        assert [one.request_id for one in every] == ["r3", "r2", "r1"]
        assert tx.tasks.listed(status=None, limit=2) == every[:2]
        [dead] = tx.tasks.listed(status=TaskStatus.DEAD, limit=9)
        assert dead == every[2]
        assert (dead.last_error, dead.tenant, dead.attempts) == ("gone", "acme", 1)
        assert tx.tasks.listed(status=TaskStatus.DONE, limit=9) == []


def test_tasks_are_listed_by_purpose(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task("r1"), task("r1", experts=(STRONG, STRONG), purpose=DUEL), task("r2")])
        tx.tasks.add([task("r3", experts=(CHEAP, ExpertId("mid")), purpose=DUEL)])
        found = tx.tasks.listed(status=None, purpose=DUEL, limit=9)
        assert [(one.request_id, one.experts) for one in found] == [
            ("r3", (CHEAP, "mid")),
            ("r1", (STRONG, STRONG)),
        ]
        assert tx.tasks.listed(status=TaskStatus.DONE, purpose=DUEL, limit=9) == []
        assert tx.tasks.listed(status=None, purpose=DUEL, limit=1) == found[:1]


def test_a_duel_is_stored_with_its_decision_and_settles_no_label(ledger: Ledger) -> None:
    drawn = Duel(first=CHEAP, second="mid", probability=0.15)
    with ledger.begin() as tx:
        tx.decisions.record([decided("r1", duel=drawn), decided("r2")])
        tx.tasks.add([task("r1", experts=(CHEAP, ExpertId("mid")), purpose=DUEL)])
        below = tx.decisions.watermark(now=NOON, timeout_s=9e9)
    [mine] = lease(ledger, "w1")
    with ledger.begin() as tx:
        again = ExpertId(STRONG + AGAIN)
        tx.labels.add([verdict("r1", expert_a=again), verdict("r1", expert_a=again, call=1)], [])
        tx.tasks.finish(mine.task_id or 0, worker="w1")
    with ledger.begin() as tx:
        found = tx.decisions.find_many([RequestId("r1"), RequestId("r2")])
        assert [found[RequestId(name)].duel for name in ("r1", "r2")] == [drawn, None]
        assert [one.expert_a for one in tx.labels.verdicts_of(RequestId("r1"))] == [again, again]
        assert tx.labels.count() == 0
        assert tx.labels.settled_since(0).labels == ()
        assert tx.decisions.watermark(now=NOON, timeout_s=9e9) == below, "its label is awaited"


def test_a_quarantine_reopens_label_tasks_and_no_duel(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.decisions.record([decided("r1")])
        tx.tasks.add([task("r1"), task("r1", experts=(STRONG, STRONG), purpose=DUEL)])
    both = lease(ledger, "w1")
    with ledger.begin() as tx:
        tx.labels.add([verdict("r1")], [label("r1")])
        for mine in both:
            tx.tasks.finish(mine.task_id or 0, worker="w1")
        held = Quarantine(judge_version="judge-1", since=NOON, reason="lost", imposed_at=NOON)
        assert tx.judging.quarantine(held, actor="canaries") == 1
    assert [one.purpose for one in lease(ledger, "w2", after_s=1)] == ["traffic"]


def test_only_dead_tasks_are_retried_as_if_new_and_audited(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task("r1"), task("r2")])
    first, second = (one.task_id or 0 for one in lease(ledger, "w1"))
    with ledger.begin() as tx:
        tx.tasks.bury(first, worker="w1", error="gone")
    with ledger.begin() as tx:
        assert tx.tasks.retry([second, 10_000], actor="ann", now=later(60)) == []
        assert tx.operations.audit_trail(limit=9) == []
        assert tx.tasks.retry([second, first], actor="ann", now=later(60)) == [first]
        [entry] = tx.operations.audit_trail(limit=9)
        assert (entry.actor, entry.action, entry.at) == ("ann", RETRIED, later(60))
        assert entry.detail == {"tasks": [first]}
        assert tx.tasks.counts() == {"pending": 1, "leased": 1, "done": 0, "dead": 0}
    assert lease(ledger, "w2", after_s=59) == []
    again = [one for one in lease(ledger, "w2", after_s=60) if one.task_id == first]
    assert [(one.attempts, one.last_error) for one in again] == [(1, "gone")]


# Watermark


def settle(
    ledger: Ledger, request_id: str, *, dies: bool = False, purpose: str = "traffic"
) -> None:
    with ledger.begin() as tx:
        tx.tasks.add([task(request_id, purpose=purpose)])
        [leased] = tx.tasks.lease(worker="w", now=NOON, lease_s=60, limit=1)
        assert leased.task_id is not None
        if dies:
            tx.tasks.bury(leased.task_id, worker="w", error="gone")
        else:
            tx.tasks.finish(leased.task_id, worker="w")


def watermark(ledger: Ledger, *, after_s: float = 10) -> int:
    with ledger.begin() as tx:
        return tx.decisions.watermark(now=later(after_s), timeout_s=60)


def test_the_watermark_is_zero_without_decisions(ledger: Ledger) -> None:
    assert watermark(ledger) == 0


def test_the_watermark_is_the_last_seq_when_nothing_is_outstanding(ledger: Ledger) -> None:
    seqs = decide(ledger, "a", "b", is_sampled=False)
    assert watermark(ledger) == seqs[-1]


def test_the_watermark_waits_behind_a_sampled_request_until_its_task_is_done(
    ledger: Ledger,
) -> None:
    decide(ledger, "x", is_sampled=False)
    a, b, c = decide(ledger, "a", "b", "c")
    assert watermark(ledger) == a - 1
    settle(ledger, "b")
    assert watermark(ledger) == a - 1
    settle(ledger, "a", dies=True)
    assert watermark(ledger) == c - 1
    settle(ledger, "c")
    assert watermark(ledger) == c
    assert b < c


def test_a_finished_probe_does_not_move_the_watermark(ledger: Ledger) -> None:
    [a] = decide(ledger, "a")
    settle(ledger, "a", purpose="probe")
    assert watermark(ledger) == a - 1


def test_the_watermark_passes_what_is_older_than_the_timeout(ledger: Ledger) -> None:
    [a] = decide(ledger, "a")
    [b] = decide(ledger, "b", decided_at=later(30))
    assert watermark(ledger, after_s=60) == a - 1
    assert watermark(ledger, after_s=61) == b - 1
    assert watermark(ledger, after_s=91) == b


# Labels


def test_labels_are_append_only_and_the_first_of_a_key_wins(ledger: Ledger) -> None:
    decide(ledger, "r1")
    with ledger.begin() as tx:
        assert tx.labels.add([], [label(), label(outcome=0), label(judge_version="judge-2")]) == 2
        assert tx.labels.add([], [label(outcome=0, labelled_at=later(90_000))]) == 0
        assert tx.labels.count() == 2
    with ledger.begin() as tx:
        settled = set(tx.labels.settled_since(0).labels)
    assert settled == {label(), label(judge_version="judge-2")}


def test_the_first_label_wins_even_for_a_request_nobody_decided(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.labels.add([verdict()], [label(score=None)]) == 1
        assert tx.labels.add([], [label(labelled_at=later(90_000))]) == 0
    with ledger.begin() as tx:
        assert tx.labels.settled_since(0).labels == (label(score=None),)
        assert tx.labels.verdicts_of(R1) == [verdict()]


def test_verdicts_are_kept_by_pair_and_call(ledger: Ledger) -> None:
    decide(ledger, "r1")
    swapped = verdict(call=1, expert_a=STRONG, expert_b=CHEAP, preference=0.0)
    third = verdict(expert_b=ExpertId("other"))
    with ledger.begin() as tx:
        tx.labels.add([swapped, verdict(), third], [])
        tx.labels.add([verdict(preference=1.0)], [])
        tx.labels.add([verdict(expert_a=STRONG, expert_b=CHEAP)], [])
    with ledger.begin() as tx:
        assert tx.labels.verdicts_of(R1) == [third, verdict(), swapped]
        assert tx.labels.verdicts_of(R2) == []
        assert tx.labels.count() == 0


def read_all(ledger: Ledger, *, limit: int) -> list[Label]:
    read: list[Label] = []
    cursor = 0
    while True:
        with ledger.begin() as tx:
            settled = tx.labels.settled_since(cursor, limit=limit)
        if not settled.labels:
            return read
        read += settled.labels
        cursor = settled.cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_successive_reads_give_every_label_exactly_once(ledger: Ledger, limit: int) -> None:
    for first in range(0, 9, 3):
        with ledger.begin() as tx:
            tx.labels.add([], [label(f"r{n}") for n in range(first, first + 3)])
    names = [one.request_id for one in read_all(ledger, limit=limit)]
    assert sorted(names) == [f"r{n}" for n in range(9)]


def test_the_cursor_stays_when_there_is_nothing_new(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.labels.add([], [label()])
    with ledger.begin() as tx:
        cursor = tx.labels.settled_since(0).cursor
    with ledger.begin() as tx:
        again = tx.labels.settled_since(cursor)
        assert again.labels == ()
        assert again.cursor == cursor
        tx.labels.add([], [label("r2")])
    with ledger.begin() as tx:
        assert tx.labels.settled_since(cursor).labels == (label("r2"),)
