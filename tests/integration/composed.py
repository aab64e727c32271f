"""docker-compose.yml without Docker: read as compose reads it, run as processes of this machine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import until

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
_VARIABLE = re.compile(
    r"\$(?:\$|\{(?P<name>\w+)(?:(?P<operator>:?[-?])(?P<rest>[^{}]*))?\}|(?P<odd>))"
)
Json = dict[str, Any]


class Unset(Exception):
    """Compose would refuse to start: a required variable has no value."""


def resolved(environment: Mapping[str, str]) -> Json:
    """Return the document with its variables filled in, or raise ``Unset``."""
    document: Json = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    filled: Json = _filled(document, environment)
    return filled


def variables() -> set[str]:
    """Return the names that the document takes from its environment."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    named = {found["name"] for found in _VARIABLE.finditer(text) if found["name"]}
    return named | set(resolved({"POSTGRES_PASSWORD": "x"})["x-role"]["build"]["args"])


def image_environment() -> dict[str, str]:
    """Return what the image's last stage sets for every process."""
    stage = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2].replace("\\\n", " ")
    settings = [line.removeprefix("ENV ") for line in stage.splitlines() if line.startswith("ENV ")]
    return dict(pair.split("=", 1) for line in settings for pair in shlex.split(line))


def seconds(duration: str) -> float:
    """Return a duration of the file; it uses seconds only."""
    found = re.fullmatch(r"(\d+)s", duration)
    assert found is not None, duration
    return float(found[1])


def size(text: str) -> int:
    """Return a memory size of the file in bytes."""
    return int(text[:-1]) * {"m": 1 << 20, "g": 1 << 30}[text[-1]]


class Service:
    """One service of the file as a process: its command, environment and health check, exactly.

    Parameters
    ----------
    places
        What stands in a container for what on this machine: addresses and folders.
    """

    def __init__(self, name: str, document: Json, *, places: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.spec: Json = document["services"][name]
        self.log = log
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("STEERSMAN_", "PG"))}
        given = image_environment() | {k: str(v) for k, v in self.spec["environment"].items()}
        self.environment = mine | {k: _moved(v, places) for k, v in given.items() if k != "PATH"}
        self.environment |= {"STEERSMAN_REPLICA": f"{name}-1", "PYTHONPATH": str(ROOT)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command(["steersman", *self.spec["command"]]),
                env=self.environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Do what ``docker compose run`` or ``exec`` does with this service and a command."""
        done = subprocess.run(
            self._command(["steersman", *arguments]),
            env=self.environment,
            cwd=self.log.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60.0,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def health(self) -> tuple[int, str]:
        """Run the health check; status 0 is healthy."""
        check = self.spec["healthcheck"]
        kind, program, *arguments = check["test"]
        assert (kind, program) == ("CMD", "steersman")
        return self.run(*arguments)

    def wait_until_healthy(self, limit_s: float) -> None:
        """Check as often as compose does at a start; each check costs what a role needs too."""
        every_s = seconds(self.spec["healthcheck"]["start_interval"])
        until(self._is_healthy, what=f"healthy {self.name}", limit_s=limit_s, every_s=every_s)

    def _is_healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3_000:]
        return self.health()[0] == 0

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stopped(self) -> int:
        """Wait as long as compose does before it kills, and return the exit status."""
        assert self.process is not None
        return self.process.wait(seconds(self.spec["stop_grace_period"]))

    def peak_memory(self) -> int:
        """Return the most bytes that the process has held."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def _command(self, words: list[str]) -> list[str]:
        assert words[0] == "steersman"
        return [sys.executable, "-m", "ingest.cli", *words[1:]]


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, environment) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _value(found, environment), value)
    return value


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    """Return what one ``${…}`` becomes by the rules of the Compose Specification."""
    if found[0] == "$$":
        return "$"
    name, operator, rest = found["name"], found["operator"], found["rest"]
    assert name is not None, f"not understood: {found.string}"
    value = environment.get(name)
    missing = value is None or (not value and operator is not None and operator.startswith(":"))
    if not missing:
        return str(value)
    if operator is None or operator.endswith("?"):
        raise Unset(f"{name} {rest or 'has no value'}")
    return str(rest)


def _moved(value: str, places: Mapping[str, str]) -> str:
    for inside, here in places.items():
        value = value.replace(inside, here)
    return value
