"""The judge's worker: nothing counted twice, nothing lost, an outage is nobody's fault."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from openai._constants import MAX_RETRY_AFTER_DELAY

from judge.batch import BATCH, LEASE_S, LONGEST_RETRY_S, MAX_ATTEMPTS, RETRY_AFTER_S, retry_after_s
from judge.paced import LONGEST_WAIT_S
from judge.pairs import UNREADABLE_TRIES, UNRELATED_RETRY_S, Panel
from judge.port import Judge, Question, Reply
from judge.recorded import PositionBiasedJudge
from judge.worker import JudgeWorker
from online.chat import CONNECT_S, RETRIES, TIMEOUT_S
from online.clients import Answer
from online.learner import LabelWindow
from store.clock import ManualClock
from store.errors import ExpertUnavailable, JudgeUnavailable, StoreUnavailable, VerdictUnreadable
from store.facts import PutOff
from store.judging import Quarantine
from store.memory import MemoryLedger
from store.memory_labels import MemoryLabels
from store.memory_tasks import MemoryTasks
from store.records import (
    PROBE,
    Expert,
    ExpertId,
    ExpertStatus,
    Label,
    OutboxMessage,
    RequestId,
    TaskStatus,
    Verdict,
)
from tests.factories import (
    CHEAP,
    ENCODER,
    NOON,
    STRONG,
    decided,
    expert,
    message,
    response,
    settings,
    task,
)

MID = ExpertId("mid")
Event = Callable[[], None]


class ScriptedJudge:
    """Prefers nothing; does what it is told at each call."""

    version = "scripted-1"
    family: str | None = None

    def most_usd(self, question: Question) -> float:
        return 0.001

    def __init__(self, *events: Event | Exception | None) -> None:
        self.events = list(events)
        self.asked: list[Question] = []

    def compare(self, question: Question) -> Reply:
        self.asked.append(question)
        event = self.events.pop(0) if self.events else None
        if isinstance(event, Exception):
            raise event
        if event is not None:
            event()
        return Reply(preference=0.5, cost_usd=0.001)


class Client:
    def __init__(self, name: ExpertId, asked: list[ExpertId], silent: set[ExpertId]) -> None:
        self._name, self._asked, self._silent = name, asked, silent

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        self._asked.append(self._name)
        if self._name in self._silent:
            raise ExpertUnavailable(f"{self._name} is silent")
        return Answer(text="shadow", cost_usd=0.002)


class Bench:
    """A ledger with judge tasks, and as many workers as a test wants."""

    def __init__(self, requests: int = 1, *, purpose: str = "traffic") -> None:
        self.clock = ManualClock(NOON)
        self.ledger = MemoryLedger(clock=self.clock)
        self.asked: list[ExpertId] = []
        self.silent: set[ExpertId] = set()
        self.sent: list[OutboxMessage] = []
        names = [f"r{n}" for n in range(requests)]
        with self.ledger.begin() as tx:
            for name in (CHEAP, MID, STRONG):
                tx.experts.add(expert(name))
            tx.decisions.record([decided(n, due_experts=(CHEAP, MID)) for n in names])
            tx.responses.record([response(n) for n in names])
            tx.tasks.add([task(n, experts=(CHEAP, MID), purpose=purpose) for n in names])

    def worker(self, judge: Judge, name: str = "w1") -> JudgeWorker:
        def client(member: Expert) -> Client:
            return Client(member.name, self.asked, self.silent)

        return JudgeWorker(
            self.ledger,
            lambda: Panel((judge,)),
            client,
            self.clock,
            name=name,
            announce=lambda labels: [message(x.expert) for x in labels],
            publish=self.sent.extend,
        )

    def labels(self) -> list[Label]:
        with self.ledger.begin() as tx:
            return list(tx.labels.settled_since(0).labels)

    def counts(self) -> dict[str, int]:
        with self.ledger.begin() as tx:
            return {k: v for k, v in tx.tasks.counts().items() if v}


def outcomes(labels: Sequence[Label]) -> dict[ExpertId, tuple[int, float | None]]:
    return {x.expert: (x.outcome, x.score) for x in labels}


def test_a_stopped_worker_gives_the_rest_of_its_batch_back() -> None:
    bench = Bench(3)
    stop = threading.Event()
    first = bench.worker(ScriptedJudge(stop.set))
    assert first.step(stop) == 3
    assert bench.counts() == {"done": 1, "pending": 2}
    bench.clock.advance(RETRY_AFTER_S)  # long before a lease would have expired
    assert bench.worker(ScriptedJudge(), "w2").step() == 2
    assert bench.counts() == {"done": 3}


def test_a_task_leaves_its_labels_its_verdicts_and_what_announces_them() -> None:
    bench = Bench()
    assert bench.worker(ScriptedJudge()).step() == 1
    assert bench.counts() == {"done": 1}
    assert outcomes(bench.labels()) == {CHEAP: (1, 0.5), MID: (1, 0.5), STRONG: (1, 0.5)}
    assert [m.key for m in bench.sent] == [CHEAP, MID, STRONG]
    with bench.ledger.begin() as tx:
        verdicts = tx.labels.verdicts_of(RequestId("r0"))
        assert len(tx.outbox.unmarked(limit=9)) == 3
    assert len(verdicts) == 4
    assert {(v.expert_a, v.expert_b) for v in verdicts} == {
        (CHEAP, STRONG),
        (STRONG, CHEAP),
        (MID, STRONG),
        (STRONG, MID),
    }


def test_the_served_answer_is_not_asked_again_and_shadow_answers_are_asked_once() -> None:
    bench = Bench()
    outage = ScriptedJudge(JudgeUnavailable("away"))
    bench.worker(outage).step()
    assert bench.asked == [MID, STRONG]
    bench.clock.advance(RETRY_AFTER_S)
    bench.worker(ScriptedJudge()).step()
    assert bench.asked == [MID, STRONG]
    assert outage.asked[0].answer_a.text == "4"
    assert outage.asked[0].answer_b.text == "shadow"


def test_a_request_with_nobody_to_judge_asks_nobody_and_still_has_a_row() -> None:
    bench = Bench()
    with bench.ledger.begin() as tx:
        tx.decisions.record([decided("r9", due_experts=(), expert=STRONG)])
        tx.responses.record([response("r9", expert=STRONG)])
        tx.tasks.add([task("r9", experts=())])
    judge = ScriptedJudge()
    bench.worker(judge).step()
    found = [x for x in bench.labels() if x.request_id == "r9"]
    assert outcomes(found) == {STRONG: (1, None)}
    assert not [q for q in judge.asked if q.request_id == "r9"]
    window = LabelWindow(encoder=ENCODER)
    window.read(bench.ledger)
    assert {row.request.request_id for row in window.rows()} == {"r0", "r9"}


def test_an_outage_gives_the_task_back_without_counting() -> None:
    bench = Bench()
    for _ in range(3 * MAX_ATTEMPTS):
        assert bench.worker(ScriptedJudge(JudgeUnavailable("away"))).step() == 1
        assert bench.counts() == {"pending": 1}
        assert bench.worker(ScriptedJudge()).step() == 0
        bench.clock.advance(RETRY_AFTER_S)
    assert bench.labels() == []
    bench.worker(ScriptedJudge()).step()
    assert bench.counts() == {"done": 1}


def test_a_task_waits_as_long_as_the_judge_rests() -> None:
    bench = Bench()
    bench.worker(ScriptedJudge(JudgeUnavailable("rests", retry_after_s=20 * RETRY_AFTER_S))).step()
    bench.clock.advance(20 * RETRY_AFTER_S - 1.0)
    assert bench.worker(ScriptedJudge()).step() == 0
    bench.clock.advance(1.0)
    assert bench.worker(ScriptedJudge()).step() == 1


def test_a_batch_that_meets_an_outage_goes_back_at_once_and_its_worker_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    returned: list[int] = []
    put_off = MemoryTasks.put_off

    def noted(held: MemoryTasks, tasks: Sequence[PutOff], *, worker: str) -> set[int]:
        returned.append(len(tasks))
        return put_off(held, tasks, worker=worker)

    bench = Bench(2 * BATCH)
    judge = ScriptedJudge(*[JudgeUnavailable("away")] * BATCH)
    worker = bench.worker(judge)
    monkeypatch.setattr(MemoryTasks, "put_off", noted)
    assert worker.step() == BATCH
    assert [count for count in returned if count] == [BATCH]
    assert bench.counts() == {"pending": 2 * BATCH}
    assert worker.step() == 0
    bench.clock.advance(RETRY_AFTER_S)
    assert [worker.step(), worker.step()] == [BATCH, BATCH]
    assert bench.counts() == {"done": 2 * BATCH}


def test_an_outage_for_one_task_alone_lets_no_worker_rest() -> None:
    bench = Bench(BATCH + 1)
    worker = bench.worker(ScriptedJudge(*[None] * 4, JudgeUnavailable("its tenant's budget")))
    assert [worker.step(), worker.step()] == [BATCH, 1]
    assert bench.counts() == {"done": BATCH, "pending": 1}


def test_each_failure_doubles_the_wait_up_to_a_limit_and_no_two_tasks_wait_alike() -> None:
    def wait_s(task_id: int, attempts: int) -> float:
        return retry_after_s(task(task_id=task_id, attempts=attempts))

    for attempts, longest in ((0, 10.0), (1, 10.0), (2, 20.0), (4, 80.0), (5, 120.0), (99, 120.0)):
        waits = [wait_s(task_id, attempts) for task_id in range(200)]
        assert longest / 2 <= min(waits) < 0.55 * longest
        assert 0.95 * longest < max(waits) <= longest
        assert len(set(waits)) == 200
    assert wait_s(7, 2) == wait_s(7, 2)
    assert wait_s(7, 5) != wait_s(7, 6)


def test_a_surprise_about_one_task_gives_it_back_and_ends_no_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(2)
    assert bench.worker(ScriptedJudge(TypeError("a text of the prompt"))).step() == 2
    assert bench.counts() == {"done": 1, "pending": 1}
    bench.clock.advance(RETRY_AFTER_S)
    with bench.ledger.begin() as tx:
        [again] = tx.tasks.lease(worker="w2", now=bench.clock.now(), lease_s=9.0, limit=9)
    assert (again.attempts, again.last_error) == (2, "unexpected TypeError")
    assert "a text of the prompt" not in caplog.text


def refuse_labels(monkeypatch: pytest.MonkeyPatch, request_id: str, *, times: int) -> None:
    """Let the ledger raise where labels of one request are to be stored."""
    add, left = MemoryLabels.add, itertools.repeat(None, times)

    def fragile(held: MemoryLabels, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> int:
        stored = add(held, verdicts, labels)
        if any(x.request_id == request_id for x in labels) and next(left, "spent") is None:
            raise ValueError("a text of the prompt")
        return stored

    monkeypatch.setattr(MemoryLabels, "add", fragile)


def test_labels_that_cannot_be_stored_with_others_are_stored_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_labels(monkeypatch, "r1", times=1)
    bench = Bench(3)
    assert bench.worker(ScriptedJudge()).step() == 3
    assert bench.counts() == {"done": 3}
    assert len(bench.labels()) == len(bench.sent) == 9


def test_a_task_whose_labels_cannot_be_stored_is_judged_again_and_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_labels(monkeypatch, "r1", times=2)
    bench = Bench(3)
    worker = bench.worker(ScriptedJudge())
    assert worker.step() == 3
    assert bench.counts() == {"done": 2, "pending": 1}
    assert {x.request_id for x in bench.labels()} == {"r0", "r2"}
    bench.clock.advance(RETRY_AFTER_S)
    assert worker.step() == 1
    assert bench.counts() == {"done": 3}
    assert len(bench.labels()) == len(bench.sent) == 9
    assert "judge.not_stored" in caplog.text
    assert "a text of the prompt" not in caplog.text


def test_a_task_whose_labels_can_never_be_stored_ends_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_labels(monkeypatch, "r1", times=99)
    bench = Bench(3)
    judge = ScriptedJudge()
    worker = bench.worker(judge)
    for _ in range(3 * MAX_ATTEMPTS):
        worker.step()
        bench.clock.advance(RETRY_AFTER_S * MAX_ATTEMPTS)
    assert bench.counts() == {"done": 2, "dead": 1}
    assert {x.request_id for x in bench.labels()} == {"r0", "r2"}
    paid = Counter(question.request_id for question in judge.asked)
    assert paid == {"r0": 4, "r1": 4 * MAX_ATTEMPTS, "r2": 4}


def test_a_ledger_that_goes_away_while_labels_are_stored_is_no_tasks_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(held: MemoryLabels, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> int:
        raise StoreUnavailable("away")

    bench = Bench(2)
    monkeypatch.setattr(MemoryLabels, "add", away)
    with pytest.raises(StoreUnavailable):
        bench.worker(ScriptedJudge()).step()
    assert bench.counts() == {"leased": 2}


class Killed(BaseException):
    """The end of a judge's process: nothing is given back, leases run out."""


