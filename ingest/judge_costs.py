"""What the judge in force costs, from the last day's verdicts, else from prices and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from ingest.backbone import Backbone
from ingest.cli_opening import panel_of
from judge.estimate import (
    Answering,
    Cost,
    estimated,
    input_tokens,
    measured,
    together,
)
from online.costs import NOMINAL_OUTPUT_TOKENS
from store.errors import NotFound
from store.ledger import Transaction
from store.money import CANARY, JUDGE, SHADOW, Spent, day_of
from store.policy import PolicySettings
from store.records import Expert, Price
from store.transitions import JUDGED

OVER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCosts:
    """What one judged request costs, over all tenants and for each."""

    judge_version: str
    policy: PolicySettings
    whole: Cost
    by_tenant: Mapping[str, Cost]
    """Tenants with a judged request in the last day."""
    used_usd: Mapping[str, float]
    """Of each kind of money this UTC day, tasks under way at their most."""


def judge_costs(backbone: Backbone) -> JudgeCosts:
    """Return the costs; nothing is called.

    Raises
    ------
    JudgeUnavailable
        The judge that the policy names is not configured here.
    """
    panel = panel_of(backbone)()
    versions = [judge.version for judge in panel.judges]
    with backbone.ledger.begin() as tx:
        current = tx.policies.current()
        if current is None:
            raise NotFound("no_policy", "no policy is set: steersman policy set reference=NAME")
        found = tx.money.spent(versions, since=backbone.clock.now() - OVER)
        otherwise = _estimated(tx, backbone, current[1], together(found))
        used = tx.money.used([JUDGE, SHADOW, CANARY], day=day_of(backbone.clock.now()))
    return JudgeCosts(
        judge_version=panel.version,
        policy=current[1],
        whole=measured(together(found), otherwise),
        by_tenant={one.tenant: measured(one, otherwise) for one in found},
        used_usd={kind: amount / 1e6 for kind, amount in used.items()},
    )


def _estimated(tx: Transaction, backbone: Backbone, policy: PolicySettings, found: Spent) -> Cost:
    tokens = tx.responses.mean_output_tokens()

    def answering(expert: Expert) -> Answering:
        mean = tokens.get(expert.name, NOMINAL_OUTPUT_TOKENS)
        return Answering(price=expert.price, output_tokens=mean)

    experts = {expert.name: expert for expert in tx.experts.all()}
    if policy.reference not in experts:
        raise NotFound("unknown_expert", f"the reference {policy.reference} is not registered")
    return estimated(
        _prices(backbone) if policy.judge == "llm" else [],
        answering(experts.pop(policy.reference)),
        [answering(expert) for expert in experts.values() if expert.status in JUDGED],
        input_tokens=input_tokens(found),
    )


def _prices(backbone: Backbone) -> list[Price]:
    from ingest.judging import endpoint_of_judge  # noqa: PLC0415

    return [endpoint_of_judge(one).price for one in backbone.settings.judges]
