"""The command line as a person meets it: it teaches, and its errors say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ingest import cli
from tests.command_line import run


def commands() -> dict[str, Any]:
    """Return every command by the words that call it, hidden ones too."""
    found: dict[str, Any] = {}

    def walk(command: Any, *words: str) -> None:
        found[" ".join(words)] = command
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, *words, name)

    walk(typer.main.get_command(cli.app))
    return found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which no router runs."""
    monkeypatch.setenv("STEERSMAN_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.mark.parametrize("words", commands())
def test_help_teaches(words: str) -> None:
    shown = CliRunner().invoke(cli.app, [*words.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    command = commands()[words]
    assert command.help is not None
    assert len(command.help.split()) >= 3
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{words}: {parameter.name} has no help"


@pytest.mark.parametrize(
    "words",
    [
        "experts add",
        "policy set",
        "keys create",
        "experts price",
        "erase",
        "dlq show",
        "observe",
        "report",
        "judge canaries",
        "judge quarantine",
    ],
)
def test_help_shows_an_example(words: str) -> None:
    assert f"steersman {words} " in (commands()[words].help or "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("policy", "show"),
        ("policy", "set", "alpha=.1"),
        ("experts", "list"),
        ("experts", "add", "small", "--request", "1"),
        ("experts", "pause", "small"),
        ("state", "show"),
        ("state", "rollback", "1"),
        ("keys", "create", "ann", "--scope", "read"),
        ("dlq", "list"),
        ("observe",),
        ("report",),
        ("dlq", "replay", "prompts"),
        ("migrate",),
        ("retention", "--dry-run"),
        ("erase", "--tenant", "acme", "--yes"),
        ("judge",),
        ("feedback", "sources"),
        ("judge", "versions"),
        ("judge", "canaries"),
        ("judge", "quarantine", "v", "--reason", "r"),
        ("judge", "lift", "v"),
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_without_a_router_a_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setattr("ingest.crew.Crew.stop_on_signals", lambda _: None)
    monkeypatch.setattr("ingest.logs.configure", lambda _: None)
    status, said = run(*arguments)
    assert status == 2
    assert said.startswith("steersman: no database is named")
    assert "start `steersman up`" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"database_url": 1}'])
def test_a_damaged_connection_file_is_no_router(
    nowhere: Path,
    content: str,
) -> None:
    nowhere.mkdir()
    (nowhere / "connection.json").write_text(content)
    status, said = run("policy", "show")
    assert status == 2
    assert "start `steersman up`" in said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("STEERSMAN_HTPP_PORT", "1", "did you mean STEERSMAN_HTTP_PORT?"),
        ("STEERSMAN_HTTP_PORT", "many", "STEERSMAN_HTTP_PORT must be a whole number"),
        ("STEERSMAN_HTTP_PORT", "99999", "port must be in"),
        ("STEERSMAN_LOG_LEVEL", "LOUD", "log_level must be one of"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv(name, value)
    status, said = run("settings")
    assert status == 2
    assert says in said
    assert said.count("\n") == 1


def test_settings_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_DATABASE_URL", "postgresql://me:hush-1@db/x")
    monkeypatch.setenv("STEERSMAN_KAFKA_SASL_PASSWORD", "hush-2")
    status, said = run("settings")
    assert status == 0
    assert "hush" not in said
    assert "STEERSMAN_DATABASE_URL=(secret)" in said


@pytest.mark.parametrize("changes", [["alpha"], ["alpha=.1", "alpha=.2"], ["=.1", "alpha"]])
def test_a_change_reads_name_value(changes: list[str]) -> None:
    status, said = run("policy", "set", *changes)
    assert status == 2
    assert "name=value" in said


def test_a_run_directory_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("STEERSMAN_RUN_DIR", str(file))
    monkeypatch.setattr("ingest.crew.Crew.stop_on_signals", lambda _: None)
    monkeypatch.setattr("ingest.logs.configure", lambda _: None)
    status, said = run("up")
    assert status == 2
    assert "STEERSMAN_RUN_DIR" in said


def test_importing_the_command_line_is_light() -> None:
    heavy = ("torch", "sklearn", "kafka", "fastapi", "sqlalchemy", "openai", "scipy")
    code = f"import sys, ingest.cli; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60.0
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.usefixtures("nowhere")
def test_a_role_that_does_not_run_is_unhealthy() -> None:
    status, said = run("health", "learn")
    assert status == 1
    assert "no sign of life" in said
