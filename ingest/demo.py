"""The demo's story: the whole loop on real traffic, as separate processes over Kafka and HTTP."""

from __future__ import annotations

import shutil
import signal
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from ingest import keys
from ingest.backbone import Backbone, open_backbone
from ingest.commands import Operator
from ingest.console import Progress, print_summary
from ingest.demo_facts import StoryLog, gather
from ingest.demo_traffic import (
    GEMINI,
    JOINS_AT,
    LLAMA,
    MISTRAL,
    REGRESSED_SHARE,
    REGRESSES_AT,
    SHORT_NAMES,
    WARM,
    DemoPrompt,
    injected,
    load_prompts,
    write_recorded,
)
from ingest.feed import Api, Feed
from ingest.settings import ProcessSettings
from ingest.stage import Stage, StageFailed
from recalibrate.report import render_html
from recalibrate.summary import summarise
from store.clock import Clock, SystemClock
from store.errors import SettingsInvalid
from store.postgres.views import count_responses
from store.records import ExpertId, JsonObject

ALPHA = 0.10
LABEL_RATE = 0.30
DRAIN_S = 120.0
PHASES = ("warm start", "two experts", "a third joins", "after the injection")


class Interrupted(Exception):
    """Ctrl-C or SIGTERM; everything that was started is stopped on the way out."""


def run_demo(settings: ProcessSettings, *, keep: bool, inject: str) -> int:
    """Run the demo; return the exit status."""
    if inject not in {*SHORT_NAMES, "none"}:
        raise SettingsInvalid(f"--inject must be llama, mistral or none, got {inject!r}")
    _interrupt_on_signals()
    clock = SystemClock()
    started = clock.monotonic()
    run_dir = settings.run_dir / "demo"
    prompts = injected(load_prompts(), SHORT_NAMES.get(inject))
    recorded = _prepare(run_dir, prompts)
    environment = {
        "STEERSMAN_RUN_DIR": str(run_dir),
        "STEERSMAN_CACHE_DIR": str(settings.embedding_cache),
        "STEERSMAN_RECORDED": str(recorded),
        "STEERSMAN_HTTP_PORT": "0",
    }
    try:
        with Progress(total=len(prompts)) as show, Stage(run_dir, environment, clock) as stage:
            show.event("starting an embedded PostgreSQL and an embedded Kafka-protocol broker")
            stage.start("up", ["up"])
            connection = stage.wait_for_connection("up")
            stage.start("gateway", ["consume"])
            with open_backbone(replace(settings, run_dir=run_dir), embedded=False) as backbone:
                story = Story(backbone, stage, show, prompts, connection["http_url"], clock)
                with closing(Feed(backbone.settings.kafka, clock)) as feed:
                    story.tell(feed, SHORT_NAMES.get(inject))
                    facts = gather(story.log, feed, backbone, prompts, alpha=ALPHA)
                status, counted = stage.run(["recount", str(recorded)])
            show.close()
            summary = summarise(facts)
            report = run_dir / "report.html"
            report.write_text(render_html(summary), encoding="utf-8")
            print_summary(summary)
            _last_words(counted, report, run_dir, seconds=clock.monotonic() - started)
            if keep:
                _wait_for_interrupt(connection["http_url"])
            return status
    except Interrupted:
        print("\nstopped; everything that was started has been stopped")  # noqa: T201
        return 130