def test_a_task_that_kills_its_judge_ends_as_losses_and_spoils_no_other() -> None:
    bench = Bench(BATCH + 3)
    deaths: Counter[str] = Counter()

    class Fragile(ScriptedJudge):
        def compare(self, question: Question) -> Reply:
            if question.request_id == "r1":
                deaths["r1"] += 1
                raise Killed
            return super().compare(question)

    for _ in range(6 * BATCH):
        try:
            if not bench.worker(Fragile()).step():
                bench.clock.advance(LEASE_S)
        except Killed:
            continue
    assert deaths["r1"] == MAX_ATTEMPTS
    assert bench.counts() == {"done": BATCH + 2, "dead": 1}
    lost = [x for x in bench.labels() if x.request_id == "r1"]
    assert outcomes(lost) == {CHEAP: (0, None), MID: (0, None)}
    rest = [x for x in bench.labels() if x.request_id != "r1"]
    assert {x.outcome for x in rest} == {1}


def test_the_neighbours_of_a_task_begun_before_wait_uncounted_and_keep_their_error() -> None:
    bench = Bench(3)
    with pytest.raises(Killed):
        bench.worker(ScriptedJudge(*[lambda: None] * 4, killed)).step()
    bench.clock.advance(LEASE_S)
    assert bench.worker(ScriptedJudge(JudgeUnavailable("away"))).step() == 1
    with bench.ledger.begin() as tx:
        waiting = tx.tasks.lease(worker="w2", now=bench.clock.now(), lease_s=9.0, limit=9)
    assert [(t.request_id, t.attempts) for t in waiting] == [("r1", 2), ("r2", 2)]


