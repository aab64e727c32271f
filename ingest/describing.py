"""Describing an expert from the command line: a trial, the probes, and the vector made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ingest.backbone import Backbone
from ingest.commands import actor_name
from judge.describing import ANSWER_TOKENS, Describer
from online import probes
from online.clients import Answer
from store.describing import Descriptor, DescriptorKind
from store.errors import ExpertUnavailable, SettingsInvalid
from store.health import CallError
from store.records import AuditEntry, Expert, ExpertId, ExpertStatus, FloatArray, JsonObject

TRIAL = "Reply with the word OK."
READ_AT_ONCE = 8
"""Probes or answers; progress moves by as many."""

Progress = Callable[[int], None]


class ProbeClient:
    """What an endpoint is asked probes through; asks for temperature 0 where it takes that."""

    def __init__(self, expert: Expert) -> None:
        from online.chat import OpenAiClient  # noqa: PLC0415  openai is slow to import

        self._client = OpenAiClient(expert)
        self.temperature: float | None = 0.0
        self.tried: Answer | None = None

    def trial(self) -> Answer:
        """Make one tiny call, the first time. Raises ``ExpertUnavailable``, which says why."""
        if self.tried is None:
            self.tried = self._first()
        return self.tried

    def _first(self) -> Answer:
        try:
            return self.ask(TRIAL)
        except ExpertUnavailable as problem:
            if problem.error is not CallError.REFUSED:
                raise
        self.temperature = None  # some models take none but their own
        return self.ask(TRIAL)

    def ask(self, text: str) -> Answer:
        """Return the answer to one text."""
        return self._client.probe(text, max_tokens=ANSWER_TOKENS, temperature=self.temperature)


def can_be_asked(expert: Expert) -> bool:
    """Return whether an expert is behind an endpoint; recorded traffic knows no new prompts."""
    return expert.client.get("kind") == "openai"


def describer(backbone: Backbone, expert: Expert, prober: ProbeClient) -> Describer:
    """Return what asks the 192 probes of ``online.probes``."""
    return Describer(
        backbone.ledger,
        backbone.clock,
        expert,
        prober.ask,
        probes=probes.texts(),
        probe_set=probes.sha256(),
    )


def known_expert(backbone: Backbone, name: str) -> Expert:
    """Return an expert of the pool. Raises ``SettingsInvalid`` if there is none of that name."""
    with backbone.ledger.begin() as tx:
        expert = tx.experts.find(ExpertId(name))
    if expert is None:
        raise SettingsInvalid(f"no expert is called {name!r}; `steersman experts list` shows them")
    return expert


def refuse_retired(expert: Expert) -> None:
    """Raise ``SettingsInvalid`` for a retired expert: what describes it was deleted for good."""
    if expert.status is ExpertStatus.RETIRED:
        raise SettingsInvalid(
            f"{expert.name} is retired for good and is not described any more: add an expert under"
            " another name"
        )


def keep_footprint(
    backbone: Backbone, expert: ExpertId, weights: Path, progress: Progress
) -> Descriptor:
    """Run the probes through open weights on this machine and keep the logit footprint.

    Raises ``SettingsInvalid``: the weights cannot be loaded, or give no footprint.
    """
    from online.footprint import footprint, identity  # noqa: PLC0415
    from online.local_lm import LocalModel  # noqa: PLC0415  torch is slow to import

    model = LocalModel.load(weights)
    try:
        vector = footprint(model, probes.texts(), batch=READ_AT_ONCE, progress=progress)
    except ValueError as problem:
        raise SettingsInvalid(f"{weights}: {problem}") from problem
    recipe = identity(probes.texts())
    details: JsonObject = {"weights": weights.name, "weights_sha256": model.identity()}
    return _kept(backbone, expert, DescriptorKind.FOOTPRINT, recipe, vector, details)


def keep_fingerprint(
    backbone: Backbone, expert: ExpertId, asked: Describer, reader: str, progress: Progress
) -> Descriptor:
    """Read the answers under a language model and keep the perplexity fingerprint.

    Raises ``SettingsInvalid``: the model cannot be loaded, or the answers give no fingerprint.
    """
    from online.fingerprint import fingerprint, identity  # noqa: PLC0415
    from online.local_lm import LocalModel  # noqa: PLC0415

    model = LocalModel.load(reader)
    answers = asked.answers()
    try:
        vector = fingerprint(answers, model, batch=READ_AT_ONCE, progress=progress)
    except ValueError as problem:
        raise SettingsInvalid(f"{expert}: {problem}") from problem
    recipe = identity(probes.texts(), model.identity())
    details: JsonObject = {
        "reader": Path(reader).name,
        "answers": sum(text is not None for text in answers),
        "empty": sum(text == "" for text in answers),
    }
    return _kept(backbone, expert, DescriptorKind.FINGERPRINT, recipe, vector, details)


def _kept(
    backbone: Backbone,
    expert: ExpertId,
    kind: DescriptorKind,
    recipe: str,
    vector: FloatArray,
    details: JsonObject,
) -> Descriptor:
    now = backbone.clock.now()
    made = Descriptor(
        expert=expert,
        kind=kind,
        recipe=recipe,
        vector=vector.astype(np.float32),
        made_at=now,
        details={"probes": probes.COUNT, "probe_set": probes.sha256(), **details},
    )
    told = {"name": expert, "kind": kind, "recipe": recipe}
    with backbone.ledger.begin() as tx:
        tx.describing.keep(made)
        tx.operations.audit(
            AuditEntry(actor=actor_name(), action="expert.described", detail=told, at=now)
        )
    return made
