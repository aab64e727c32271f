"""Bodies and documents of the HTTP interface; events have theirs in ``wire.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from store.needs import LARGEST_TOKENS, REGION_CHARACTERS, REGIONS, Capabilities
from store.records import ExpertStatus, Price

NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$"
"""Names travel in headers, labels and paths, so they are plain."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


Name = Annotated[str, StringConstraints(pattern=NAME, max_length=100)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)]
Usd = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]


class Body(BaseModel):
    """What callers send: no unknown fields, no conversions, so that a typo is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Document(BaseModel):
    """What callers get."""

    model_config = ConfigDict(from_attributes=True)


class ErrorFacts(Document):
    """What went wrong."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="For a person; never contains prompt text.")
    field: str | None = Field(description="The offending field.")
    request_id: str | None = Field(description="The request concerned.")


class ErrorDocument(Document):
    """The shape of every error."""

    error: ErrorFacts


class PriceBody(Body):
    """What an expert costs in USD; at least one part is positive."""

    input_usd_per_mtok: Usd = 0.0
    output_usd_per_mtok: Usd = 0.0
    request_usd: Usd = 0.0

    @model_validator(mode="after")
    def check_positive(self) -> PriceBody:
        """Refuse a free expert: it would always look cheapest. A local one declares a price."""
        if not any((self.input_usd_per_mtok, self.output_usd_per_mtok, self.request_usd)):
            raise ValueError("at least one part of a price must be positive")
        return self

    def to_price(self) -> Price:
        """Return the record."""
        return Price(**self.model_dump())


class RecordedClient(Body):
    """Answers come from the recorded traffic file."""

    kind: Literal["recorded"]


class OpenAIClient(Body):
    """Answers come from a server with OpenAI's chat interface."""

    kind: Literal["openai"]
    base_url: Annotated[Text, StringConstraints(pattern=r"^https?://[^\s/]")]
    model: Text
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,99}$")] | None = (
        Field(default=None, description="Environment variable that holds the key.")
    )
    family: Name | None = Field(
        default=None,
        description="Who made the model, such as google; told by its name unless given. No judge"
        " of the same family judges its answers.",
    )


Tokens = Annotated[int, Field(ge=1, le=LARGEST_TOKENS)]
Region = Annotated[
    str,
    StringConstraints(min_length=1, max_length=REGION_CHARACTERS),
    AfterValidator(_printable),
]


class CapabilitiesBody(Body):
    """What an expert can do; all of it: what is not named is not declared."""

    context_tokens: Tokens | None = Field(
        default=None, description="Of prompt and answer together; not declared: no limit."
    )
    max_output_tokens: Tokens | None = Field(
        default=None, description="Of an answer; not declared: no limit."
    )
    tools: bool = Field(default=False, description="Not declared: it cannot call tools.")
    json_mode: bool = Field(default=False, description="Not declared: it has no JSON mode.")
    regions: Annotated[list[Region], Field(max_length=REGIONS)] = Field(
        default=[],
        description="Everywhere a prompt may be processed; not declared: no request that names"
        " regions is sent there.",
    )

    def to_capabilities(self) -> Capabilities:
        """Return the record."""
        return Capabilities(**self.model_dump() | {"regions": tuple(self.regions)})


class ExpertBody(Body):
    """A new expert; it is registered and earns its traffic."""

    name: Name
    price: PriceBody
    client: Annotated[RecordedClient | OpenAIClient, Field(discriminator="kind")]
    capabilities: CapabilitiesBody = CapabilitiesBody()


class ExpertChange(Body):
    """A new price, status, capabilities; other statuses are earned, not set."""

    price: PriceBody | None = None
    capabilities: CapabilitiesBody | None = None
    status: Literal["paused", "shadow", "retired"] | None = None

    @model_validator(mode="after")
    def check_change(self) -> ExpertChange:
        """Refuse a change that changes nothing."""
        if self.price is None and self.status is None and self.capabilities is None:
            raise ValueError("name a price, a status or capabilities")
        return self