def test_a_worker_goes_on_with_the_tenant_behind_the_last() -> None:
    bench = Bench(0)
    names = [f"t{n:02}" for n in range(BATCH + 4)]
    with bench.ledger.begin() as tx:
        for name in names:
            tx.tasks.add([task(f"{name}-{n}", tenant=name, experts=()) for n in range(9)])
    worker = bench.worker(ScriptedJudge())
    for _ in range(2):
        worker.step()
    with bench.ledger.begin() as tx:
        rest = tx.tasks.lease(worker="look", now=bench.clock.now(), lease_s=9.0, limit=999)
    left = Counter(one.tenant for one in rest)
    assert left == {name: 7 if number < BATCH - 4 else 8 for number, name in enumerate(names)}


def test_a_task_begun_before_waits_for_the_new_ones_of_tenants_before_it() -> None:
    bench = Bench(3)
    with bench.ledger.begin() as tx:
        tx.tasks.lease(worker="gone", now=bench.clock.now(), lease_s=1.0, limit=1)
        tx.tasks.add([task("a1", tenant="a", experts=())])
    bench.clock.advance(1.0)
    worker = bench.worker(ScriptedJudge())
    with bench.ledger.begin() as tx:
        assert tx.tasks.counts()["leased"] == 1
    assert [worker.step() for _ in range(3)] == [1, 1, 2]


