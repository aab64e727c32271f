"""The whole loop in one thread over the in-memory ledger: replays, what-if questions, tests.

Same handler, judge worker and recalibration as in production; only Kafka, PostgreSQL and threads
are left out, so that a run is a pure function of its traffic and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.announce import announce_alert, announce_labels
from ingest.handler import RequestHandler
from ingest.live import Live, StateWatcher
from ingest.memory_stream import MemoryBroker, MemorySink
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher
from judge.pairs import Panel
from judge.port import Judge
from judge.recorded import RecordedJudge
from judge.worker import JudgeWorker
from online.encode import Encoder
from online.recorded import RecordedClient, RecordedTraffic
from recalibrate.cycle import Recalibrator
from store.clock import ManualClock
from store.facts import Recorded
from store.memory import MemoryLedger
from store.policy import PolicySettings
from store.records import (
    Decision,
    Expert,
    ExpertId,
    ExpertStatus,
    Price,
    PromptReceived,
    RequestId,
    ResponseReceived,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 16
SECONDS_PER_BATCH = 0.3
NOMINAL_USD = 1.0
"""Price of a request in traffic without costs."""
LEAST_USD = 1e-9
"""A recorded cost of zero still needs a positive price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request as it was answered, with what the recording knows of it."""

    decision: Decision
    score: float
    reference_score: float
    cost_usd: float | None
    reference_cost_usd: float | None

    def regret(self, margin: float) -> int:
        """Return 1 if the served answer was not acceptable against the reference."""
        return int(self.score < self.reference_score - margin - 1e-9)


class LocalLoop:
    """A router, its judge and its learner over recorded traffic."""

    def __init__(
        self,
        traffic: RecordedTraffic,
        policy: PolicySettings,
        encoder: Encoder,
        *,
        judge: Judge | None = None,
    ) -> None:
        self.traffic = traffic
        self.policy = policy
        self.clock = ManualClock(START)
        self.ledger = MemoryLedger(clock=self.clock)
        self.broker = MemoryBroker()
        self.panel = Panel((judge or RecordedJudge(traffic, margin=policy.margin),))
        self.start(encoder)
        self.set_policy(policy)

    def start(self, encoder: Encoder) -> None:
        """Begin every process anew: what one knew and the ledger does not is gone."""
        outbox = OutboxPublisher(self.ledger, MemorySink(self.broker), self.clock)
        self.live = Live(encoder=encoder.identity, dimension=encoder.dimension)
        self.handler = RequestHandler(
            self.ledger, self.live, encoder, outbox, self.clock, Metrics()
        )
        self.worker = JudgeWorker(
            self.ledger,
            lambda: self.panel,
            lambda expert: RecordedClient(expert, self.traffic),
            self.clock,
            name="local",
            announce=announce_labels,
            publish=outbox.publish_now,
        )
        self.recalibrator = Recalibrator(
            self.ledger,
            self.clock,
            encoder=encoder.identity,
            announce=announce_alert,
            send=outbox.publish_now,
        )
        self._watcher = StateWatcher(
            self.live, self.ledger, self.clock, replica="local", send=outbox.publish_now
        )

    def set_policy(self, policy: PolicySettings) -> None:
        """Put new settings in force."""
        self.policy = policy
        with self.ledger.begin() as tx:
            tx.policies.set(policy, actor="local", now=self.clock.now())

    def add_expert(self, name: ExpertId, price: Price) -> None:
        """Register an expert; it earns its place from here."""
        now = self.clock.now()
        with self.ledger.begin() as tx:
            tx.experts.add(
                Expert(
                    name=name,
                    status=ExpertStatus.REGISTERED,
                    price=price,
                    client={"kind": "recorded"},
                    added_at=now,
                    status_changed_at=now,
                )
            )
        self.settle()

    def settle(self, *, judge: bool = True) -> None:
        """Judge what waits, learn, and serve the newest state."""
        while judge and self.worker.step():
            pass
        self.recalibrator.step()
        self._watcher.step()

    def serve(
        self, requests: Sequence[RequestId], *, judge: Callable[[], bool] = lambda: True
    ) -> Iterator[Served]:
        """Route the requests in order and yield how each was answered.

        Parameters
        ----------
        judge
            Asked after every batch: whether the judge is there.
        """
        for chunk in _chunks(requests):
            recorded = self.handler.on_prompts([self._prompt(r) for r in chunk])
            decisions = [r.decision for r in recorded if isinstance(r, Recorded) and r.decision]
            served = [self._answered(d) for d in decisions]
            self.handler.on_responses([self._response(s) for s in served])
            self.clock.advance(SECONDS_PER_BATCH)
            self.settle(judge=judge())
            yield from served

    def _prompt(self, request_id: RequestId) -> PromptReceived:
        return PromptReceived(
            request_id=request_id,
            text=self.traffic.prompts[request_id],
            received_at=self.clock.now(),
        )

    def _answered(self, decision: Decision) -> Served:
        own = self.traffic.answers[decision.request_id, decision.expert]
        best = self.traffic.answers[decision.request_id, decision.reference]
        return Served(
            decision=decision,
            score=own.score,
            reference_score=best.score,
            cost_usd=own.cost_usd,
            reference_cost_usd=best.cost_usd,
        )

    def _response(self, served: Served) -> ResponseReceived:
        return ResponseReceived(
            request_id=served.decision.request_id,
            expert=served.decision.expert,
            received_at=self.clock.now(),
            cost_usd=served.cost_usd,
        )


def request_price(traffic: RecordedTraffic, expert: ExpertId, among: Sequence[RequestId]) -> Price:
    """Return a recorded expert's price: its mean cost a request over some prompts.

    Traffic without costs gets a nominal one; only quality and regret mean something then.
    """
    mean = traffic.mean_cost(expert, among)
    return Price(request_usd=NOMINAL_USD if mean is None else max(mean, LEAST_USD))


def _chunks(requests: Sequence[RequestId]) -> Iterator[Sequence[RequestId]]:
    for start in range(0, len(requests), BATCH):
        yield requests[start : start + BATCH]