class PriceDocument(Document):
    """What an expert costs in USD."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    request_usd: float


class CapabilitiesDocument(Document):
    """What an expert declares that it can do."""

    context_tokens: int | None
    max_output_tokens: int | None
    tools: bool
    json_mode: bool
    regions: list[str]


class HealthDocument(Document):
    """How an expert does that is out of service for failing calls."""

    since: datetime | None
    was: str = Field(description="The status that it goes back to.")
    error: str
    probes: int
    successes: int = Field(description="Probes answered in a row.")
    next_probe_at: datetime | None


class ExpertDocument(Document):
    """One expert."""

    name: str
    status: ExpertStatus
    price: PriceDocument
    client: dict[str, str]
    added_at: datetime
    status_changed_at: datetime
    capabilities: CapabilitiesDocument
    is_failing: bool = Field(description="Paused for failing calls, not by an operator.")
    health: HealthDocument


class ExpertList(Document):
    """The pool, retired experts too."""

    experts: list[ExpertDocument]


PolicyValue = bool | int | float | Annotated[str, StringConstraints(max_length=200)]
PolicyChange = Annotated[dict[str, PolicyValue], Field(min_length=1, max_length=50)]
"""Settings by name, as JSON values or as text."""


class PolicyDocument(Document):
    """The settings in force."""

    version: int
    settings: dict[str, PolicyValue]


class StateSummary(Document):
    """One routing state."""

    version: int
    parent: int
    threshold: float = Field(description="λ; 2 is SAFE, the reference serves.")
    risk_target: float
    effective_labels: float
    cause: str
    note: str
    sha256: str
    published_at: datetime


class CalibrationDocument(Document):
    """One recalibration, published or refused, with its reason."""

    state_version: int | None
    threshold: float
    risk_target: float
    effective_labels: float
    labels: int
    new_labels: int
    weighted_risk: float | None
    reason: str
    loss: str
    calibrated_at: datetime
    took_ms: float


class WaitingDocument(Document):
    """What is missing before something else than the reference can serve."""

    reason: Literal["safe_cold", "safe_starved"]
    counted: Literal["prompts", "labels"] = Field(
        description="Sampled prompts before anything can be learnt, labels afterwards."
    )
    have: int
    need: int
    labels_per_hour: float | None = Field(
        description="Judged requests an hour over the last day; null when there is no rate."
    )
    hours_left: float | None = Field(description="At this rate; null when nobody can say.")
    text: str = Field(description="The same for a person.")


class JudgeBound(Document):
    """How far the judge's audited error bounds the true risk."""

    judge_version: str
    truly_bad_audited: int
    truly_bad_needed: int
    e1: float | None = Field(description="P(judge accepts | truly bad), as audited.")
    e1_at_most: float | None = Field(description="One-sided 95 % limit; null until bounded.")
    true_risk_at_most: float | None = Field(
        description="Where the judged risk is at the target; null until bounded."
    )
    text: str = Field(description="The same for a person.")


class StateDocument(Document):
    """The active routing state, who serves it and what came before."""

    active: StateSummary | None
    mode: str | None = Field(description="Of the policy; null before one is set.")
    waiting: WaitingDocument | None = Field(
        description="Null unless the reference serves because labels are too few."
    )
    judge: JudgeBound | None = Field(
        description="What the judge's error leaves of the risk target; null before any label."
    )
    acknowledged: dict[str, datetime] = Field(description="Since when each replica serves it.")
    replica: str
    serving_version: int = Field(description="What this replica serves; 0 for none.")
    serving: dict[str, object]
    last_calibration: CalibrationDocument | None
    history: list[StateSummary]


class RollbackBody(Body):
    """Which state to bring back, as a new version."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class RollbackDone(Document):
    """The version that now carries the old state."""

    version: int
    copied_from: int


class CanariesDocument(Document):
    """The last run of comparisons whose right verdict is known."""

    canaries: int
    lost: list[str] = Field(description="Canaries that won, and duplicates that did not tie.")
    gibberish_worse: float = Field(description="Share of planted gibberish judged worse.")
    unreadable: int


class QuarantineDocument(Document):
    """Why a judge version's labels are out of λ."""

    judge_version: str = Field(description="The version itself, or the panel's member to lift.")
    since: datetime = Field(description="Its labels from then on are out.")
    reason: str
    imposed_at: datetime


class JudgeDocument(Document):
    """How one judge version stands."""

    judge_version: str
    labels: int = Field(description="Of the last 30 days.")
    labels_left_out: int = Field(description="Of these, out of λ.")
    last_label_at: datetime | None
    canaries_at: datetime | None
    canaries: CanariesDocument | None
    quarantine: QuarantineDocument | None


class JudgeList(Document):
    """Every judge version with labels, canaries or a quarantine."""

    judges: list[JudgeDocument]


class FeedbackDone(Document):
    """Feedback is stored; ``repeated`` when its Idempotency-Key was seen before."""

    request_id: str
    repeated: bool


class AlertDocument(Document):
    """Something an on-call engineer should know."""

    alert_id: int | None
    kind: str
    subject: str
    message: str
    guarantee: str
    evidence: dict[str, float | None]
    raised_at: datetime


class AlertList(Document):
    """The newest alerts first."""

    alerts: list[AlertDocument]


class Health(Document):
    """The process is alive."""

    status: Literal["alive"] = "alive"
    replica: str


class Ready(Document):
    """Decisions are made with this routing state."""

    status: Literal["ready"] = "ready"
    state_version: int


def plain(value: object) -> object:
    """Return what JSON can hold; NaN and infinities become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return plain(value.item()) if hasattr(value, "item") else str(value)
