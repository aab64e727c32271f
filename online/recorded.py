"""Recorded traffic: a score matrix with costs, as parquet or JSON lines, and its expert client.

Columns: ``prompt_id``, ``prompt``, ``model``, ``score`` in [0, 1], ``cost`` in USD or null, and
optionally ``response``. One row per prompt and model; rows may be missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from online.clients import Answer
from store.errors import ExpertUnavailable, SettingsInvalid
from store.records import Expert, ExpertId, RequestId

NEEDED = ("prompt_id", "prompt", "model", "score")


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One expert's recorded answer to one prompt."""

    score: float
    cost_usd: float | None
    text: str | None


@dataclass(slots=True)
class RecordedTraffic:
    """Prompts in file order and their recorded answers."""

    prompts: dict[RequestId, str] = field(default_factory=dict)
    answers: dict[tuple[RequestId, ExpertId], RecordedAnswer] = field(default_factory=dict)

    def experts(self) -> list[ExpertId]:
        """Return the experts in order of appearance."""
        return list(dict.fromkeys(expert for _, expert in self.answers))

    def has_costs(self) -> bool:
        """Return whether every answer has a cost; without, only quality and regret are shown."""
        return all(a.cost_usd is not None for a in self.answers.values())

    def mean_score(self, expert: ExpertId) -> float:
        """Return the expert's mean recorded score."""
        scores = [a.score for (_, name), a in self.answers.items() if name == expert]
        return sum(scores) / len(scores)

    def mean_cost(self, expert: ExpertId, among: Iterable[RequestId]) -> float | None:
        """Return the expert's mean recorded cost over some prompts."""
        costs = [
            a.cost_usd
            for r in among
            if (a := self.answers.get((r, expert))) is not None and a.cost_usd is not None
        ]
        return sum(costs) / len(costs) if costs else None


def load_recorded(path: Path) -> RecordedTraffic:
    """Read recorded traffic.

    Raises
    ------
    SettingsInvalid
        The file is missing, of another kind, lacks a column, or holds a bad number; says where.
    """
    if not path.is_file():
        raise SettingsInvalid(f"{path} is not a file")
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    traffic = RecordedTraffic()
    number = 0
    try:
        for number, row in enumerate(rows, start=1):  # noqa: B007  named in the message
            _add(traffic, row)
    except (KeyError, TypeError, ValueError) as problem:
        raise SettingsInvalid(_where(path, number, problem)) from problem
    if not traffic.answers:
        raise SettingsInvalid(f"{path} holds no rows")
    return traffic


def _where(path: Path, number: int, problem: Exception) -> str:
    """Return what is wrong and near which row (a row that cannot be parsed was never numbered)."""
    if isinstance(problem, json.JSONDecodeError):
        return f"{path}, after row {number}: a line is no JSON ({problem.msg})"
    return f"{path}, row {number}: {problem}"


class RecordedClient:
    """Answers from recorded traffic, by request id."""

    def __init__(self, expert: Expert, traffic: RecordedTraffic) -> None:
        self._expert = expert
        self._traffic = traffic

    def ask(self, request_id: RequestId, prompt: str) -> Answer:
        found = self._traffic.answers.get((request_id, self._expert.name))
        if found is None:
            raise ExpertUnavailable(f"no recorded answer of {self._expert.name} to {request_id}")
        return Answer(
            text=found.text,
            cost_usd=self._expert.price.request_usd if found.cost_usd is None else found.cost_usd,
        )


def _add(traffic: RecordedTraffic, row: Mapping[str, object]) -> None:
    if missing := [name for name in NEEDED if row.get(name) is None]:
        raise ValueError(f"missing {', '.join(missing)}")
    request_id = RequestId(str(row["prompt_id"]))
    score = float(str(row["score"]))
    cost = row.get("cost")
    cost_usd = None if cost is None or str(cost) == "nan" else float(str(cost))
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"score must be in [0, 1], got {score}")
    if cost_usd is not None and not (math.isfinite(cost_usd) and cost_usd >= 0.0):
        raise ValueError(f"cost must be finite and not negative, got {cost_usd}")
    text = row.get("response")
    traffic.prompts.setdefault(request_id, str(row["prompt"]))
    traffic.answers[request_id, ExpertId(str(row["model"]))] = RecordedAnswer(
        score, cost_usd, None if text is None else str(text)
    )


def _json_rows(path: Path) -> Iterator[Mapping[str, object]]:
    # Not str.splitlines: real prompts contain other line separators (U+2028, form feeds).
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError("each line must be a JSON object")
            yield row


def _parquet_rows(path: Path) -> Iterator[Mapping[str, object]]:
    try:
        import pyarrow.parquet  # noqa: PLC0415  optional
    except ImportError as missing:
        raise SettingsInvalid(
            "reading parquet needs pyarrow: pip install 'steersman[replay]'"
        ) from missing
    table = pyarrow.parquet.read_table(path)
    wanted = [c for c in (*NEEDED, "cost", "response") if c in table.column_names]
    for batch in table.select(wanted).to_batches():
        yield from batch.to_pylist()
