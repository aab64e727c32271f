"""How an expert earns its place: described, shadowed, ramped, certified (design.md section 8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from online.learn import JudgedRequest
from online.obstacles import obstacle
from online.scorer import MIN_EVIDENCE, ScorerModel
from online.state import PoolMember
from recalibrate.guard import recompute
from recalibrate.inputs import Inputs
from recalibrate.rolling import FLOOR
from recalibrate.window import RescoredLabels, traffic_outcomes
from store.ledger import Ledger
from store.policy import OFF
from store.records import PROBE, Expert, ExpertId, ExpertStatus, JudgeTask

PROBES = 192
"""Prompts that describe a new expert (CSCR's number), drawn from requests already judged."""
PROBE_SHARE = 0.9
"""Share of the probes that must have come back; the rest may be dead."""
RAMP_AFTER = 30
"""Judged traffic requests before an expert is served its quota."""
ORDER = (
    ExpertStatus.REGISTERED,
    ExpertStatus.DESCRIBED,
    ExpertStatus.SHADOW,
    ExpertStatus.RAMPING,
    ExpertStatus.CERTIFIED,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of an expert on its way."""

    probes: int
    traffic: int
    has_evidence: bool


class Lifecycle:
    """Moves experts forward as their labels allow; remembers which probes it has asked for."""

    def __init__(self, ledger: Ledger, *, encoder: str) -> None:
        self._ledger = ledger
        self._encoder = encoder
        self._asked: dict[ExpertId, int] = {}

    def advanced(
        self,
        inputs: Inputs,
        rows: Sequence[JudgedRequest],
        model: ScorerModel | None,
        labels: RescoredLabels | None,
    ) -> list[Expert]:
        """Return the experts with the statuses they have earned.

        Parameters
        ----------
        rows
            Every judged request; ``labels`` those behind the watermark, re-scored.
        """
        experts = [self._forward(e, inputs, rows, model) for e in inputs.experts]
        if labels is None:
            return experts
        for i, expert in enumerate(experts):
            if expert.status is ExpertStatus.RAMPING and _earns(expert, experts, inputs, labels):
                experts[i] = replace(expert, status=ExpertStatus.CERTIFIED)
        return experts

    def _forward(
        self,
        expert: Expert,
        inputs: Inputs,
        rows: Sequence[JudgedRequest],
        model: ScorerModel | None,
    ) -> Expert:
        if expert.name == inputs.policy.reference:
            status = ExpertStatus.CERTIFIED if expert.status in ORDER else expert.status
            return replace(expert, status=status)
        seen = progress_of(expert.name, rows, model)
        if expert.status is ExpertStatus.REGISTERED and expert.name not in self._asked:
            if inputs.policy.mode == OFF:
                return expert
            without = inputs.policy.opted_out
            asked_for = self._ask_for_probes(expert, already=seen.probes, without=without)
            self._asked[expert.name] = asked_for
        # A learner that was restarted since then knows the probes by their labels.
        asked = self._asked.get(expert.name, seen.probes)
        while (status := next_status(expert, seen, probes_asked=asked)) is not expert.status:
            expert = replace(expert, status=status)
        return expert

    def _ask_for_probes(self, expert: Expert, *, already: int, without: Collection[str]) -> int:
        """Queue the probes an expert still lacks; return how many it should have in all.

        Fold 0 is left out: it trains nothing; so is what the expert could not serve, and the
        requests of tenants ``without`` judging. Before any
        traffic was judged there is nothing to probe on, and the expert goes straight to being
        judged on traffic.
        """
        with self._ledger.begin() as tx:
            recent = tx.decisions.recent_judged(
                max(0, PROBES - already),
                excluding_fold=0,
                without=expert.name,
                encoder=self._encoder,
            )
            chosen = [
                r
                for r in recent
                if obstacle(r.needs, expert.name, expert.capabilities) is None
                and r.tenant not in without
            ]
            tx.tasks.add(
                [
                    JudgeTask(
                        request_id=request.request_id,
                        experts=(expert.name,),
                        purpose=PROBE,
                        created_at=expert.added_at,
                        tenant=request.tenant,
                    )
                    for request in chosen
                ]
            )
        return already + len(chosen)


def progress_of(
    expert: ExpertId, rows: Sequence[JudgedRequest], model: ScorerModel | None
) -> Progress:
    """Return how far an expert has come."""
    evidence = 0.0
    if model is not None and expert in model.columns:
        evidence = float(model.evidence[0, model.columns.index(expert)])
    return Progress(
        probes=sum(expert in row.probed for row in rows),
        traffic=len(traffic_outcomes(rows, expert, after_seq=0)),
        has_evidence=evidence >= MIN_EVIDENCE,
    )


def next_status(expert: Expert, seen: Progress, *, probes_asked: int) -> ExpertStatus:
    """Return where an expert goes next, short of certification; the same when it stays."""
    match expert.status:
        case ExpertStatus.REGISTERED if seen.probes >= PROBE_SHARE * probes_asked:
            return ExpertStatus.DESCRIBED
        case ExpertStatus.DESCRIBED if seen.has_evidence or probes_asked == 0:
            return ExpertStatus.SHADOW
        case ExpertStatus.SHADOW if seen.traffic >= RAMP_AFTER and seen.has_evidence:
            return ExpertStatus.RAMPING
        case _:
            return expert.status


def certified_names(experts: Sequence[Expert | PoolMember], reference: ExpertId) -> set[ExpertId]:
    """Return the experts that may enter C_λ."""
    return {e.name for e in experts if e.status is ExpertStatus.CERTIFIED and e.name != reference}


def _earns(
    expert: Expert, experts: Sequence[Expert], inputs: Inputs, labels: RescoredLabels
) -> bool:
    """Return whether λ stays feasible with the expert in the pool.

    On the window restricted to requests on which it was judged, with at least ``FLOOR`` effective
    labels of which as many come from sampled traffic (probes alone never certify).
    """
    if len(traffic_outcomes(labels.rows, expert.name, after_seq=0)) < FLOOR:
        return False
    pool = certified_names(experts, inputs.policy.reference) | {expert.name}
    threshold = recompute(
        inputs.policy,
        labels,
        pool,
        last_seq=inputs.last_seq,
        from_seq=inputs.from_seq,
        is_ramping=True,
    )
    return threshold.safe_reason is None