def killed() -> None:
    raise Killed


def test_a_ledger_that_is_away_is_no_tasks_fault() -> None:
    bench = Bench()
    with pytest.raises(StoreUnavailable):
        bench.worker(ScriptedJudge(StoreUnavailable("away"))).step()
    assert bench.counts() == {"leased": 1}


def test_an_expert_that_stays_silent_counts_as_a_loss_and_costs_no_other() -> None:
    bench = Bench()
    bench.silent.add(MID)
    for _ in range(MAX_ATTEMPTS):
        assert bench.labels() == []
        assert bench.worker(ScriptedJudge()).step() == 1
        bench.clock.advance(LONGEST_RETRY_S)
    assert bench.counts() == {"dead": 1}
    found = outcomes(bench.labels())
    assert found.pop(MID) == (0, None)
    assert found
    assert (0, None) not in found.values()
    assert bench.worker(ScriptedJudge()).step() == 0


@pytest.mark.parametrize("gone", [ExpertStatus.PAUSED, ExpertStatus.RETIRED])
def test_an_expert_that_left_the_pool_is_not_asked_and_not_labelled(gone: ExpertStatus) -> None:
    bench = Bench()
    bench.silent.add(MID)
    with bench.ledger.begin() as tx:
        member = tx.experts.find(MID)
        assert member is not None
        for step in (ExpertStatus.PAUSED, gone):
            if member.status is not step:
                tx.experts.set_status(MID, before=member.status, after=step, now=bench.clock.now())
                member = replace(member, status=step)
    bench.worker(ScriptedJudge()).step()
    assert bench.counts() == {"done": 1}
    assert MID not in outcomes(bench.labels())


