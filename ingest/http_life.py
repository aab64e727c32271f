"""One expert's life over HTTP, as ``steersman experts show`` prints it."""

from __future__ import annotations

from datetime import datetime

from ingest.http_models import Document, ExpertDocument
from recalibrate.joining import Joining
from store.describing import DescriptorKind
from store.records import ExpertStatus


class StepDocument(Document):
    """A status from an instant on."""

    status: ExpertStatus
    at: datetime


class ShareDocument(Document):
    """Decisions of the last day; pins and those of modes observe and off are left out."""

    served: int
    ramped: int
    decisions: int


class DescriptorDocument(Document):
    """How an expert was described; the vector itself is not shown."""

    kind: DescriptorKind
    recipe: str
    dimension: int
    made_at: datetime


class ExpertLife(ExpertDocument):
    """One expert and how far it has come; docs/experts.md defines the figures."""

    steps: list[StepDocument]
    waits_for: str
    seconds_to_first_route: float | None
    seconds_to_certified: float | None
    labels_needed: int
    labels_got: int
    last_day: ShareDocument
    probe_answers: int
    probe_usd: float
    descriptors: list[DescriptorDocument]
    state_version: int | None
    replicas: list[str]


def life_of(found: Joining) -> ExpertLife:
    """Return the document."""
    return ExpertLife(
        **dict(ExpertDocument.model_validate(found.expert)),
        steps=[StepDocument.model_validate(step) for step in found.steps],
        waits_for=found.waits_for,
        seconds_to_first_route=found.seconds_to_first_route,
        seconds_to_certified=found.seconds_to_certified,
        labels_needed=found.labels_needed,
        labels_got=found.labels_got,
        last_day=ShareDocument.model_validate(found.share),
        probe_answers=found.probe_answers,
        probe_usd=found.probe_usd,
        descriptors=[
            DescriptorDocument(
                kind=one.kind, recipe=one.recipe, dimension=len(one.vector), made_at=one.made_at
            )
            for one in found.descriptors
        ],
        state_version=found.state_version,
        replicas=list(found.replicas),
    )
