"""An open-weight language model on this machine: what it would say, and how likely a text is to it.

The second home of torch and transformers, beside ``encode.py``; imported only when a model is
loaded, never where a request is decided. Rows of a batch are padded on the left and masked, with
positions counted from each row's first token, so that a row means the same in every batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from online.clients import Message
from store.errors import SettingsInvalid
from store.records import FloatArray

_ANCHOR = "a"
"""What a token is decoded after: some tokenizers drop the space of a first token."""


class LocalModel:
    """A causal language model of transformers with its tokenizer; greedy, on the CPU.

    Parameters
    ----------
    model, tokenizer
        ``AutoModelForCausalLM`` and ``AutoTokenizer``, or what behaves like them.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._model.eval()
        stated = model.generation_config.eos_token_id
        ends = stated if isinstance(stated, list) else [stated]
        self._ends = sorted({x for x in [*ends, tokenizer.eos_token_id] if x is not None})

    @classmethod
    def load(cls, place: str | Path) -> LocalModel:
        """Load a folder of weights, a ``.gguf`` file or a name that transformers can find.

        Raises
        ------
        SettingsInvalid
            It cannot be loaded; the message says what to do.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  heavy
        from transformers.utils import logging as chatter  # noqa: PLC0415

        chatter.disable_progress_bar()  # type: ignore[no-untyped-call]  # the library ships none
        path = Path(place)
        is_gguf = path.suffix == ".gguf"
        at: dict[str, Any] = {
            "pretrained_model_name_or_path": str(path.parent if is_gguf else place),
            **({"gguf_file": path.name} if is_gguf else {}),
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(**at)
            return cls(AutoModelForCausalLM.from_pretrained(**at), tokenizer)
        except (ImportError, OSError, ValueError) as problem:
            raise SettingsInvalid(
                f"the model {str(place)!r} cannot be loaded ({type(problem).__name__}); name a"
                " folder of weights that transformers reads, or a .gguf file (for which:"
                " pip install 'steersman[local]')"
            ) from problem

    def identity(self) -> str:
        """Return a hash over the weights and the vocabulary."""
        digest = hashlib.sha256("\x1f".join(self.vocabulary()).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    def vocabulary(self) -> list[str]:
        """Return the string that each token id adds to a text; empty for what adds none."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> list[str]:
        (anchor,) = self._tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"]
        texts = self._tokenizer.batch_decode(
            [[anchor, token] for token in range(len(self._tokenizer))],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return [text.removeprefix(_ANCHOR) for text in texts]

    def string_mass(
        self, talks: Sequence[Sequence[Message]], *, columns: Sequence[Sequence[int]], steps: int
    ) -> FloatArray:
        """Return float64[n, K]: probability of groups of tokens, summed over greedy steps.

        Parameters
        ----------
        talks
            n conversations that the model is to answer, one batch.
        columns
            Token ids of each of the K groups.
        steps
            T, the longest answer in tokens. The step that ends an answer counts, none after it.
        """
        import torch  # noqa: PLC0415

        ids = torch.tensor([token for group in columns for token in group])
        column = torch.tensor([k for k, group in enumerate(columns) for _ in group])
        total = torch.zeros(len(talks), len(columns), dtype=torch.float64)
        for logits, is_open, _ in self._greedy(talks, steps, self._ends):
            mass = torch.softmax(logits, dim=-1)[:, ids].double()
            total.index_add_(1, column, mass * is_open[:, None])
        return np.asarray(total.numpy())

    def answers(
        self, talks: Sequence[Sequence[Message]], *, at_most: int, stop: str | None = None
    ) -> list[str]:
        """Return the greedy answers to a batch of conversations, of ``at_most`` tokens each.

        With ``stop``, an answer ends before the first token that writes this string.
        """
        ends = {*self._ends}
        if stop is not None:
            ends |= {token for token, text in enumerate(self.vocabulary()) if stop in text}
        said: list[list[int]] = [[] for _ in talks]
        for _, is_open, chosen in self._greedy(talks, at_most, ends):
            for row, token in enumerate(chosen.tolist()):
                if is_open[row] and token not in ends:
                    said[row].append(token)
        texts = self._tokenizer.batch_decode(said, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def log_losses(self, texts: Sequence[str], *, at_most: int) -> list[FloatArray]:
        """Return ``-log p`` in nats of each token of each text, given those before it.

        The first token is conditioned on the begin (or else the end) of a text. A text without
        tokens gives an empty array; tokens after ``at_most`` are not read.
        """
        import torch  # noqa: PLC0415

        first = self._tokenizer.bos_token_id
        start = self._ends[0] if first is None else first
        rows = [self._tokenizer(t, add_special_tokens=False)["input_ids"][:at_most] for t in texts]
        ids, mask = _padded([[start, *row] for row in rows], on_left=False)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            lost = -torch.log_softmax(logits, dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        return [lost[i, : len(row)].double().numpy() for i, row in enumerate(rows)]

    def _greedy(self, talks: Sequence[Sequence[Message]], steps: int, ends: Collection[int]) -> Any:
        """Yield each step: logits [n, V], which answers are still open, the chosen tokens."""
        import torch  # noqa: PLC0415

        rows = [self._tokens(talk) for talk in talks]
        shared = _shared(rows)
        ids, mask = _padded([row[shared:] for row in rows], on_left=True)
        place = shared + (mask.cumsum(1) - 1).clamp(min=0)
        mask = torch.cat([torch.ones(len(rows), shared, dtype=mask.dtype), mask], dim=1)
        closing = torch.tensor(sorted(ends))
        is_open = torch.ones(len(talks), dtype=torch.bool)
        past = self._read_once(rows[0][:shared], len(rows))
        with torch.inference_mode():
            for _ in range(steps):
                read = self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=place,
                    past_key_values=past,
                    use_cache=True,
                    logits_to_keep=1,
                )
                logits, past = read.logits[:, -1].float(), read.past_key_values
                chosen = logits.argmax(dim=-1)
                yield logits, is_open, chosen
                is_open = is_open & ~torch.isin(chosen, closing)
                if not is_open.any():
                    return
                ids, place = chosen[:, None], place[:, -1:] + 1
                mask = torch.cat([mask, torch.ones_like(ids)], dim=1)

    def _read_once(self, shared: Sequence[int], copies: int) -> Any:
        """Return the cache of what all rows of a batch begin with; None if that is nothing."""
        import torch  # noqa: PLC0415

        if not shared:
            return None
        with torch.inference_mode():
            read = self._model(
                input_ids=torch.tensor([list(shared)]), use_cache=True, logits_to_keep=1
            )
        read.past_key_values.batch_repeat_interleave(copies)
        return read.past_key_values

    def _tokens(self, talk: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation; without a chat template, of a plain transcript."""
        turns = [{"role": m.role, "content": m.content} for m in talk]
        if self._tokenizer.chat_template:
            said = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=True
            )
        else:
            lines = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns]
            said = self._tokenizer("\n".join([*lines, "Assistant:"]))
        return list(said["input_ids"])


def _shared(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with, a system prompt mostly; each keeps one more."""
    if len(rows) == 1:
        return 0
    most = min(map(len, rows)) - 1
    return next((i for i in range(most) if len({row[i] for row in rows}) > 1), most)


def _padded(rows: Sequence[Sequence[int]], *, on_left: bool) -> tuple[Any, Any]:
    """Return token ids and attention mask, int64[n, longest] each; padding is masked."""
    import torch  # noqa: PLC0415

    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if on_left else slice(0, len(row))
        ids[i, at] = torch.tensor(row)
        mask[i, at] = 1
    return ids, mask