def leave(bench: Bench, *names: ExpertId) -> None:
    with bench.ledger.begin() as tx:
        for name in names:
            member = tx.experts.find(name)
            assert member is not None
            tx.experts.set_status(
                name, before=member.status, after=ExpertStatus.PAUSED, now=bench.clock.now()
            )


def last_errors(bench: Bench) -> list[str]:
    with bench.ledger.begin() as tx:
        dead = tx.tasks.listed(status=TaskStatus.DEAD, limit=9)
    return [one.last_error or "" for one in dead]


def test_a_task_whose_experts_all_left_ends_dead_without_labels_and_asks_nobody() -> None:
    bench = Bench(requests=0)
    with bench.ledger.begin() as tx:
        tx.decisions.record([decided("r0", due_experts=(MID,))])
        tx.responses.record([response("r0")])
        tx.tasks.add([task("r0", experts=(MID,))])
    leave(bench, MID)
    judge = ScriptedJudge()
    assert bench.worker(judge).step() == 1
    assert bench.counts() == {"dead": 1}
    assert ["left the pool" in error for error in last_errors(bench)] == [True]
    assert (bench.labels(), bench.asked, judge.asked) == ([], [], [])


def test_an_answer_that_was_served_is_judged_though_its_expert_left() -> None:
    """Else the requests that it answered badly before it was taken out would count for nothing."""
    bench = Bench()
    leave(bench, CHEAP, MID)
    bench.worker(ScriptedJudge()).step()
    assert bench.counts() == {"done": 1}
    assert set(outcomes(bench.labels())) == {CHEAP, STRONG}


def test_a_reference_that_left_before_it_answered_is_a_loss_for_all() -> None:
    """Its answer is missing just where another served, so leaving these out would flatter λ."""
    bench = Bench()
    leave(bench, STRONG)
    for _ in range(MAX_ATTEMPTS):
        assert bench.labels() == []
        bench.worker(ScriptedJudge()).step()
        bench.clock.advance(LONGEST_RETRY_S)
    assert outcomes(bench.labels()) == {CHEAP: (0, None), MID: (0, None)}
    assert last_errors(bench) == ["the reference strong has left the pool"]
    assert bench.asked == []


