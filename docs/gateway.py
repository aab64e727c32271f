"""A small gateway: reads prompts, has Steersman decide, calls the expert, reports the answer.

    python gateway.py < prompts.txt

One prompt a line. It is an example to copy from: yours is the program that answers your users.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import kafka
import openai

RUN_DIR = Path(os.environ.get("STEERSMAN_RUN_DIR", ".run"))
JSON = {"content-type": "application/json"}
PORTION = 40
"""Prompts between two lines of output."""


class Served(NamedTuple):
    """What was decided on a prompt, and the event that reports the answer."""

    decision: dict[str, Any]
    event: dict[str, Any]


def connection() -> dict[str, str]:
    """Return where the `steersman up` of this directory listens.

    With a Kafka and a Steersman of your own these are addresses that you know.
    """
    return cast("dict[str, str]", json.loads((RUN_DIR / "connection.json").read_text()))


def pool(steersman: str) -> dict[str, dict[str, str]]:
    """Return how each expert is called."""
    with urllib.request.urlopen(f"{steersman}/v1/experts", timeout=10.0) as reply:  # noqa: S310
        return {e["name"]: e["client"] for e in json.load(reply)["experts"]}


def decide(steersman: str, prompt: str) -> dict[str, Any]:
    """Return Steersman's decision; the first one may have to wait for the first routing state."""
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{steersman}/v1/routing/decision", body, JSON)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60.0) as reply:  # noqa: S310
        return cast("dict[str, Any]", json.load(reply))


@cache
def opened(base_url: str, api_key_env: str) -> openai.OpenAI:
    """Return the endpoint's client, made once."""
    return openai.OpenAI(base_url=base_url, api_key=os.environ.get(api_key_env, "none"))


def ask(client: dict[str, str], prompt: str) -> dict[str, Any]:
    """Return the expert's answer as a response event has it."""
    endpoint = opened(client["base_url"], client.get("api_key_env", ""))
    started = time.monotonic()
    said = endpoint.chat.completions.create(
        model=client["model"], messages=[{"role": "user", "content": prompt}]
    )
    answer: dict[str, Any] = {
        "text": said.choices[0].message.content,
        "latency_ms": 1_000.0 * (time.monotonic() - started),
    }
    if said.usage is not None:
        answer["input_tokens"] = said.usage.prompt_tokens
        answer["output_tokens"] = said.usage.completion_tokens
    return answer


def handle(prompt: str, where: dict[str, str], experts: dict[str, dict[str, str]]) -> Served:
    """Answer one prompt."""
    decision = decide(where["http_url"], prompt)
    answer = ask(experts[decision["expert"]], prompt)
    event = {
        "schema": "steersman.response",
        "version": 1,
        "request_id": decision["request_id"],
        "expert": decision["expert"],
        **answer,
    }
    return Served(decision, event)


def told(portion: list[Served]) -> str:
    """Return who answered some prompts, and by which λ the last of them was decided."""
    counts = Counter(f"{s.decision['expert']} ({s.decision['reason']})" for s in portion)
    last = portion[-1].decision
    threshold = "SAFE" if last["threshold"] >= 2 else f"{last['threshold']:.2f}"
    shares = ", ".join(f"{how} {count}" for how, count in counts.most_common())
    return f"λ {threshold}, {last['effective_labels']:.0f} effective labels: {shares}"


def main() -> None:
    """Answer every prompt of standard input, eight at a time."""
    where = connection()
    experts = pool(where["http_url"])
    producer = kafka.KafkaProducer(bootstrap_servers=where["bootstrap_servers"].split(","))
    prompts = [line.strip() for line in sys.stdin if line.strip()]
    with ThreadPoolExecutor(8) as workers:
        for start in range(0, len(prompts), PORTION):
            some = prompts[start : start + PORTION]
            portion = list(workers.map(lambda prompt: handle(prompt, where, experts), some))
            for _, event in portion:
                key = event["request_id"].encode()
                producer.send("router.responses", key=key, value=json.dumps(event).encode())
            producer.flush(30)
            print(f"prompts {start + 1} to {start + len(some)}: {told(portion)}", flush=True)  # noqa: T201
    producer.close()


if __name__ == "__main__":
    main()
