"""Descriptors of a language model that really runs here, SmolLM2-135M-Instruct."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from online import probes
from online.descriptors import stacked
from online.fingerprint import fingerprint
from online.footprint import conversation, footprint
from online.local_lm import LocalModel
from tests.local_models import smollm2

PROBES = probes.texts()[::24]
BRIEF = "Answer with one word."
LIKE = 1.0 - 1e-5
"""Cosine between two measurements of one expert: what 32-bit arithmetic leaves."""


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield LocalModel.load(smollm2())
    torch.set_num_threads(before)


def test_a_footprint_is_the_same_in_any_batch_and_order(model: LocalModel) -> None:
    one = footprint(model, PROBES, batch=1)
    assert float(one @ footprint(model, PROBES, batch=4)) > LIKE
    assert float(one @ footprint(model, PROBES[::-1], batch=8)) > LIKE


def test_a_system_prompt_makes_another_expert(model: LocalModel) -> None:
    plain, brief = (footprint(model, PROBES, system=said, batch=8) for said in (None, BRIEF))
    assert float(plain @ brief) < 0.99


def test_fingerprints_of_answers_tell_experts_apart(model: LocalModel) -> None:
    told = [
        model.answers([conversation(text, said) for text in PROBES], at_most=8)
        for said in (None, BRIEF)
    ]
    found = stacked([fingerprint(answers, model, batch=3) for answers in told])
    again = fingerprint(told[0], model, batch=8)
    assert float(found[0] @ again) > LIKE
    assert float(found[0] @ found[1]) < 0.99


def test_a_likely_text_loses_less_than_an_unlikely_one(model: LocalModel) -> None:
    likely, unlikely, empty = model.log_losses(
        ["The capital of France is Paris.", "Paris The is. of France capital", ""], at_most=64
    )
    assert likely.mean() < unlikely.mean()
    assert len(empty) == 0
    (alone,) = model.log_losses(["The capital of France is Paris."], at_most=64)
    np.testing.assert_allclose(alone, likely, atol=1e-4)
    (cut,) = model.log_losses(["The capital of France is Paris."], at_most=3)
    np.testing.assert_allclose(cut, likely[:3], atol=1e-4)
