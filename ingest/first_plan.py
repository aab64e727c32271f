"""What the answers to ``steersman init`` come to: cost of judging, settings to write, what follows.

Costs are estimates at a nominal prompt and answer; nothing of an account or a bill is known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.backbone import MEMORY_ONLY
from ingest.env_file import Line
from ingest.first_answers import Answers, Model
from judge.estimate import ORDERS, Answering, estimated
from judge.families import family_of
from online.costs import NOMINAL_INPUT_TOKENS, expected_cost
from recalibrate.rolling import FLOOR
from recalibrate.supply import duration, sampled_to_learn
from store.policy import OBSERVE, PolicySettings
from store.records import ExpertId

HEADING = """\
Written by `steersman init`. Every steersman command that is started in this directory reads it;
environment variables win. Settings only: keys stay in the environment, in the variables named."""

FIRST_POLICY = {"mode": OBSERVE}
"""What init sets besides the answers when there is no policy yet, such as the mode to begin with;
a later run leaves it as the operator has set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What judging is expected to cost and how long learning takes at the given traffic."""

    shadow_usd: float
    """Answers that a judged request needs besides the one that was served."""
    verdicts_usd: float
    judged_per_day: float
    days_until_learnt: float
    """Until λ can leave SAFE; infinite if nothing is judged."""

    @property
    def request_usd(self) -> float:
        """Return what one judged request costs besides its served answer."""
        return self.shadow_usd + self.verdicts_usd

    @property
    def day_usd(self) -> float:
        """Return what a day's judging costs."""
        return self.request_usd * self.judged_per_day


def estimate(answers: Answers) -> Estimate:
    """Return the estimate while the reference serves, as it does at first."""
    others = [e for e in answers.experts if e.name != answers.reference]
    reference = next(e for e in answers.experts if e.name == answers.reference)
    cost = estimated(
        [answers.judge.price],
        Answering(price=reference.price),
        [Answering(price=e.price) for e in others],
    )
    judged = min(answers.requests_per_day * answers.label_rate, answers.judge_budget_per_day)
    judged = judged if others else 0.0
    policy = PolicySettings(reference=ExpertId(answers.reference))
    needed = max(sampled_to_learn(policy), FLOOR)
    return Estimate(
        shadow_usd=cost.shadow_usd,
        verdicts_usd=cost.verdicts_usd,
        judged_per_day=judged,
        days_until_learnt=needed / judged if judged else math.inf,
    )


def summary(answers: Answers) -> list[str]:
    """Return what a person reads before saying yes."""
    found = estimate(answers)
    lines = [
        f"{_call_usd(e):>12.6f} USD a call  {e.name} ({e.model} at {e.base_url})"
        + ("  reference: yardstick and fallback" if e.name == answers.reference else "")
        for e in answers.experts
    ]
    lines += [
        f"judge: {answers.judge.model} at {answers.judge.base_url}, {ORDERS} calls a pair (3 when"
        " they disagree)",
        f"a judged request costs about {found.request_usd:.6f} USD besides its served answer:"
        f" {found.shadow_usd:.6f} for the others' answers, {found.verdicts_usd:.6f} for verdicts",
        f"at {answers.requests_per_day:,} requests a day about {found.judged_per_day:,.0f} are"
        f" judged: {found.day_usd:.2f} USD a day",
    ]
    if math.isfinite(found.days_until_learnt):
        lines.append(
            "the reference serves everything for the first"
            f" {duration(24 * found.days_until_learnt)} or so at that traffic, until there are"
            " labels enough"
        )
    lines += [f"note: {warning}" for warning in warnings(answers)]
    return lines


def warnings(answers: Answers) -> list[str]:
    """Return what a person should know before starting."""
    found = []
    if len(answers.experts) == 1:
        found.append("with the reference alone there is nothing to route to; add another expert")
    family = family_of(answers.judge.model)
    own = [e.name for e in answers.experts if family_of(e.model) == family]
    if own:
        found.append(
            f"the judge {answers.judge.model} is of the family of {', '.join(own)} ({family}) and"
            " will not judge their answers, for it would favour them; take one of another family"
        )
    if not answers.kafka_bootstrap_servers:
        found.append(MEMORY_ONLY)
    return found


def policy_changes(answers: Answers) -> dict[str, str]:
    """Return the policy settings that were answered, as ``policy set`` takes them."""
    return {
        "reference": answers.reference,
        "alpha": _digits(answers.alpha),
        "label_rate": _digits(answers.label_rate),
        "judge_budget_per_day": str(answers.judge_budget_per_day),
        "judge": "llm",
    }


def env_lines(answers: Answers, kept: Mapping[str, str]) -> list[Line]:
    """Return the lines of ``steersman.env``.

    Parameters
    ----------
    kept
        What the file holds already; settings that init does not ask for stay.
    """
    judge = answers.judge
    lines = [
        Line("STEERSMAN_JUDGE_BASE_URL", judge.base_url, "The judge's OpenAI-compatible endpoint."),
        Line("STEERSMAN_JUDGE_MODEL", judge.model, "Its model; another model is another judge."),
        Line(
            "STEERSMAN_JUDGE_API_KEY_ENV",
            judge.api_key_env,
            "Name of the variable that holds its key; empty for none.",
        ),
        Line("STEERSMAN_JUDGE_INPUT_USD_PER_MTOK", _digits(judge.input), "USD per Mtok it reads."),
        Line(
            "STEERSMAN_JUDGE_OUTPUT_USD_PER_MTOK", _digits(judge.output), "USD per Mtok it writes."
        ),
        Line("STEERSMAN_JUDGE_REQUEST_USD", _digits(judge.request), "USD per call."),
        Line(
            "STEERSMAN_DATABASE_URL",
            answers.database_url,
            "PostgreSQL; empty starts an embedded server in the run directory.",
        ),
        Line(
            "STEERSMAN_KAFKA_BOOTSTRAP_SERVERS",
            answers.kafka_bootstrap_servers,
            "Kafka; empty starts an embedded broker, which keeps its topics in memory:\n"
            "for trials, never for production.",
        ),
    ]
    asked = {line.name for line in lines}
    return lines + [
        Line(name, value, "Kept from before.") for name, value in kept.items() if name not in asked
    ]


def _digits(number: float) -> str:
    """Return a number as a person would write it, with all it says."""
    return f"{number:.15g}"


def _call_usd(model: Model) -> float:
    return expected_cost(model.price, input_tokens=NOMINAL_INPUT_TOKENS)
