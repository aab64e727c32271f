"""The demo's story holds what it claims, on its own traffic, in every variation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ingest.demo_traffic import GEMINI, LLAMA, MISTRAL
from ingest.local import Served
from judge.port import Question, Reply
from judge.recorded import RecordedJudge
from online.folds import fold_of, group_of
from online.route import Choice, route
from online.scorer import ScorerModel
from online.snapshot import load_state
from online.state import RoutingState
from recalibrate.hindsight import CertifiedAt, best_in_hindsight
from recalibrate.stream_facts import Graded, StatusChange, served_request
from store.records import (
    FOLDS,
    AlertKind,
    ExpertId,
    ExpertStatus,
    PromptReceived,
    Reason,
    RequestId,
)
from tests.acceptance.story_runs import (
    MARGIN,
    StoryRun,
    cost_share,
    encoder,
    regret,
    safe_share,
    tell,
)

# The first test encodes every prompt of the demo, unless the cache has them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]
ALPHA = 0.10
CERTIFIED = ExpertStatus.CERTIFIED


@cache
def undisturbed() -> StoryRun:
    return tell()


@cache
def with_alpha(alpha: float) -> StoryRun:
    return undisturbed() if alpha == ALPHA else tell(alpha=alpha, stop_at=1_400)


def standard_error(run: StoryRun, count: int) -> float:
    share = regret(run.streamed()[:count])
    return float(np.sqrt(share * (1.0 - share) / count))


def test_with_two_experts_cost_and_regret_are_those_of_the_offline_computation() -> None:
    served = undisturbed().two
    assert cost_share(served) <= 0.73 + 0.06
    assert regret(served) <= ALPHA + 3.0 * standard_error(undisturbed(), len(served))


def test_with_three_experts_cost_and_regret_are_those_of_the_offline_computation() -> None:
    run = undisturbed()
    served = [*run.three, *run.late]
    assert len(served) > 1_000
    assert cost_share(served) <= 0.48 + 0.06
    assert regret(served) <= ALPHA + 3.0 * float(np.sqrt(ALPHA * (1 - ALPHA) / len(served)))


def test_cost_is_close_to_the_best_threshold_in_hindsight_for_the_same_scores() -> None:
    run = undisturbed()
    for served, cheap in ((run.two, {LLAMA}), ([*run.three, *run.late], {LLAMA, MISTRAL})):
        facts = [
            served_request(one.decision, graded(run, one), position=n, phase="")
            for n, one in enumerate(served)
        ]
        best = best_in_hindsight(
            facts,
            CertifiedAt([StatusChange(expert=e, status=CERTIFIED, position=0) for e in cheap]),
            reference=GEMINI,
            alpha=ALPHA,
            margin=MARGIN,
        )
        assert best is not None
        assert best.cost_share is not None
        assert cost_share(served) <= 1.10 * best.cost_share.value


def graded(run: StoryRun, served: Served) -> dict[ExpertId, Graded]:
    answers = run.loop.traffic.answers
    found = {e: answers[served.decision.request_id, e] for e in (GEMINI, LLAMA, MISTRAL)}
    return {e: Graded(score=a.score, cost_usd=a.cost_usd) for e, a in found.items()}


def test_safe_mode_is_not_how_the_promise_is_kept() -> None:
    assert safe_share(undisturbed().streamed()) <= 0.05


def test_without_an_injection_nothing_is_alarmed() -> None:
    assert undisturbed().alerts() == []


@pytest.mark.parametrize("expert", [LLAMA, MISTRAL])
def test_an_injected_regression_is_alarmed_and_named(expert: ExpertId) -> None:
    alerts = tell(inject=expert).alerts()
    assert alerts
    assert {(a.kind, a.subject) for a in alerts} == {(AlertKind.EXPERT_REGRESSION, expert)}


def test_a_stricter_target_costs_more_and_regrets_less() -> None:
    runs = [with_alpha(alpha).streamed()[:1_400] for alpha in (0.05, 0.10, 0.20)]
    costs, regrets = [cost_share(r) for r in runs], [regret(r) for r in runs]
    slack = 2.0 * float(np.sqrt(0.1 * 0.9 / 1_400))
    assert costs[0] >= costs[1] - slack >= costs[2] - 2.0 * slack
    assert regrets[0] <= regrets[1] + slack <= regrets[2] + 2.0 * slack
    assert regrets[0] < regrets[2]
    assert costs[0] > costs[2]


def test_inverted_labels_drive_traffic_to_the_reference() -> None:
    """Acceptable is called unacceptable and vice versa, from the first label on."""
    run = tell(judge=lambda traffic: Flipped(RecordedJudge(traffic, margin=MARGIN)), stop_at=400)
    assert np.mean([s.decision.expert == GEMINI for s in undisturbed().two[:400]]) < 0.8
    assert np.mean([s.decision.expert == GEMINI for s in run.two]) >= 0.85


def test_a_stopped_judge_lets_lambda_age_and_alarms() -> None:
    run = tell(judged_until=300, stop_at=1_300, age_half_life_requests=300)
    assert {a.kind for a in run.alerts()} == {AlertKind.LABEL_STARVATION}
    assert len(run.alerts()) == 1
    assert run.streamed()[-1].decision.reason is Reason.SAFE_STARVED
    assert run.streamed()[-1].decision.expert == GEMINI


def test_every_decision_shows_candidates_gap_confidence_and_version() -> None:
    decisions = [s.decision for s in undisturbed().streamed()]
    assert all(d.retrieved and d.gap is not None for d in decisions)
    assert all(0.0 < (d.gap_confidence or 0.0) < 1.0 for d in decisions)
    assert all(-1.0 <= r.cosine <= 1.0 + 1e-6 for d in decisions for r in d.retrieved)
    asked = [d.comparator_probability is not None for d in decisions]
    assert np.mean(asked) >= 0.05
    assert len({d.state_version for d in decisions}) >= 10
    assert {len(d.retrieved) for d in decisions} == {2, 3}


def test_decisions_carry_every_version_that_labels_made() -> None:
    """But the last one, and one that an operator's change replaced before a request came."""
    run = undisturbed()
    with run.loop.ledger.begin() as tx:
        cycles = tx.states.calibrations(limit=1_000)
    fresh = {c.state_version or 0: c.new_labels for c in cycles}
    served = {s.decision.state_version for s in [*run.warm, *run.streamed()]}
    made = {version for version, labels in fresh.items() if labels >= 20}
    assert len(made) >= 30
    assert all(not fresh.get(version + 1) for version in made - served)


