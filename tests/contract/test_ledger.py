"""The promises of ``store/ledger.py`` on transactions, decisions and leaders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from store.ledger import Ledger
from store.records import (
    ExpertId,
    Reason,
    RequestId,
)
from tests.contract.acts import R1, R2, at_once, decide
from tests.factories import (
    CHEAP,
    ENCODER,
    NOON,
    STRONG,
    decided,
    expert,
    label,
    later,
    message,
    response,
    settings,
    state,
    task,
    verdict,
)

# Decisions


def test_the_first_decision_of_a_request_wins(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        [first] = tx.decisions.record([decided()])
    with ledger.begin() as tx:
        [second] = tx.decisions.record([decided(expert=STRONG)])
        assert first.is_new
        assert not second.is_new
        assert not second.is_conflict
        assert second.decision == first.decision == tx.decisions.find(R1)


def test_a_stored_decision_comes_back_whole(ledger: Ledger) -> None:
    given = decided(degraded=True, gap=None, would_serve=STRONG, would_reason=Reason.NO_CANDIDATE)
    with ledger.begin() as tx:
        [recorded] = tx.decisions.record([given])
    with ledger.begin() as tx:
        assert recorded.decision is not None
        assert recorded.decision == replace(given.decision, seq=recorded.decision.seq)
        assert tx.decisions.find(R1) == recorded.decision
        assert tx.decisions.find_many([R1, R2]) == {R1: recorded.decision}
        assert tx.decisions.prompt_texts([R1, R2]) == {R1: "What is 2 + 2?"}
        assert tx.decisions.find(R2) is None


def test_the_same_id_with_another_prompt_is_a_conflict(ledger: Ledger) -> None:
    decide(ledger, "r1")
    with ledger.begin() as tx:
        [clash] = tx.decisions.record([decided(text="Another question")])
        assert clash.is_conflict
        assert not clash.is_new
        assert clash.decision is None
        assert tx.decisions.prompt_text(R1) == "What is 2 + 2?"


@pytest.mark.parametrize("moved_s", [1, 86_400, -86_400, 40 * 86_400])
def test_a_redelivery_at_another_time_or_day_gets_the_stored_decision(
    ledger: Ledger, moved_s: int
) -> None:
    [seq] = decide(ledger, "r1")
    with ledger.begin() as tx:
        [again] = tx.decisions.record([decided(decided_at=later(moved_s))])
        assert not again.is_new
        assert again.decision is not None
        assert again.decision.seq == seq
        assert again.decision.decided_at == NOON


def test_an_id_twice_in_one_batch_is_decided_once(ledger: Ledger) -> None:
    batch = [
        decided("r1"),
        decided("r2"),
        decided("r1", expert=STRONG),
        decided("r1", text="Another question"),
    ]
    with ledger.begin() as tx:
        first, other, again, clash = tx.decisions.record(batch)
    assert [first.is_new, other.is_new, again.is_new, clash.is_new] == [True, True, False, False]
    assert again.decision == first.decision
    assert clash.is_conflict
    assert [r.request_id for r in (first, other, again, clash)] == [R1, R2, R1, R1]


def test_an_empty_batch_is_nothing(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.decisions.record([]) == []
        assert tx.responses.record([]) == []
        assert tx.tasks.add([]) == 0
        assert tx.labels.add([], []) == 0
        assert tx.outbox.add([]) == []
        tx.outbox.mark([], now=NOON)
        assert tx.decisions.find_many([]) == {}
        assert tx.decisions.sampled([], encoder=ENCODER) == []


def test_seq_follows_the_order_of_batches_and_of_each_batch(ledger: Ledger) -> None:
    seqs = decide(ledger, "z", "m", "a") + decide(ledger, "y", "b")
    assert seqs == sorted(set(seqs))
    with ledger.begin() as tx:
        assert tx.decisions.last_seq() == seqs[-1]


def test_the_newest_decision_says_which_state_serves(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.decisions.record([decided("a", state_version=7), decided("b", state_version=8)])
        tx.decisions.record([decided("c", state_version=6)])
    with ledger.begin() as tx:
        assert tx.decisions.newest_version() == 6
        assert tx.decisions.newest_at() == decided("c").decision.decided_at


def test_before_the_first_decision_there_is_no_newest(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert (tx.decisions.last_seq(), tx.decisions.newest_version()) == (0, 0)
        assert tx.decisions.newest_at() is None


def test_a_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    class Stop(Exception):
        pass

    def write_and_fail() -> None:
        with ledger.begin() as tx:
            tx.experts.add(expert())
            tx.decisions.record([decided()])
            tx.responses.record([response()])
            tx.responses.park(response("r9"), b"raw", now=NOON)
            tx.tasks.add([task()])
            tx.labels.add([verdict()], [label()])
            tx.states.publish(state())
            tx.policies.set(settings(), actor="me", now=NOON)
            tx.outbox.add([message()])
            tx.operations.reserve("judge", day="2026-03-14", amount=5, limit=5)
            raise Stop

    with pytest.raises(Stop):
        write_and_fail()
    with ledger.begin() as tx:
        assert tx.experts.all() == []
        assert tx.decisions.find(R1) is None
        assert tx.decisions.prompt_text(R1) is None
        assert tx.responses.find(R1) is None
        assert tx.responses.take_expired(before=later(9), limit=9) == []
        assert tx.tasks.counts() == {"pending": 0, "leased": 0, "done": 0, "dead": 0}
        assert tx.labels.count() == 0
        assert tx.labels.settled_since(0).labels == ()
        assert tx.labels.verdicts_of(R1) == []
        assert tx.states.active_version() == 0
        assert tx.policies.current() is None
        assert tx.outbox.unmarked(limit=9) == []
        assert tx.operations.audit_trail(limit=9) == []
        assert tx.operations.reserve("judge", day="2026-03-14", amount=5, limit=5) == 5


def test_concurrent_writers_of_one_request_get_one_decision(ledger: Ledger) -> None:
    def write(number: int) -> tuple[bool, ExpertId]:
        with ledger.begin() as tx:
            [r] = tx.decisions.record([decided(expert=ExpertId(f"e{number}"))])
        assert r.decision is not None
        return r.is_new, r.decision.expert

    answers = at_once(8, write)
    assert sum(is_new for is_new, _ in answers) == 1
    assert len({name for _, name in answers}) == 1


def test_overlapping_batches_in_opposite_orders_do_not_block_each_other(ledger: Ledger) -> None:
    names = [f"r{n}" for n in range(40)]

    def write(number: int) -> int:
        order = names if number % 2 else names[::-1]
        with ledger.begin() as tx:
            return sum(r.is_new for r in tx.decisions.record([decided(n) for n in order]))

    assert sum(at_once(6, write)) == len(names)


def test_a_prompt_with_null_characters_and_lone_surrogates_is_kept_whole(ledger: Ledger) -> None:
    text = "a\x00b\ud800c"
    decide(ledger, "r1", text=text)
    with ledger.begin() as tx:
        tx.responses.record([response(text=text)])
    with ledger.begin() as tx:
        answer = tx.responses.find(R1)
        assert tx.decisions.prompt_text(R1) == text
        assert answer is not None
        assert answer.text == text


# Sampled requests


def test_a_sampled_requests_embedding_comes_back_as_float32_from_fp16(ledger: Ledger) -> None:
    given = decided()
    with ledger.begin() as tx:
        tx.decisions.record([given, decided("r2", is_sampled=False)])
    with ledger.begin() as tx:
        [sampled] = tx.decisions.sampled([R1, R2], encoder=ENCODER)
        assert sampled.embedding.dtype == np.float32
        halved = given.embedding.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(sampled.embedding, halved)
        assert (sampled.request_id, sampled.served_expert, sampled.reference) == (R1, CHEAP, STRONG)
        assert (sampled.fold, sampled.due_experts) == (1, (CHEAP,))
        assert (sampled.inclusion_probability, sampled.threshold) == (0.05, 0.5)
        assert (sampled.state_version, sampled.decided_at, sampled.tenant) == (1, NOON, "default")
        assert sampled.category == given.decision.category == "math"


def test_sampled_requests_come_by_seq_whatever_their_day(ledger: Ledger) -> None:
    decide(ledger, "c", decided_at=later(86_400))
    decide(ledger, "a")
    decide(ledger, "b", fold=0)
    with ledger.begin() as tx:
        asked = [RequestId(n) for n in ("a", "b", "c", "unknown")]
        assert [s.request_id for s in tx.decisions.sampled(asked, encoder=ENCODER)] == [
            "c",
            "a",
            "b",
        ]
        first = tx.decisions.first_sampled(5, excluding_fold=0, encoder=ENCODER)
        assert [s.request_id for s in first] == ["c", "a"]
        [lowest] = tx.decisions.first_sampled(1, excluding_fold=1, encoder=ENCODER)
        assert lowest.request_id == "b"


def test_a_request_embedded_by_another_encoder_is_not_there_for_this_one(ledger: Ledger) -> None:
    """Every reader that learns; the counts ask for so many of its own."""
    with ledger.begin() as tx:
        tx.decisions.record([decided("a"), replace(decided("b"), encoder_hash="encoder-2")])
        tx.decisions.record([decided("c"), replace(decided("d"), encoder_hash="encoder-2")])
        tx.labels.add([], [label(n) for n in "abcd"])
    new = ExpertId("new")
    with ledger.begin() as tx:
        for encoder, own in ((ENCODER, ["a", "c"]), ("encoder-2", ["b", "d"]), ("other", [])):
            asked = [RequestId(n) for n in "abcd"]
            found = tx.decisions.sampled(asked, encoder=encoder)
            first = tx.decisions.first_sampled(2, excluding_fold=0, encoder=encoder)
            probes = tx.decisions.recent_judged(2, excluding_fold=0, without=new, encoder=encoder)
            for some in (found, first, probes):
                assert [r.request_id for r in some] == own


def test_probes_are_the_latest_judged_requests_that_lack_the_expert(ledger: Ledger) -> None:
    decide(ledger, "a", "b", "c", "d", "e")
    decide(ledger, "f", fold=0)
    with ledger.begin() as tx:
        tx.labels.add([], [label(n) for n in "abcf"] + [label("d", purpose="probe")])
        tx.labels.add([], [label("b", expert=ExpertId("new"), purpose="probe")])
    with ledger.begin() as tx:
        probes = tx.decisions.recent_judged(
            9, excluding_fold=0, without=ExpertId("new"), encoder=ENCODER
        )
        assert [s.request_id for s in probes] == ["a", "c"]
        [latest] = tx.decisions.recent_judged(
            1, excluding_fold=0, without=ExpertId("new"), encoder=ENCODER
        )
        assert latest.request_id == "c"


# Leading


def test_a_role_has_one_leader_at_a_time(ledger: Ledger) -> None:
    with ledger.lead("learn") as first:
        with ledger.lead("learn") as second, ledger.lead("sweep") as other:
            assert (first, second, other) == (True, False, True)
        with ledger.lead("learn") as still:
            assert not still
    with ledger.lead("learn") as free:
        assert free


def test_a_leader_may_open_transactions(ledger: Ledger) -> None:
    with ledger.lead("learn") as leads, ledger.begin() as tx:
        tx.experts.add(expert())
        assert leads
        assert tx.experts.find(CHEAP) == expert()
