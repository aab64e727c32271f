"""``python -m benchmarks.live_descriptors``: descriptors of real models, and their use.

Two small language models, each under two system prompts, answer 540 prompts whose answers are
checked. Nothing is downloaded. What they say is kept under ``--cache``: the first run takes about
20 minutes of one core and goes on where it was stopped; with a full cache it takes three.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.live_answers import ANSWER_TOKENS, CONTESTANTS, PROBE_TOKENS, Contest
from benchmarks.live_routing import Field, fixed_pool, newcomers
from benchmarks.live_tasks import WORDINGS, Task, is_right, tasks
from benchmarks.timing import heading, table
from online import probes
from online.descriptors import stacked
from online.encode import CachedEncoder, SentenceEncoder
from online.fingerprint import fingerprint_of, mean_losses
from store.records import FloatArray

CACHE = Path(".run") / "live_descriptors"
BATCHES = (1, 8, 32)
AT_ONCE = 32
STABLE_ON = 16
"""Probes of the comparison of batches: one by one they take long."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Descriptors of the contestants that need no label."""

    footprints: FloatArray
    """float64[M, 256]"""
    fingerprints: FloatArray
    """float64[M, 192]"""
    halves: tuple[FloatArray, FloatArray]
    """Fingerprints on the probes of even and of odd place, float64[M, 96] each."""
    scoring: list[float]
    """Seconds of one core to read an expert's answers."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where answers are kept")
    contest = Contest(parser.parse_args().cache)
    print(heading("python -m benchmarks.live_descriptors"))
    field = asked(contest, tasks())
    print(scores(field))
    found = measured(contest)
    print(costs(contest, found))
    print(stability(contest, found))
    print(fixed_pool(field, found.footprints, found.fingerprints))
    print(newcomers(field, found.footprints, found.fingerprints))


def asked(contest: Contest, prompts: list[Task]) -> Field:
    """Return every contestant's grades on the prompts."""
    texts = [task.prompt for task in prompts]
    said = [contest.answers(who, texts, at_most=ANSWER_TOKENS, stop="\n") for who in CONTESTANTS]
    right = [
        [is_right(task, text) for task, text in zip(prompts, answers, strict=True)]
        for answers in said
    ]
    encoder = CachedEncoder(SentenceEncoder(), contest.folder / "vectors")
    embeddings = encoder.encode(texts)
    encoder.close()
    return Field(prompts, embeddings, np.array(right).T)


def measured(contest: Contest) -> Measured:
    """Return the contestants' descriptors from the probes."""
    texts = probes.texts()
    footprints = [contest.footprint(who, texts, batch=AT_ONCE)[0] for who in CONTESTANTS]
    answers = [contest.answers(who, texts, at_most=PROBE_TOKENS) for who in CONTESTANTS]
    scorer = contest.model("smollm2")
    losses, scoring = [], []
    for one in answers:
        began = time.process_time()
        losses.append(mean_losses(one, scorer))
        scoring.append(time.process_time() - began)
    return Measured(
        stacked(footprints),
        stacked([fingerprint_of(one) for one in losses]),
        (
            stacked([fingerprint_of(one[::2]) for one in losses]),
            stacked([fingerprint_of(one[1::2]) for one in losses]),
        ),
        scoring,
    )


def scores(field: Field) -> str:
    """Say how many prompts each contestant answers right, task by task."""
    kinds = list(dict.fromkeys(task.kind for task in field.tasks))
    of_kind = np.array([kinds.index(task.kind) for task in field.tasks])
    shares = {kind: field.right[of_kind == k].mean(axis=0) for k, kind in enumerate(kinds)}
    shares["**all**"] = field.right.mean(axis=0)
    rows = [(name, *(f"{100 * share:.0f} %" for share in row)) for name, row in shares.items()]
    return (
        f"\n{len(field.tasks)} prompts, {len(kinds)} tasks in {WORDINGS} wordings, greedy answers"
        f" of at most {ANSWER_TOKENS} tokens; share right:\n"
        + table(("task", *(who.name for who in CONTESTANTS)), rows)
    )


def costs(contest: Contest, found: Measured) -> str:
    """Say what a descriptor took."""
    texts = probes.texts()
    rows = []
    for who, read in zip(CONTESTANTS, found.scoring, strict=True):
        _, took = contest.footprint(who, texts, batch=AT_ONCE)
        answers = contest.seconds(who, texts, at_most=PROBE_TOKENS)
        rows.append((who.name, *(f"{seconds:.0f} s" for seconds in (took, answers, read))))
    answering = f"answering, 192 × {PROBE_TOKENS} tokens"
    columns = ("expert", "footprint, 192 × 10 tokens", answering, "fingerprint of the answers")
    return "\nSeconds of one core for the 192 probes:\n" + table(columns, rows)


def stability(contest: Contest, found: Measured) -> str:
    """Say how alike descriptors of one expert are, and how far experts are apart."""
    texts = probes.texts()[:: probes.COUNT // STABLE_ON]
    batches = [_footprints(contest, texts, batch=batch) for batch in BATCHES]
    halves = [_footprints(contest, probes.texts()[at::2], batch=AT_ONCE) for at in (0, 1)]
    rows = [
        _separation(f"footprint, {STABLE_ON} probes, batches of 1, 8 and 32", batches),
        _separation("footprint, 96 probes and 96 others", halves),
        _separation("footprint, 192 probes", [found.footprints]),
        _separation("fingerprint, 192 probes", [found.fingerprints]),
    ]
    columns = ("descriptor", "one expert, least", "one model, most", "two models, most", "margin")
    first, second = (_between(one) for one in found.halves)
    return (
        "\nCosines between measurements: of one expert, of one model under two system prompts, of"
        " two models. The margin is the first less the last:\n"
        + table(columns, rows)
        + "\n\nFingerprints on other probes have other coordinates. What should agree is how alike"
        f" two experts are: on 96 probes and on 96 others their {len(first)} cosines differ by at"
        f" most {np.abs(first - second).max():.3f}, correlation"
        f" {np.corrcoef(first, second)[0, 1]:.3f}."
    )


def _footprints(contest: Contest, texts: Sequence[str], *, batch: int) -> FloatArray:
    return stacked([contest.footprint(who, texts, batch=batch)[0] for who in CONTESTANTS])


def _between(rows: FloatArray) -> FloatArray:
    """Return the cosine of each pair of experts."""
    return np.asarray((rows @ rows.T)[np.triu_indices(len(rows), 1)])


def _separation(name: str, measured_as: Sequence[FloatArray]) -> tuple[str, ...]:
    """Return a row: experts measured in one or more ways, each float64[M, K]."""
    is_same_model = np.array([[a.model == b.model for a in CONTESTANTS] for b in CONTESTANTS])
    is_other_expert = ~np.eye(len(CONTESTANTS), dtype=bool)
    pairs = list(itertools.combinations_with_replacement(measured_as, 2))
    cosines = [one @ other.T for one, other in pairs]
    siblings = max(float(c[is_same_model & is_other_expert].max()) for c in cosines)
    others = max(float(c[~is_same_model].max()) for c in cosines)
    if len(measured_as) == 1:
        return (name, "", f"{siblings:.4f}", f"{others:.4f}", "")
    same = min(float(np.diag(c).min()) for c in cosines)
    return (name, f"{same:.6f}", f"{siblings:.4f}", f"{others:.4f}", f"{same - others:.4f}")


if __name__ == "__main__":
    main()