def test_another_reference_since_changes_no_comparison() -> None:
    bench = Bench()
    with bench.ledger.begin() as tx:
        tx.policies.set(settings(reference=MID), actor="test", now=NOON)
    bench.worker(ScriptedJudge()).step()
    assert outcomes(bench.labels())[STRONG] == (1, 0.5)
    assert len(bench.labels()) == 3


def test_an_expert_that_comes_back_in_time_is_judged() -> None:
    bench = Bench()
    bench.silent.add(MID)
    bench.worker(ScriptedJudge()).step()
    bench.silent.clear()
    bench.clock.advance(RETRY_AFTER_S)
    bench.worker(ScriptedJudge()).step()
    assert outcomes(bench.labels())[MID] == (1, 0.5)


def test_an_unreadable_verdict_is_retried_then_a_loss_for_its_pair_alone() -> None:
    bench = Bench()
    judge = ScriptedJudge(*[VerdictUnreadable("?")] * UNREADABLE_TRIES)
    bench.worker(judge).step()
    assert outcomes(bench.labels())[CHEAP] == (0, None)
    assert outcomes(bench.labels())[MID] == (1, 0.5)
    assert bench.counts() == {"done": 1}


def test_a_verdict_that_is_readable_the_second_time_counts() -> None:
    bench = Bench()
    bench.worker(ScriptedJudge(VerdictUnreadable("?"))).step()
    assert outcomes(bench.labels())[CHEAP] == (1, 0.5)


def test_an_unreadable_reply_is_paid_for_by_the_verdict_that_follows_it() -> None:
    bench = Bench()
    bench.worker(ScriptedJudge(VerdictUnreadable("?", cost_usd=0.5))).step()
    with bench.ledger.begin() as tx:
        costs = [v.cost_usd for v in tx.labels.verdicts_of(RequestId("r0"))]
    assert sorted(costs) == [0.001, 0.001, 0.001, 0.501]


def test_the_readable_verdicts_of_a_pair_that_is_lost_are_kept() -> None:
    bench = Bench()
    bench.worker(ScriptedJudge(None, *[VerdictUnreadable("?")] * UNREADABLE_TRIES)).step()
    assert outcomes(bench.labels())[CHEAP] == (0, None)
    with bench.ledger.begin() as tx:
        kept = tx.labels.verdicts_of(RequestId("r0"))
    assert [(v.expert_a, v.call) for v in kept if CHEAP in (v.expert_a, v.expert_b)] == [(CHEAP, 0)]
    assert len(kept) == 3


def test_a_position_biased_judge_is_asked_a_third_time_and_loses() -> None:
    bench = Bench()
    bench.worker(PositionBiasedJudge()).step()
    assert outcomes(bench.labels())[CHEAP] == (0, 0.5)
    assert outcomes(bench.labels())[MID] == (0, 0.5)
    with bench.ledger.begin() as tx:
        assert len(tx.labels.verdicts_of(RequestId("r0"))) == 6


def taken_over(bench: Bench, other: JudgeWorker) -> Event:
    """While the first worker judges, its lease runs out and another worker finishes the task."""

    def event() -> None:
        bench.clock.advance(LEASE_S + 1.0)
        other.step()

    return event


def test_a_lost_lease_drops_the_result() -> None:
    bench = Bench()
    second = bench.worker(ScriptedJudge(), "w2")
    assert bench.worker(ScriptedJudge(taken_over(bench, second)), "w1").step() == 1
    assert bench.counts() == {"done": 1}
    assert len(bench.labels()) == 3
    assert len(bench.sent) == 3


