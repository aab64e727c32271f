"""What the processes read from the environment; ``steersman settings`` prints it."""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.topics import KafkaSettings
from judge.families import family_of
from store.addresses import is_http_url
from store.errors import SettingsInvalid
from store.retention import RetentionSettings

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MOST_WORKERS = 16
"""Half of the connections that a process may hold, and they need two at times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """``STEERSMAN_HTTP_*``: the HTTP interface."""

    host: str = "127.0.0.1"
    """Address to listen on; any other than loopback, and any proxy, requires API keys."""
    port: int = 8080
    """Port to listen on; 0 takes a free one."""
    threads: int = 32
    """Requests handled at the same time; further ones wait."""
    max_prompt_bytes: int = 65_536
    """Longest prompt text in UTF-8 bytes; a longer one is refused with 413."""
    feedback_per_minute: int = 6_000
    """Words of feedback a minute that one `source` may give to one process; 0: any number."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.port <= 65_535:
            problems.append(f"port must be in [0, 65535], got {self.port}")
        if self.threads < 1:
            problems.append(f"threads must be at least 1, got {self.threads}")
        if self.max_prompt_bytes < 1:
            problems.append(f"max_prompt_bytes must be at least 1, got {self.max_prompt_bytes}")
        if self.feedback_per_minute < 0:
            problems.append(
                f"feedback_per_minute must not be negative, got {self.feedback_per_minute}"
            )
        if not self.host:
            problems.append("host must not be empty; 0.0.0.0 listens on every address")
        if problems:
            raise SettingsInvalid("; ".join(problems))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """``STEERSMAN_JUDGE_*``: a language model that policy ``judge=llm`` asks."""

    base_url: str = ""
    """OpenAI-compatible endpoint of the judge, with /v1; empty: there is no such judge."""
    model: str = ""
    """The endpoint's model name; part of every label's judge version."""
    api_key_env: str = ""
    """Name of the variable that holds the judge's key, never the key; empty for none."""
    family: str = ""
    """Who made the model, such as google; empty: told by its name."""
    structured: bool = False
    """Hold replies to the verdict's JSON Schema, where the endpoint has structured outputs."""
    input_usd_per_mtok: float = 0.0
    """USD per million input tokens of the judge."""
    output_usd_per_mtok: float = 0.0
    """USD per million output tokens of the judge."""
    request_usd: float = 0.0
    """USD per call of the judge."""
    calls_per_s: float = 0.0
    """Calls of the judge per second and process, at most; 0 for no limit."""
    concurrency: int = 8
    """Calls of the judge under way at the same time in a process, at most."""

    def __post_init__(self) -> None:
        problems = []
        if bool(self.base_url) != bool(self.model):
            problems.append("base_url and model belong together: set both or neither")
        if self.base_url and not is_http_url(self.base_url):
            problems.append("base_url must begin with http:// or https:// and name a host")
        if self.api_key_env and not is_variable(self.api_key_env):
            problems.append("api_key_env must name a variable, such as JUDGE_KEY; it is no key")
        problems += [
            f"{name} must be finite and not negative"
            for name in ("input_usd_per_mtok", "output_usd_per_mtok", "request_usd", "calls_per_s")
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0)
        ]
        if self.concurrency < 1:
            problems.append(f"concurrency must be at least 1, got {self.concurrency}")
        if problems:
            raise SettingsInvalid("; ".join(problems))


def is_variable(name: str) -> bool:
    """Return whether an environment variable can have that name; keys rarely look like one."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """``STEERSMAN_*``: what every role needs."""

    http: HttpSettings = field(default_factory=HttpSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    second_judge: JudgeSettings = field(default_factory=JudgeSettings)
    third_judge: JudgeSettings = field(default_factory=JudgeSettings)
    judge_rules: Path | None = None
    """JSON file with checks for prompts that come without one; empty: none."""
    judge_workers: int = 4
    """Requests that a judge process judges at once; its calls mostly wait for language models."""
    database_url: str = field(default="", metadata={"secret": True})
    """PostgreSQL to use, as a URL; empty starts the embedded server in the run directory."""
    run_dir: Path = Path(".run")
    """Directory of everything this process writes besides the database."""
    cache_dir: Path | None = None
    """Directory of the embedding cache; empty puts it into the run directory."""
    encoder: str = "bundled"
    """Prompt encoder: ``bundled`` or a directory with a sentence-transformers model."""
    fingerprint_model: str = ""
    """Small language model that reads experts' answers to probes: a folder of weights or a name
    that transformers finds; the same for every expert. Empty: no fingerprints."""
    recorded: Path | None = None
    """File of recorded traffic that experts and judge of kind ``recorded`` answer from."""
    replica: str = field(default_factory=socket.gethostname, metadata={"default": "host name"})
    """Name of this process in acknowledgements and leases; unique among running ones."""
    metrics_port: int = 0
    """Port on 127.0.0.1 where ``ingest``, ``judge`` or ``learn`` answers /metrics; 0: nowhere."""
    log_level: str = "INFO"
    """Least severe message that is logged: DEBUG, INFO, WARNING or ERROR."""

    def __post_init__(self) -> None:
        problems = []
        if self.log_level not in LOG_LEVELS:
            problems.append(f"log_level must be one of {', '.join(LOG_LEVELS)}")
        if not 0 <= self.metrics_port <= 65_535:
            problems.append(f"metrics_port must be in [0, 65535], got {self.metrics_port}")
        if not 1 <= self.judge_workers <= MOST_WORKERS:
            problems.append(
                f"judge_workers must be in [1, {MOST_WORKERS}], got {self.judge_workers}"
            )
        if not self.replica:
            problems.append("replica must not be empty")
        if not self.encoder:
            problems.append("encoder must not be empty")
        problems += _panel_problems((self.judge, self.second_judge, self.third_judge))
        if problems:
            raise SettingsInvalid("; ".join(problems))

    @property
    def judges(self) -> tuple[JudgeSettings, ...]:
        """Return the judges that are configured: none, one, or a panel of two or three."""
        all_three = (self.judge, self.second_judge, self.third_judge)
        return tuple(judge for judge in all_three if judge.base_url)

    @property
    def embedding_cache(self) -> Path:
        """Return the directory of the embedding cache."""
        return self.cache_dir or self.run_dir / "cache"


def _panel_problems(judges: Sequence[JudgeSettings]) -> list[str]:
    places = [bool(judge.base_url) for judge in judges]
    models = [judge.model for judge in judges if judge.base_url]
    families = [judge.family.lower() or family_of(judge.model) for judge in judges if judge.model]
    problems = []
    if sorted(places, reverse=True) != places:
        problems.append("a second_judge needs a judge before it, a third_judge both")
    if len(set(models)) < len(models):
        problems.append(f"each judge must be a model of its own, got {', '.join(models)}")
    elif len(set(families)) < len(families):
        problems.append(
            f"the judges must be of different families, got {', '.join(families)}: those of one"
            " make the same mistakes; set judge_family where the model's name tells it wrong"
        )
    return problems
