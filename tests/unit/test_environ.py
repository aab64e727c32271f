"""Settings from the environment: everything wrong is said at once, secrets are never said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.settings import HttpSettings, ProcessSettings
from store import environ
from store.errors import SettingsInvalid
from store.records import ExpertId


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An inner group."""

    url: str = field(default="", metadata={"secret": True})
    """Where to connect. It holds a password."""
    size: int = 4
    """How many."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SettingsInvalid("size must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One field of every kind."""

    name: ExpertId
    """Who."""
    ratio: float = 0.5
    is_open: bool = False
    servers: tuple[str, ...] = ("a", "b")
    limit: int | None = None
    folder: Path = field(default=Path("here"), metadata={"help": "Where. Really."})
    group: Group = field(default_factory=Group)


def problems_of(environment: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        environ.read(Example, environment)
    return str(refused.value).splitlines()


def test_every_type_is_read() -> None:
    environment = {
        "STEERSMAN_NAME": "small",
        "STEERSMAN_RATIO": "0.25",
        "STEERSMAN_IS_OPEN": "True",
        "STEERSMAN_SERVERS": "one:9092, two:9092,",
        "STEERSMAN_LIMIT": "7",
        "STEERSMAN_FOLDER": "/srv/x",
        "STEERSMAN_GROUP_SIZE": "9",
        "PATH": "ignored",
    }

    settings = environ.read(Example, environment)

    assert settings == Example(
        name=ExpertId("small"),
        ratio=0.25,
        is_open=True,
        servers=("one:9092", "two:9092"),
        limit=7,
        folder=Path("/srv/x"),
        group=Group(size=9),
    )


def test_what_is_not_set_has_its_default_and_empty_means_none() -> None:
    settings = environ.read(Example, {"STEERSMAN_NAME": "x", "STEERSMAN_LIMIT": ""})

    assert settings == Example(name=ExpertId("x"))


def test_every_problem_is_reported_at_once() -> None:
    problems = problems_of(
        {
            "STEERSMAN_RATIO": "nan",
            "STEERSMAN_IS_OPEN": "perhaps",
            "STEERSMAN_LIMIT": "many",
            "STEERSMAN_FOLDER": "",
            "STEERSMAN_GROUP_SIZE": "0",
            "STEERSMAN_GROUP_SIZ": "3",
        }
    )

    assert problems == [
        "STEERSMAN_NAME must be set (str)",
        "STEERSMAN_RATIO must be a finite number, got 'nan'",
        "STEERSMAN_IS_OPEN must be true or false, got 'perhaps'",
        "STEERSMAN_LIMIT must be a whole number, got 'many'",
        "STEERSMAN_FOLDER must be a path, got ''",
        "STEERSMAN_GROUP_*: size must be at least 1",
        "STEERSMAN_GROUP_SIZ is unknown; did you mean STEERSMAN_GROUP_SIZE?",
    ]


def test_a_group_can_be_read_alone_and_sees_only_its_prefix() -> None:
    environment = {"STEERSMAN_GROUP_SIZE": "2", "STEERSMAN_OTHER": "x"}

    assert environ.read(Group, environment, prefix="STEERSMAN_GROUP") == Group(size=2)


def test_variables_are_described_with_the_first_sentence_of_their_docstring() -> None:
    described = {variable.name: variable for variable in environ.describe(Example)}

    assert described["STEERSMAN_NAME"] == ("STEERSMAN_NAME", "str", "required", "Who.")
    assert described["STEERSMAN_SERVERS"].kind == "list, comma-separated"
    assert described["STEERSMAN_SERVERS"].default == "a,b"
    assert described["STEERSMAN_LIMIT"].kind == "int, may be empty"
    assert described["STEERSMAN_FOLDER"].help == "Where."
    assert described["STEERSMAN_GROUP_URL"].help == "Where to connect."
    assert described["STEERSMAN_IS_OPEN"].default == "false"


def test_a_secret_is_never_shown() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Hidden:
        pin: int = field(default=1234, metadata={"secret": True})

    with pytest.raises(SettingsInvalid) as refused:
        environ.read(Hidden, {"STEERSMAN_PIN": "s3cret"})

    assert "s3cret" not in str(refused.value)
    assert list(environ.shown(Hidden(pin=99))) == [("STEERSMAN_PIN", "(secret)")]
    assert "1234" not in str(list(environ.describe(Hidden)))


def test_every_variable_of_the_process_is_documented() -> None:
    described = list(environ.describe(ProcessSettings))

    assert [variable.name for variable in described if not variable.help] == []
    assert "STEERSMAN_HTTP_MAX_PROMPT_BYTES" in {variable.name for variable in described}
    assert "STEERSMAN_DATABASE_URL" in {variable.name for variable in described}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_is_recognised(host: str) -> None:
    assert HttpSettings(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0", "::", "10.0.0.1", "router.example", "127.0.0.1.nip"])
def test_any_other_address_is_exposed(host: str) -> None:
    assert not HttpSettings(host=host).is_loopback


def test_impossible_settings_are_refused_by_group() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        environ.read(
            ProcessSettings,
            {
                "STEERSMAN_HTTP_PORT": "70000",
                "STEERSMAN_HTTP_THREADS": "0",
                "STEERSMAN_LOG_LEVEL": "LOUD",
            },
        )

    message = str(refused.value)
    assert "port must be in" in message
    assert "threads must be" in message
    assert "log_level must be" in message