@pytest.mark.parametrize(
    ("attempts", "ended", "found"), [(1, "done", (1, 0.5)), (MAX_ATTEMPTS, "dead", (0, None))]
)
def test_a_lease_lost_while_an_expert_was_silent_stops_nobody(
    attempts: int, ended: str, found: tuple[int, float | None]
) -> None:
    bench = Bench()
    bench.silent.add(MID)
    for _ in range(attempts - 1):
        bench.worker(ScriptedJudge()).step()
        bench.clock.advance(LONGEST_RETRY_S)

    class Slow(Client):
        def ask(self, request_id: RequestId, prompt: str) -> Answer:
            bench.clock.advance(LEASE_S + 1.0)
            bench.silent.clear()
            bench.worker(ScriptedJudge(), "w2").step()
            raise ExpertUnavailable("too late")

    slow = bench.worker(ScriptedJudge(), "w1")
    slow._answers._clients = lambda member: Slow(member.name, [], set())
    assert slow.step() == 1
    assert bench.counts() == {ended: 1}
    assert outcomes(bench.labels())[MID] == found


def test_a_lease_lost_during_an_outage_stops_nobody() -> None:
    bench = Bench()
    second = bench.worker(ScriptedJudge(), "w2")

    class Hanging(ScriptedJudge):
        def compare(self, question: Question) -> Reply:
            taken_over(bench, second)()
            raise JudgeUnavailable("timed out")

    assert bench.worker(Hanging(), "w1").step() == 1
    assert bench.counts() == {"done": 1}
    assert len(bench.labels()) == 3


SLOWEST_TRY_S = CONNECT_S + 2 * TIMEOUT_S
SLOWEST_CALL_S = (
    LONGEST_WAIT_S * 2 + (RETRIES + 1) * SLOWEST_TRY_S + RETRIES * MAX_RETRY_AFTER_DELAY
)
"""A seat and a turn, every try at its longest, and between them as long as an endpoint may have the
SDK wait."""


def test_no_call_outlasts_its_lease_and_nothing_is_paid_for_twice() -> None:
    assert SLOWEST_CALL_S < LEASE_S * 3 / 4
    bench = Bench(3)
    second = ScriptedJudge()

    def slow() -> None:
        bench.clock.advance(SLOWEST_CALL_S)
        bench.worker(second, "w2").step()

    first = ScriptedJudge(*[slow] * 4)

    class Slow(Client):
        def ask(self, request_id: RequestId, prompt: str) -> Answer:
            slow()
            return super().ask(request_id, prompt)

    worker = bench.worker(first)
    worker._answers._clients = lambda member: Slow(member.name, bench.asked, set())
    assert worker.step() == 3
    bench.clock.advance(RETRY_AFTER_S)
    bench.worker(second, "w2").step()
    assert bench.counts() == {"done": 3}
    assert {q.request_id for q in first.asked} == {"r0"}
    assert "r0" not in {q.request_id for q in second.asked}
    assert len(bench.asked) == 3 * 2
    assert len(bench.labels()) == 3 * 3


def test_what_is_finished_is_stored_before_a_further_call_of_a_long_task() -> None:
    bench = Bench(2)
    found: list[int] = []

    def long() -> None:
        bench.clock.advance(LEASE_S / 2)

    judge = ScriptedJudge(*[None] * 4, long, lambda: found.append(len(bench.labels())))
    bench.worker(judge).step()
    assert found == [3]


def test_a_slow_judge_gives_the_rest_of_its_batch_back_before_the_lease_ends() -> None:
    bench = Bench(3)
    judge = ScriptedJudge(lambda: bench.clock.advance(LEASE_S / 2 + 1.0))
    assert bench.worker(judge).step() == 3
    assert bench.counts() == {"done": 1, "pending": 2}
    assert len(judge.asked) == 4
    bench.clock.advance(RETRY_AFTER_S)
    assert bench.worker(ScriptedJudge(), "w2").step() == 2
    assert bench.counts() == {"done": 3}


@pytest.mark.parametrize("silent", [set(), {STRONG}])
def test_a_judge_that_is_not_configured_costs_no_answers_and_ends_no_worker(
    silent: set[ExpertId],
) -> None:
    class Unconfigured(ScriptedJudge):
        @property
        def version(self) -> str:  # type: ignore[override]
            raise JudgeUnavailable("not configured")

    bench = Bench()
    bench.silent |= silent
    for _ in range(MAX_ATTEMPTS + 1):
        assert bench.worker(Unconfigured()).step() == 1
        bench.clock.advance(RETRY_AFTER_S)
    assert bench.counts() == {"pending": 1}
    assert bench.asked == []


