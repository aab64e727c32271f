"""Bringing what ``steersman init`` was told into the ledger, and saying first what would change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ingest.commands import Operator
from ingest.first_answers import Answers, Model
from ingest.first_plan import FIRST_POLICY, policy_changes
from store.ledger import Ledger
from store.policy import PolicySettings
from store.records import Expert, ExpertStatus, Price


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between answers and ledger."""

    text: str
    act: Callable[[], object] | None
    """None for what a person must decide."""


def steps(ledger: Ledger, operator: Operator, answers: Answers) -> list[Step]:
    """Return what makes the ledger say what was answered, in order; nothing when it does."""
    with ledger.begin() as tx:
        known = {str(e.name): e for e in tx.experts.all()}
        current = tx.policies.current()
    found = [
        step
        for model in answers.experts
        for step in _expert_steps(operator, model, known.get(model.name))
    ]
    found += _policy_steps(operator, current[1] if current else None, answers)
    asked = {model.name for model in answers.experts}
    found += [
        Step(f"{name} stays, though it was not named: steersman experts retire {name}", None)
        for name, expert in known.items()
        if name not in asked and expert.status is not ExpertStatus.RETIRED
    ]
    return found


def _expert_steps(operator: Operator, model: Model, known: Expert | None) -> list[Step]:
    name = model.name
    if known is None:
        add = partial(operator.add_expert, name, model.price, model.client)
        return [Step(f"{name}: added", add)]
    if known.status is ExpertStatus.RETIRED:
        return [Step(f"{name} is retired and stays so: take another name", None)]
    found = []
    if known.price != model.price:
        change = partial(operator.set_price, name, model.price)
        found.append(Step(f"{name}: price {_priced(known.price)} → {_priced(model.price)}", change))
    if dict(known.client) != model.client:
        call = partial(operator.set_client, name, model.client)
        found.append(Step(f"{name}: {_called(dict(known.client), model.client)}", call))
    if known.client.get("model") not in (None, model.model):
        found.append(
            Step(
                f"{name} was another model until now, and its labels speak of that one: if it has"
                " any, add the new model under a name of its own instead",
                None,
            )
        )
    return found


def _policy_steps(
    operator: Operator, current: PolicySettings | None, answers: Answers
) -> list[Step]:
    wanted = policy_changes(answers)
    if current is None:
        wanted = FIRST_POLICY | wanted
        text = "policy: " + ", ".join(f"{name}={value}" for name, value in wanted.items())
        return [Step(text, partial(operator.set_policy, wanted))]
    after = current.changed(wanted).to_json()
    before = current.to_json()
    changed = {name: wanted[name] for name in wanted if before[name] != after[name]}
    if not changed:
        return []
    text = ", ".join(f"{name} {before[name]} → {after[name]}" for name in changed)
    return [Step(f"policy: {text}", partial(operator.set_policy, changed))]


def _called(before: dict[str, str], after: dict[str, str]) -> str:
    names = sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
    return ", ".join(f"{n} {before.get(n, '(none)')} → {after.get(n, '(none)')}" for n in names)


def _priced(price: Price) -> str:
    parts = (price.input_usd_per_mtok, price.output_usd_per_mtok, price.request_usd)
    return "/".join(f"{part:g}" for part in parts)
