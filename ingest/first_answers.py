"""What ``steersman init`` asks, and what counts as an answer: for prompts and files alike."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ingest.first_checks import (
    check_brokers,
    check_database,
    check_key_variable,
    check_model,
    check_name,
    check_number,
    check_policy,
    check_traffic,
    check_url,
)
from store.errors import SettingsInvalid
from store.records import Price

NONE = "none"
"""Typed to clear a default."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask."""

    key: str
    """Its name in an answers file."""
    text: str
    help: str
    default: str
    check: Callable[[str], object]
    """Returns the answer; ValueError or SteersmanError with a message for whoever answers."""
    is_secret: bool = False
    """Whether an answer from before may hold a password and is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An endpoint with its price, as answered."""

    name: str = "judge"
    base_url: str
    model: str
    api_key_env: str
    input: float
    output: float
    request: float

    @property
    def price(self) -> Price:
        """Return the price in USD."""
        return Price(
            input_usd_per_mtok=self.input,
            output_usd_per_mtok=self.output,
            request_usd=self.request,
        )

    @property
    def client(self) -> dict[str, str]:
        """Return how the pool calls it."""
        called = {"kind": "openai", "base_url": self.base_url, "model": self.model}
        return called | ({"api_key_env": self.api_key_env} if self.api_key_env else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Everything that was answered."""

    experts: tuple[Model, ...]
    reference: str
    judge: Model
    alpha: float
    label_rate: float
    judge_budget_per_day: int
    requests_per_day: int
    database_url: str
    kafka_bootstrap_servers: str


_WHERE = (
    Question(
        "base_url",
        "base URL",
        "The OpenAI-compatible endpoint, as a rule with /v1; calls go to BASE/chat/completions.",
        "https://api.openai.com/v1",
        check_url,
    ),
    Question("model", "model", "What the endpoint calls the model.", "", check_model),
    Question(
        "api_key_env",
        "key variable",
        f"Name of the environment variable that holds the key, never the key; {NONE} for no key.",
        "OPENAI_API_KEY",
        check_key_variable,
    ),
)
PRICES = (
    Question("input", "USD per million input tokens", "From the price list.", "0", check_number),
    Question("output", "USD per million output tokens", "Likewise.", "0", check_number),
    Question(
        "request", "USD per request", "If calls have a price of their own.", "0", check_number
    ),
)
EXPERT = (
    Question(
        "name",
        "name",
        "How the expert is called in decisions, metrics and reports.",
        "big",
        check_name,
    ),
    *_WHERE,
    *PRICES,
)
JUDGE = (*_WHERE, *PRICES)
POLICY = (
    Question(
        "alpha",
        "risk target alpha",
        "At most this share of requests may get an answer that is worse than the reference's.",
        "0.10",
        partial(check_policy, "alpha"),
    ),
    Question(
        "requests_per_day",
        "requests a day, about",
        "Only for the estimate of what judging costs.",
        "10000",
        check_traffic,
    ),
    Question(
        "label_rate",
        "label rate",
        "Share of requests that is judged. More labels: λ is found sooner and follows faster.",
        "0.05",
        partial(check_policy, "label_rate"),
    ),
    Question(
        "judge_budget_per_day",
        "judged requests a day, at most",
        "When spent, sampling stops until midnight (UTC) and an alert is raised.",
        "1000",
        partial(check_policy, "judge_budget_per_day"),
    ),
)
SERVICES = (
    Question(
        "database_url",
        "PostgreSQL URL",
        f"{NONE} (the default) starts an embedded server here. A password in it would be written"
        " to the file.",
        "",
        check_database,
        is_secret=True,
    ),
    Question(
        "kafka_bootstrap_servers",
        "Kafka brokers",
        f"HOST:PORT,…; {NONE} (the default) starts an embedded broker, which keeps its topics in"
        " memory: for trials, never for production.",
        "",
        check_brokers,
    ),
)


def check_experts(experts: Sequence[Model]) -> None:
    """Raise ValueError unless the experts can be a pool."""
    names = [e.name for e in experts]
    if not names:
        raise ValueError("at least one expert is needed, the reference")
    if len(set(names)) < len(names):
        raise ValueError("each expert needs a name of its own")
    if unpriced := [e.name for e in experts if e.input + e.output + e.request <= 0.0]:
        raise ValueError(
            f"{', '.join(unpriced)}: a price needs a positive part; declare a nominal one for a"
            " local model"
        )


def read_answers(file: Path) -> Answers:
    """Return the answers in a TOML file; what it leaves out has its default.

    Raises
    ------
    SettingsInvalid
        Lists every wrong, unknown and missing answer.
    """
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise SettingsInvalid(f"{file} cannot be read: {problem}") from problem
    problems: list[str] = []
    made = _read(given, problems)
    if made is None:
        raise SettingsInvalid("\n".join(f"{file}: {problem}" for problem in problems))
    return made


def _read(given: dict[str, Any], problems: list[str]) -> Answers | None:
    """Return the answers, or None and the problems."""
    experts, judge = given.pop("experts", []), given.pop("judge", {})
    reference = given.pop("reference", None)
    if not isinstance(experts, list):
        problems.append("experts must be [[experts]] tables")
        experts = []
    pool = [_answered(EXPERT, e, f"experts[{n}].", problems) for n, e in enumerate(experts)]
    asked = _answered(JUDGE, judge, "judge.", problems)
    rest = _answered((*POLICY, *SERVICES), given, "", problems)
    names = [found.get("name") for found in pool]
    reference = names[0] if reference is None and names else reference
    if reference not in names:
        problems.append(f"reference must name one of the experts, got {reference!r}")
    if problems:
        return None
    made = tuple(Model(**found) for found in pool)
    try:
        check_experts(made)
    except ValueError as wrong:
        problems.append(str(wrong))
        return None
    return Answers(experts=made, reference=str(reference), judge=Model(**asked), **rest)


def _answered(
    questions: Sequence[Question], given: object, where: str, problems: list[str]
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        problems.append(f"{where.rstrip('.')} must be a table")
        return {}
    keys = [q.key for q in questions]
    for key in given:
        if key not in keys:
            (near,) = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
            problems.append(f"{where}{key} is unknown; did you mean {near}?")
    found: dict[str, Any] = {}
    for question in questions:
        default = "" if question.key == "api_key_env" else question.default
        if question.key in {"name", "base_url"}:
            default = ""  # whom to ask is never guessed
        if question.key == "model":
            default = str(given.get("name", ""))
        try:
            found[question.key] = question.check(str(given.get(question.key, default)))
        except (ValueError, SettingsInvalid) as wrong:
            problems.append(f"{where}{question.key}: {wrong}")
    return found