def test_two_workers_never_double_a_label() -> None:
    bench = Bench(requests=40)
    workers = [bench.worker(ScriptedJudge(), name) for name in ("w1", "w2")]
    while sum(w.step() for w in workers):
        pass
    found = [(x.request_id, x.expert) for x in bench.labels()]
    assert len(found) == len(set(found)) == 120
    assert bench.counts() == {"done": 40}


def test_a_task_without_a_prompt_is_buried() -> None:
    bench = Bench(requests=0)
    with bench.ledger.begin() as tx:
        tx.tasks.add([task("never-decided")])
    bench.worker(ScriptedJudge()).step()
    assert bench.counts() == {"dead": 1}
    assert bench.labels() == []


def test_probes_label_with_their_purpose() -> None:
    bench = Bench(purpose=PROBE)
    bench.worker(ScriptedJudge()).step()
    assert {x.purpose for x in bench.labels()} == {PROBE}


def test_a_judge_that_is_related_to_an_expert_is_away_for_it_and_says_what_to_do() -> None:
    bench = Bench()
    related = ScriptedJudge()
    related.family = str(MID)  # a recorded expert's family is told by its name
    bench.worker(related).step()
    assert bench.counts() == {"pending": 1}
    assert related.asked == []
    bench.clock.advance(UNRELATED_RETRY_S)
    with bench.ledger.begin() as tx:
        [waiting] = tx.tasks.lease(worker="w2", now=bench.clock.now(), lease_s=9.0, limit=9)
    assert waiting.attempts == 1
    assert "STEERSMAN_SECOND_JUDGE_BASE_URL" in (waiting.last_error or "")


def test_a_tenant_that_opts_out_takes_back_what_waits() -> None:
    bench = Bench()
    with bench.ledger.begin() as tx:
        tx.policies.set(settings(unjudged_tenants="default"), actor="test", now=NOON)
    judge = ScriptedJudge()
    assert bench.worker(judge).step() == 1
    assert not judge.asked
    assert not bench.asked, "no expert saw the prompt either"
    with bench.ledger.begin() as tx:
        assert tx.tasks.counts()["dead"] == 1
        assert tx.labels.count() == 0


def test_a_task_in_hand_while_its_judge_is_quarantined_is_done_again() -> None:
    bench = Bench()
    held = Quarantine(
        judge_version=ScriptedJudge.version, since=NOON, reason="a canary won", imposed_at=NOON
    )

    def impose() -> None:
        with bench.ledger.begin() as tx:
            assert tx.judging.quarantine(held, actor="canaries") == 0

    bench.worker(ScriptedJudge(impose)).step()
    with bench.ledger.begin() as tx:
        assert tx.labels.count() == 0
        assert tx.tasks.counts()["pending"] == 1
        (again,) = tx.tasks.lease(worker="w2", now=NOON, lease_s=9.0, limit=9)
    assert again.attempts == 1, "it is not the task's fault"
    assert "quarantine" in (again.last_error or "")


def test_a_panels_labels_carry_its_version_and_its_verdicts_their_judges() -> None:
    bench = Bench()
    one, two, third = ScriptedJudge(), ScriptedJudge(), ScriptedJudge()
    two.version, third.version = "scripted-2", "scripted-3"
    panel = Panel((one, two, third))
    worker = bench.worker(one)
    worker._panel = lambda: panel
    worker.step()
    assert {x.judge_version for x in bench.labels()} == {panel.version}
    assert outcomes(bench.labels()) == {CHEAP: (1, 0.5), MID: (1, 0.5), STRONG: (1, 0.5)}
    with bench.ledger.begin() as tx:
        verdicts = tx.labels.verdicts_of(RequestId("r0"))
    assert Counter(v.judge_version for v in verdicts) == {"scripted-1": 4, "scripted-2": 4}
    assert third.asked == []