def published(run: StoryRun) -> list[RoutingState]:
    """Return every state with a scorer, oldest first."""
    with run.loop.ledger.begin() as tx:
        history = tx.states.history(limit=1_000)
        records = [tx.states.find(h.version) for h in history]
    states = [load_state(r.payload, sha256=r.sha256) for r in records if r is not None]
    return sorted((s for s in states if s.model is not None), key=lambda s: s.version)


def test_gap_confidence_of_one_gap_changes_while_traffic_flows() -> None:
    states = published(undisturbed())
    assert len({s.model.gap.tobytes() for s in states if s.model is not None}) >= 10


def test_emptying_the_index_sends_everything_to_the_reference() -> None:
    before, after = rerouted(lambda m: replace(m, evidence=np.zeros_like(m.evidence)))
    assert np.mean([c.expert != GEMINI for c in before]) > 0.3
    assert all(c.expert == GEMINI for c in after)


def test_a_random_descriptor_in_place_of_a_learnt_one_changes_decisions() -> None:
    rng = np.random.default_rng(3)

    def randomised(model: ScorerModel) -> ScorerModel:
        descriptors = model.descriptors.copy()
        column = model.columns.index(MISTRAL)
        drawn = rng.standard_normal(descriptors[:, column].shape)
        descriptors[:, column] = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
        return replace(model, descriptors=descriptors, indexes={})

    before, after = rerouted(randomised)
    assert np.mean([a.expert != b.expert for a, b in zip(before, after, strict=True)]) >= 0.05