class Story:
    """What happens when; each step through the public interfaces."""

    def __init__(
        self,
        backbone: Backbone,
        stage: Stage,
        show: Progress,
        prompts: list[DemoPrompt],
        url: str,
        clock: Clock,
    ) -> None:
        self._backbone = backbone
        self._stage = stage
        self._show = show
        self._prompts = prompts
        self._clock = clock
        key = keys.create(backbone.ledger, "demo", [keys.Scope.ADMIN], clock)
        self._api = Api(url, key)
        self.log = StoryLog(self._api, clock)

    def tell(self, feed: Feed, regressing: ExpertId | None) -> None:
        """Stream everything and wait until the loop has come to rest."""
        streamed = len(self._prompts) - WARM
        joins = WARM + int(JOINS_AT * streamed)
        regresses = WARM + int(REGRESSES_AT * streamed)
        self._open_for_business()
        self._stream(feed, PHASES[0], 0, WARM)
        self._settle(feed)
        self._api.patch("/v1/policy", {"label_rate": LABEL_RATE})
        self._stream(feed, PHASES[1], WARM, joins)
        self._add(MISTRAL)
        self.log.note(joins, f"{MISTRAL} was added through the public API", subject=MISTRAL)
        self._stream(feed, PHASES[2], joins, regresses)
        if regressing is not None:
            self.log.note(
                regresses,
                f"INJECTED: from here {REGRESSED_SHARE:.0%} of {regressing}'s answers are"
                " unacceptable; nothing in the loop is told",
                subject=regressing,
                is_injected=True,
            )
        self._stream(feed, PHASES[3], regresses, len(self._prompts))
        self._settle(feed)

    def _open_for_business(self) -> None:
        operator = Operator(self._backbone.ledger, self._clock)
        operator.set_policy(
            {"reference": GEMINI, "alpha": str(ALPHA), "label_rate": "1.0", "judge": "recorded"}
        )
        for expert in (GEMINI, LLAMA):
            self._add(expert)

    def _add(self, expert: ExpertId) -> None:
        """Register an expert at its mean recorded cost over the warm-start prompts."""
        costs = [p.answers[expert][1] for p in self._prompts[:WARM]]
        price = {"request_usd": sum(costs) / len(costs)}
        body: JsonObject = {"name": expert, "price": price, "client": {"kind": "recorded"}}
        self._api.post("/v1/experts", body)
        self._show.event(f"{expert} registered at {price['request_usd']:.6f} USD a request")

    def _stream(self, feed: Feed, phase: str, first: int, last: int) -> None:
        self._show.phase(phase)
        self.log.phase(phase, first)
        pairs = [(p.request_id, p.text) for p in self._prompts[first:last]]
        feed.stream(pairs, each=lambda: self._look(feed))

    def _look(self, feed: Feed) -> None:
        self._stage.check()
        for event in self.log.look(feed):
            self._show.event(event)
        self._show.update(
            done=len(feed.decisions), labels=feed.labels, state=self.log.state, served=feed.served
        )

    def _settle(self, feed: Feed) -> None:
        """Wait until every response is stored, every task judged and learning has caught up."""
        give_up = self._clock.monotonic() + DRAIN_S
        quiet_since = None
        while quiet_since is None or self._clock.monotonic() - quiet_since < 1.5:
            feed.look()
            self._look(feed)
            with self._backbone.ledger.begin() as tx:
                counts = tx.tasks.counts()
            answered = count_responses(self._backbone.settings.database_url)
            is_quiet = not counts["pending"] + counts["leased"] and answered == len(feed.decisions)
            quiet_since = (quiet_since or self._clock.monotonic()) if is_quiet else None
            if self._clock.monotonic() > give_up:
                raise StageFailed(f"the loop did not come to rest: tasks {counts}")


def _prepare(run_dir: Path, prompts: list[DemoPrompt]) -> Path:
    """Make an empty run directory with the traffic; the embedding cache lies elsewhere."""
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    recorded = run_dir / "recorded.jsonl"
    write_recorded(prompts, recorded)
    return recorded


def _interrupt_on_signals() -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _last_words(counted: str, report: Path, run_dir: Path, *, seconds: float) -> None:
    print("\nRecounted from PostgreSQL and Kafka by a separate process:\n")  # noqa: T201
    print(counted)  # noqa: T201
    print(f"report:  {report.resolve()}")  # noqa: T201
    print(f"run:     {run_dir.resolve()} (logs, database, traffic)")  # noqa: T201
    print(f"took:    {seconds:.0f} s")  # noqa: T201


def _wait_for_interrupt(url: str) -> None:
    print(f"\nthe router is still up at {url}; Ctrl-C stops it")  # noqa: T201
    with suppress(Interrupted):
        while True:
            signal.pause()
