"""The only place that wires adapters: what each role runs."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from urllib.parse import quote

import numpy as np

from ingest.announce import announce_alert, announce_labels
from ingest.backbone import Backbone
from ingest.broker import KafkaSink, KafkaSource
from ingest.canary_age import CanaryAgeGauge
from ingest.crew import Crew
from ingest.degraded import DegradedHandler
from ingest.handler import RequestHandler, ResponseHandler
from ingest.http import build_app
from ingest.http_context import HttpContext
from ingest.http_serve import serve
from ingest.judging import PolicyPanel, client_factory, verifier_of
from ingest.live import Live, StateWatcher
from ingest.metrics import Metrics
from ingest.outbox import OutboxPublisher, Sweeper
from ingest.parking import Parking
from ingest.spool import Spool
from ingest.stream import BATCH, StreamWorker
from ingest.topics import PROMPTS, READERS, RESPONSES, full_name
from judge.batch import LONGEST_CALL_S
from judge.patrol import Patrol
from judge.probing import Prober
from judge.purse import Purse
from judge.spending import budgeted_clients
from judge.trusted import Trusted
from judge.worker import JudgeWorker
from online.encode import CachedEncoder, Encoder, SentenceEncoder, identity_of
from online.recorded import RecordedTraffic, load_recorded
from recalibrate.cycle import Recalibrator
from recalibrate.days import DayWatch
from recalibrate.rollback import roll_back
from recalibrate.schedule import run_every
from recalibrate.watch import HealthWatch
from store.errors import StoreUnavailable

LEARN_EVERY_S = 0.25
PROMPTS_AT_ONCE = 32
"""One encoder call's worth: a larger batch makes its first prompt wait for its last, and serves
them all by one routing state."""
LEADER_RETRY_S = 2.0
SLOW_S = 300.0
"""How long a learning step (fits of everything) may take before it counts as hanging; it is far
quicker as a rule. Who calls language models has ``LONGEST_CALL_S``: it asks before each call."""
LEDGER_RETRY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Station:
    """What the roles of one process share; adapters are built once, on first use."""

    backbone: Backbone
    crew: Crew
    stack: ExitStack
    metrics: Metrics


class Roles:
    """Starts roles in one process."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._backbone = station.backbone
        self._settings = station.backbone.settings
        self._ledger = station.backbone.ledger
        self._clock = station.backbone.clock
        self._crew = station.crew

    @cached_property
    def encoder(self) -> Encoder:
        """Return the prompt encoder with its cache on disk."""
        inner = SentenceEncoder(self._settings.encoder)
        return CachedEncoder(inner, self._settings.embedding_cache)

    @cached_property
    def live(self) -> Live:
        """Return this process's routing state."""
        return Live(encoder=self.encoder.identity, dimension=self.encoder.dimension)

    @cached_property
    def sink(self) -> KafkaSink:
        """Return the producer."""
        return self._station.stack.enter_context(closing(KafkaSink(self._settings.kafka)))

    @cached_property
    def outbox(self) -> OutboxPublisher:
        """Return the outbox; its sweeper runs from here on."""
        outbox = OutboxPublisher(
            self._ledger,
            self.sink,
            self._clock,
            self._settings.kafka.topic_prefix,
            counters=self._station.metrics,
        )
        self._crew.add("outbox-sweeper", Sweeper(self._clock, [outbox.sweep]).run)
        return outbox

    @cached_property
    def traffic(self) -> RecordedTraffic | None:
        """Return the recorded traffic that recorded experts and judges answer from."""
        path = self._settings.recorded
        return load_recorded(path) if path is not None else None

    def serve(self, listener: socket.socket) -> None:
        """Run HTTP and the decision path of the stream."""
        handler = RequestHandler(
            self._ledger, self.live, self.encoder, self.outbox, self._clock, self._station.metrics
        )
        watcher = StateWatcher(
            self.live,
            self._ledger,
            self._clock,
            replica=self._settings.replica,
            send=self.outbox.publish_now,
        )
        watcher.step()
        self._crew.add("state-watcher", lambda stop: self._hinted("watch", stop, watcher.run))
        self._stream("serve", handler)
        degraded = DegradedHandler(
            handler, self._ledger, self._spool(), self.outbox, self._clock, self._station.metrics
        )
        self._crew.add("spool", Sweeper(self._clock, [degraded.sweep]).run)
        app = build_app(
            HttpContext(
                handler=degraded,
                ledger=self._ledger,
                live=self.live,
                metrics=self._station.metrics,
                clock=self._clock,
                settings=self._settings.http,
                replica=self._settings.replica,
                rollback=lambda version, actor: roll_back(
                    self._ledger, version, actor=actor, clock=self._clock
                ),
            )
        )
        settings = self._settings.http
        self._crew.add("http", lambda stop: serve(app, settings, stop, listener=listener))

    def ingest(self) -> None:
        """Run the way of responses and feedback into the ledger."""
        self._stream("ingest", ResponseHandler(self._ledger, self._clock))

    def judge(self) -> None:
        """Run judge workers, who watches the judge, and the probes of experts out of service."""
        clients = client_factory(self.traffic)
        publish = self.outbox.publish_now
        purse = Purse(self._ledger, self._clock, announce=announce_alert, publish=publish)
        panel = PolicyPanel(
            self._ledger, self.traffic, self._settings.judges, self._clock, purse=purse
        )
        trusted = Trusted(panel, self._ledger, self._clock)
        add = partial(self._crew.add, quiet_s=LONGEST_CALL_S)
        for number in range(1, self._settings.judge_workers + 1):
            worker = JudgeWorker(
                self._ledger,
                trusted,
                budgeted_clients(clients, purse),
                self._clock,
                name=f"{self._settings.replica}-{os.getpid()}-{number}",
                announce=announce_labels,
                publish=publish,
                verifier=verifier_of(self._settings.judge_rules),
            )
            name = f"judge-{number}"
            add(name, partial(self._hinted, name, run=worker.run))
        show = CanaryAgeGauge(self._station.metrics).show
        patrol = Patrol(
            self._ledger, panel, self._clock, announce=announce_alert, send=publish, show=show
        )
        add("patrol", lambda stop: self._again("patrol", stop, patrol))
        prober = Prober(self._ledger, clients, self._clock)
        add("prober", lambda s: Sweeper(self._clock, [partial(prober.step, s)]).run(s))

    def learn(self) -> None:
        """Run learning, recalibration and upkeep while this process leads."""
        recalibrator = Recalibrator(
            self._ledger,
            self._clock,
            encoder=identity_of(self._settings.encoder),
            announce=announce_alert,
            send=self.outbox.publish_now,
        )
        days = DayWatch(
            self._ledger, self._clock, announce=announce_alert, send=self.outbox.publish_now
        )
        health = HealthWatch(
            self._ledger, self._clock, announce=announce_alert, send=self.outbox.publish_now
        )
        steps = (days.step, health.step, recalibrator.step)
        self._crew.add("learn", lambda stop: self._lead(stop, steps), quiet_s=SLOW_S)

    def _lead(self, stop: threading.Event, steps: Sequence[Callable[[], object]]) -> None:
        """Wait to become the only leader, then step until stopped."""

        def wait_or_lead() -> None:
            with self._ledger.lead("learn") as leads:
                if leads:
                    self._step_while_leading(stop, steps)
                else:
                    self._clock.wait(stop, LEADER_RETRY_S)

        while not stop.is_set():
            self._outlive("learn", stop, wait_or_lead)

    def _step_while_leading(
        self, stop: threading.Event, steps: Sequence[Callable[[], object]]
    ) -> None:
        failures: list[Exception] = []

        def step() -> None:
            if stop.is_set():  # asked in each round: this is the loop, the scheduler's owner rests
                return
            try:
                for each in steps:
                    each()
            except StoreUnavailable:
                self._station.metrics.count("learn_waiting", waiting_for="ledger")

        def give_up(problem: Exception) -> None:
            failures.append(problem)
            stop.set()

        run_every(LEARN_EVERY_S, step, stop, on_error=give_up)
        if failures:
            raise failures[0]

    def _spool(self) -> Spool:
        name = f"{quote(self._settings.replica, safe='')}.jsonl"
        return self._station.stack.enter_context(
            closing(Spool(self._settings.run_dir / "spool" / name))
        )

    def _stream(self, role: str, handler: RequestHandler | ResponseHandler) -> None:
        topics = READERS[role]
        kafka = self._settings.kafka
        prefix = kafka.topic_prefix
        names = [full_name(topic, prefix=prefix) for topic in topics]
        source = self._station.stack.enter_context(
            closing(KafkaSource(kafka, topics=names, role=role))
        )
        parking = Parking(
            self._ledger,
            handler,
            self.sink,
            self._clock,
            topic=full_name(RESPONSES, prefix=prefix),
            counters=self._station.metrics,
        )
        worker = StreamWorker(
            source,
            self.sink,
            handler,
            parking,
            self._clock,
            rng=np.random.default_rng(),
            counters=self._station.metrics,
            gauges=self._station.metrics,
            topic_prefix=prefix,
            max_prompt_bytes=self._settings.http.max_prompt_bytes,
            batch=PROMPTS_AT_ONCE if PROMPTS in topics else BATCH,
        )
        self._crew.add(f"{role}-stream", worker.run)
        if RESPONSES in topics:
            self._crew.add("parking", Sweeper(self._clock, [parking.sweep]).run)

    def _hinted(self, name: str, stop: threading.Event, run: Callable[..., None]) -> None:
        """Run a loop that rests on notifications, and close its listener afterwards."""

        def listen_and_run() -> None:
            with closing(self._ledger.notifications()) as hints:
                run(stop, hints)

        while not stop.is_set():
            self._outlive(name, stop, listen_and_run)

    def _again(self, name: str, stop: threading.Event, patrol: Patrol) -> None:
        """Run the patrol until stopped, through every outage of the ledger."""
        while not stop.is_set():
            self._outlive(name, stop, lambda: patrol.run(stop))

    def _outlive(self, name: str, stop: threading.Event, run: Callable[[], None]) -> None:
        """Run a loop until it returns or the ledger goes away: an outage pauses a role and never
        ends its process, which serves its last good state meanwhile.
        """
        try:
            run()
        except StoreUnavailable as away:
            self._station.metrics.count("stream_retries", step=name, waiting_for="ledger")
            log.warning("role.waiting", extra={"role": name, "problem": str(away)})
            self._clock.wait(stop, LEDGER_RETRY_S)