def phase_two() -> tuple[RoutingState, list[RequestId]]:
    """Return the last state of the two-expert phase, and its requests."""
    run = undisturbed()
    version = run.two[-1].decision.state_version
    (state,) = [s for s in published(run) if s.version == version]
    return state, [s.decision.request_id for s in run.two]


def test_a_gap_table_frozen_at_its_first_value_compares_others() -> None:
    state, ids = phase_two()
    first = published(undisturbed())[0].model
    assert first is not None
    before, after = rerouted(lambda m: replace(m, gap=first.gap), state=state, ids=ids)
    asked = [[c.comparator_probability is None for c in made] for made in (before, after)]
    assert np.mean([a != b for a, b in zip(*asked, strict=True)]) >= 0.05


def test_a_gap_table_that_doubts_nothing_serves_other_experts() -> None:
    state, ids = phase_two()
    trusting = np.tile([0.0, 5.0], (FOLDS, 1))
    before, after = rerouted(lambda m: replace(m, gap=trusting), state=state, ids=ids)
    assert all(c.comparator_probability is None for c in after)
    assert np.mean([a.expert != b.expert for a, b in zip(before, after, strict=True)]) >= 0.05


def test_gap_confidence_is_the_share_that_holds() -> None:
    """Over the whole stream, each decision by the table of its own state."""
    told, held = [], []
    for served in undisturbed().streamed():
        known = [r for r in served.decision.retrieved if r.utility is not None]
        first, second = sorted(known, key=lambda r: -(r.utility or 0.0))[:2]
        scores = [
            undisturbed().loop.traffic.answers[served.decision.request_id, r.expert].score
            for r in (first, second)
        ]
        told.append(served.decision.gap_confidence or 0.0)
        held.append(scores[0] >= scores[1] - MARGIN - 1e-9)
    for low, high in ((0.0, 0.45), (0.45, 0.7), (0.7, 0.85), (0.85, 1.0)):
        inside = [n for n, p in enumerate(told) if low <= p < high]
        assert len(inside) >= 100
        share, mean = np.mean([held[n] for n in inside]), np.mean([told[n] for n in inside])
        assert share == pytest.approx(mean, abs=0.12)


def rerouted(
    change: Callable[[ScorerModel], ScorerModel],
    *,
    state: RoutingState | None = None,
    ids: list[RequestId] | None = None,
) -> tuple[list[Choice], list[Choice]]:
    """Return the choices of a state and of a changed copy: the last state on the last prompts."""
    run = undisturbed()
    state = state or run.loop.live.current()
    ids = ids or list(run.loop.traffic.prompts)[-400:]
    assert state is not None
    assert state.model is not None
    other = replace(state, model=change(state.model))
    return choices(run, state, ids), choices(run, other, ids)


def choices(run: StoryRun, state: RoutingState, ids: list[RequestId]) -> list[Choice]:
    texts = [run.loop.traffic.prompts[i] for i in ids]
    made = []
    for request_id, text, embedding in zip(ids, texts, encoder().encode(texts), strict=True):
        prompt = PromptReceived(request_id=request_id, text=text, received_at=run.loop.clock.now())
        fold = fold_of(group_of(text, None, tenant="default"))
        made.append(route(prompt, embedding, state, fold=fold, category="unknown"))
    return made


class Flipped:
    """A judge whose y is 1 - y, while its grades stay as they are.

    (Grades turned around as well would make a consistent judge of the opposite taste: the loop
    learns it, and keeps the promise with respect to it.)
    """

    def __init__(self, honest: RecordedJudge) -> None:
        self._honest = honest
        self.version = f"flipped-{honest.version}"

    family = None

    def most_usd(self, question: Question) -> float:
        return 0.0

    def compare(self, question: Question) -> Reply:
        reply = self._honest.compare(question)
        cheap_first = question.expert_a != GEMINI
        acceptable = reply.preference >= 0.5 if cheap_first else reply.preference <= 0.5
        return replace(reply, preference=float(acceptable != cheap_first))
