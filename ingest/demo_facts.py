"""What the demo saw, as the facts a summary is made of."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.backbone import Backbone
from ingest.demo_traffic import GEMINI, WARM, DemoPrompt
from ingest.feed import Api, Feed
from judge.audit_report import bound_in_force
from recalibrate.stream_facts import (
    Graded,
    LabelTotals,
    StatusChange,
    StoryEvent,
    StreamFacts,
    served_request,
)
from store.clock import Clock
from store.policy import PolicySettings
from store.postgres.views import count_ledger
from store.records import ExpertId, ExpertStatus, JsonObject, RequestId

LOOK_EVERY_S = 0.5


class StoryLog:
    """Watches the public interface while traffic flows."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._next_look = 0.0
        self._statuses: dict[ExpertId, ExpertStatus] = {}
        self._alerts = 0
        self.statuses: list[StatusChange] = []
        self.events: list[StoryEvent] = []
        self.phases: list[tuple[int, str]] = []
        self.state: JsonObject = {}

    def phase(self, name: str, position: int) -> None:
        """Note where a phase begins."""
        self.phases.append((position, name))

    def note(
        self,
        position: int,
        text: str,
        *,
        subject: ExpertId | None = None,
        is_injected: bool = False,
    ) -> None:
        """Note something the driver did."""
        self.events.append(
            StoryEvent(position=position, text=text, subject=subject, is_injected=is_injected)
        )

    def look(self, feed: Feed) -> list[str]:
        """Look at pool, state and alerts every half second; return what is new, in words."""
        if self._clock.monotonic() < self._next_look:
            return []
        self._next_look = self._clock.monotonic() + LOOK_EVERY_S
        self.state = self._api.get("/v1/state")
        news = self._status_news(feed)
        for alert in feed.alerts[self._alerts :]:
            news.append(f"ALERT {alert.kind}: {alert.message}")
        self._alerts = len(feed.alerts)
        return news

    def _status_news(self, feed: Feed) -> list[str]:
        news = []
        experts = self._api.get("/v1/experts")["experts"]
        for expert in experts if isinstance(experts, list) else []:
            name, status = ExpertId(expert["name"]), ExpertStatus(expert["status"])
            if self._statuses.get(name) is not status:
                self._statuses[name] = status
                self.statuses.append(
                    StatusChange(
                        expert=name,
                        status=status,
                        position=len(feed.decisions),
                        at=self._clock.now(),
                        traffic_labels=feed.traffic_labels[name],
                    )
                )
                news.append(f"{name} is {status}")
        return news


def gather(
    log: StoryLog, feed: Feed, backbone: Backbone, prompts: Sequence[DemoPrompt], *, alpha: float
) -> StreamFacts:
    """Return the facts of the whole run, decisions as they left on the topic."""
    count = count_ledger(backbone.settings.database_url)
    with backbone.ledger.begin() as tx:
        current = tx.policies.current()
        calibrations = tx.states.calibrations(limit=10_000)
        alerts = tx.operations.alerts(limit=1_000)
        judge = bound_in_force(tx)
    policy = current[1] if current else PolicySettings(reference=GEMINI)
    requests = []
    for position, prompt in enumerate(prompts):
        answers = {e: Graded(score=s, cost_usd=c) for e, (s, c) in prompt.answers.items()}
        decision = feed.decisions[RequestId(prompt.request_id)]
        phase = [name for first, name in log.phases if first <= position][-1]
        requests.append(
            served_request(
                decision,
                answers,
                position=position,
                phase=phase,
                unjudged_tenants=policy.opted_out,
            )
        )
    return StreamFacts(
        title="Demo on recorded traffic",
        reference=policy.reference,
        alpha=alpha,
        margin=policy.margin,
        requests=tuple(requests),
        phases=tuple(name for _, name in log.phases),
        setup_phases=frozenset(name for first, name in log.phases if first < WARM),
        tau=policy.tau,
        calibrations=tuple(reversed(calibrations)),
        alerts=tuple(reversed(alerts)),
        statuses=tuple(log.statuses),
        labels=LabelTotals(
            labels=len(count.labels),
            judge_calls=count.verdicts,
            probes=count.probe_labels,
            shadow_cost_usd=count.shadow_cost_usd,
            judge_cost_usd=0.0,
        ),
        events=tuple(log.events),
        judge=judge,
    )
