"""``steersman replay``: what the loop would have done with recorded traffic, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ingest.console import Progress, print_summary
from ingest.local import LocalLoop, request_price
from ingest.settings import ProcessSettings
from judge.audit_report import bound_in_force
from online.encode import CachedEncoder, Encoder, SentenceEncoder
from online.recorded import RecordedTraffic, load_recorded
from recalibrate.report import render_html
from recalibrate.stream_facts import (
    Graded,
    LabelTotals,
    ServedRequest,
    StatusChange,
    StreamFacts,
    served_request,
)
from recalibrate.summary import summarise
from store.errors import SettingsInvalid
from store.policy import PolicySettings
from store.records import ExpertId, ExpertStatus, RequestId

PHASES = ("warm start", "stream")
LEAST_WARM = 100
ENCODE_CHUNK = 64


def run_replay(
    settings: ProcessSettings,
    file: Path,
    *,
    reference: str,
    experts: Sequence[str],
    alpha: float,
    label_rate: float,
    warm: int,
    limit: int,
) -> None:
    """Replay a score matrix, print the summary and write the report.

    Raises
    ------
    SettingsInvalid
        The file cannot be read, an expert is not in it, or too few prompts are left.
    """
    traffic = load_recorded(file)
    yardstick, others = _pool(traffic, reference, experts)
    requests = _complete(traffic, (yardstick, *others))[: limit or None]
    if warm < LEAST_WARM or len(requests) <= warm:
        raise SettingsInvalid(
            f"{len(requests)} prompts have an answer of every chosen expert; the warm start needs"
            f" at least {LEAST_WARM} and must leave some to stream (--warm {warm})"
        )
    policy = PolicySettings(reference=yardstick, alpha=alpha, label_rate=label_rate)
    with Progress(total=len(requests)) as show:
        encoder = CachedEncoder(SentenceEncoder(settings.encoder), settings.embedding_cache)
        _encode(show, encoder, traffic, requests)
        loop = LocalLoop(traffic, replace(policy, label_rate=1.0), encoder)
        replayed = Replay(loop, show, label_rate=label_rate)
        facts = replayed.run(file.name, (yardstick, *others), requests, warm=warm)
    summary = summarise(facts)
    print_summary(summary)
    report = settings.run_dir / f"replay-{file.stem}.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(render_html(summary), encoding="utf-8")
    print(f"report: {report.resolve()}")  # noqa: T201


class Replay:
    """One run of the local loop, with what a summary needs."""

    def __init__(self, loop: LocalLoop, show: Progress, *, label_rate: float) -> None:
        self._loop = loop
        self._show = show
        self._label_rate = label_rate
        self._statuses: list[StatusChange] = []
        self._known: dict[ExpertId, ExpertStatus] = {}
        self._served: list[ServedRequest] = []

    def run(
        self, title: str, pool: Sequence[ExpertId], requests: Sequence[RequestId], *, warm: int
    ) -> StreamFacts:
        """Serve the warm start with every request judged, then the stream; return the facts."""
        loop = self._loop
        for expert in pool:
            loop.add_expert(expert, request_price(loop.traffic, expert, requests[:warm]))
        self._serve(PHASES[0], requests[:warm])
        loop.set_policy(replace(loop.policy, label_rate=self._label_rate))
        loop.settle()
        self._serve(PHASES[1], requests[warm:])
        return self._facts(title)

    def _serve(self, phase: str, requests: Sequence[RequestId]) -> None:
        self._show.phase(phase)
        for served in self._loop.serve(requests):
            request_id = served.decision.request_id
            position = len(self._served)
            self._served.append(
                served_request(
                    served.decision,
                    self._answers(request_id),
                    position=position,
                    phase=phase,
                    unjudged_tenants=self._loop.policy.opted_out,
                )
            )
            self._look(position)

    def _answers(self, request_id: RequestId) -> dict[ExpertId, Graded]:
        return {
            expert: Graded(score=a.score, cost_usd=a.cost_usd)
            for expert in self._known or self._pool()
            if (a := self._loop.traffic.answers.get((request_id, expert))) is not None
        }

    def _pool(self) -> dict[ExpertId, ExpertStatus]:
        with self._loop.ledger.begin() as tx:
            return {e.name: e.status for e in tx.experts.all()}

    def _look(self, position: int) -> None:
        if position % 16:
            return
        for expert, status in self._pool().items():
            if self._known.get(expert) is not status:
                self._known[expert] = status
                change = StatusChange(expert=expert, status=status, position=position)
                self._statuses.append(change)
                self._show.event(f"{expert} is {status}")
        state = self._loop.live.describe()
        self._show.update(done=position + 1, labels=self._loop.recalibrator.labels, state=state)

    def _facts(self, title: str) -> StreamFacts:
        loop = self._loop
        with loop.ledger.begin() as tx:
            calibrations = tx.states.calibrations(limit=100_000)
            alerts = tx.operations.alerts(limit=1_000)
            labels = tx.labels.count()
            judge = bound_in_force(tx)
        return StreamFacts(
            title=f"Replay of {title}",
            reference=loop.policy.reference,
            alpha=loop.policy.alpha,
            margin=loop.policy.margin,
            requests=tuple(self._served),
            phases=PHASES,
            setup_phases=frozenset(PHASES[:1]),
            tau=loop.policy.tau,
            calibrations=tuple(reversed(calibrations)),
            alerts=tuple(reversed(alerts)),
            statuses=tuple(self._statuses),
            labels=LabelTotals(labels=labels),
            judge=judge,
        )


def _pool(
    traffic: RecordedTraffic, reference: str, experts: Sequence[str]
) -> tuple[ExpertId, list[ExpertId]]:
    """Return the reference (the best mean score unless named) and the other experts."""
    known = traffic.experts()
    if unknown := [name for name in (reference, *experts) if name and name not in known]:
        raise SettingsInvalid(f"not in the file: {', '.join(unknown)}; it has {', '.join(known)}")
    chosen = [ExpertId(name) for name in experts] or known
    yardstick = ExpertId(reference) or max(chosen, key=traffic.mean_score)
    return yardstick, [name for name in chosen if name != yardstick]


def _complete(traffic: RecordedTraffic, pool: Sequence[ExpertId]) -> list[RequestId]:
    """Return the prompts that every expert answered: a missing answer is never taken for a 0."""
    return [r for r in traffic.prompts if all((r, expert) in traffic.answers for expert in pool)]


def _encode(
    show: Progress, encoder: Encoder, traffic: RecordedTraffic, requests: Sequence[RequestId]
) -> None:
    """Fill the embedding cache, so that long work shows progress."""
    show.phase("encoding prompts")
    for start in range(0, len(requests), ENCODE_CHUNK):
        encoder.encode([traffic.prompts[r] for r in requests[start : start + ENCODE_CHUNK]])
        show.update(done=min(start + ENCODE_CHUNK, len(requests)), labels=0, state={})
