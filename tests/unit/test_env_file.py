"""``steersman.env``: read in full or refused with its lines, never half."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.env_file import FILE, Line, content_of, read_file, write_file
from store.errors import SettingsInvalid
from tests.command_line import run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_file_nothing_is_set() -> None:
    assert read_file() == {}


def test_comments_quotes_and_dollars_are_read() -> None:
    FILE.write_text(
        "# why\n\nSTEERSMAN_A=1\nexport STEERSMAN_B='x y' # c\nSTEERSMAN_C=$HOME/${X}\nSTEERSMAN_D="
    )
    assert read_file() == {
        "STEERSMAN_A": "1",
        "STEERSMAN_B": "x y",
        "STEERSMAN_C": "$HOME/${X}",
        "STEERSMAN_D": "",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("STEERSMAN_A=1\nnonsense here\n", "line 2: not NAME=value"),
        ("STEERSMAN_A\n", "line 1: not NAME=value"),
        ("STEERSMAN_A='1\n", "line 1: not NAME=value"),
        ("\nBIG_KEY=s3cret\n", "BIG_KEY is no setting"),
        ("STEERSMAN_A=1\nSTEERSMAN_A=2\n", "line 2: STEERSMAN_A is there twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_line(text: str, says: str) -> None:
    FILE.write_text(text)
    with pytest.raises(SettingsInvalid) as refused:
        read_file()
    assert says in str(refused.value)
    assert str(FILE.absolute()) in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused() -> None:
    FILE.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match="not UTF-8"):
        read_file()


# Universal newlines make one of every line end, in Python's files as in the shell's.
values = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(st.from_regex(r"STEERSMAN_[A-Z0-9_]{1,9}", fullmatch=True), values))
def test_what_is_written_is_read(settings: dict[str, str]) -> None:
    lines = [Line(name, value, "why\nand how") for name, value in settings.items()]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "steersman.env"
        write_file(content_of(lines, heading="a heading"), file)
        assert read_file(file) == settings
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_replaced_by_one_they_cannot() -> None:
    FILE.write_text("STEERSMAN_A=1")
    FILE.chmod(0o644)
    write_file("STEERSMAN_A=2\n")
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    assert [p.name for p in Path().iterdir()] == [FILE.name]


def test_a_folder_that_is_not_there_is_an_error_on_purpose(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be written"):
        write_file("", tmp_path / "none" / "steersman.env")


def test_commands_read_the_file_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text("STEERSMAN_HTTP_PORT=9001\nSTEERSMAN_LOG_LEVEL=ERROR\n")
    monkeypatch.setenv("STEERSMAN_LOG_LEVEL", "DEBUG")
    status, said = run("settings")
    assert status == 0
    assert f"# from {FILE.absolute()}: STEERSMAN_HTTP_PORT\n" in said
    assert "STEERSMAN_HTTP_PORT=9001\n" in said
    assert "STEERSMAN_LOG_LEVEL=DEBUG\n" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("STEERSMAN_HTTP_PORT=many", "STEERSMAN_HTTP_PORT must be a whole number, got 'many'"),
        ("STEERSMAN_HTTP_PORT=99999", "STEERSMAN_HTTP_*: port must be in [0, 65535], got 99999"),
        ("STEERSMAN_PORT=1", "STEERSMAN_PORT is unknown; did you mean STEERSMAN_HTTP_PORT?"),
        ("STEERSMAN_LOG_LEVEL=LOUD", "log_level must be one of"),
    ],
)
@pytest.mark.parametrize("command", [("settings",), ("dlq", "list")])
def test_errors_name_the_file_where_the_value_is_the_files(
    text: str,
    says: str,
    command: tuple[str, ...],
) -> None:
    FILE.write_text(text)
    status, said = run(*command)
    assert status == 2
    assert says in said
    where = "see also" if "_*" in said or "log_level" in said else "in"
    assert said.endswith(f" ({where} {FILE.absolute()})\n")


def test_errors_of_the_environment_do_not_blame_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text("STEERSMAN_HTTP_PORT=9001")
    monkeypatch.setenv("STEERSMAN_HTTP_PORT", "many")
    status, said = run("settings")
    assert status == 2
    assert FILE.name not in said
