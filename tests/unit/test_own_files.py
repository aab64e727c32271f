"""Files that name servers and keys are believed only if nobody else could have written them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ingest.backbone import CONNECTION_FILE, LOCK_FILE, open_backbone, read_connection
from ingest.env_file import FILE, read_file, write_file
from ingest.settings import ProcessSettings
from store.errors import SettingsInvalid

EVIL = "STEERSMAN_JUDGE_BASE_URL=http://192.0.2.1\nSTEERSMAN_JUDGE_API_KEY_ENV=OTHER_SECRET\n"
NOBODY = 65534


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given_to_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the file somebody else's; who is not root becomes somebody else instead."""
    if os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
        return
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


def connection_file(folder: Path) -> Path:
    file = folder / CONNECTION_FILE
    file.write_text(
        json.dumps(dict.fromkeys(("database_url", "bootstrap_servers", "http_url"), "x"))
    )
    return file


def test_an_env_file_of_another_user_is_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text(EVIL)
    assert "STEERSMAN_JUDGE_BASE_URL" in read_file()
    given_to_another(FILE, monkeypatch)
    with pytest.raises(SettingsInvalid, match=r"belongs to .*, neither to you .*: .*chown"):
        read_file()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_env_file_that_others_may_write_is_not_obeyed(mode: int) -> None:
    FILE.write_text(EVIL)
    FILE.chmod(mode)
    with pytest.raises(SettingsInvalid, match=rf"mode {mode:o}.*chmod go-w"):
        read_file()


def test_an_env_file_that_is_a_pipe_or_a_folder_is_refused_at_once() -> None:
    os.mkfifo(FILE)
    with pytest.raises(SettingsInvalid, match="no regular file"):
        read_file()
    FILE.unlink()
    FILE.mkdir()
    with pytest.raises(SettingsInvalid, match=r"no regular file|Is a directory"):
        read_file()


def test_a_link_to_the_env_file_of_another_user_is_not_obeyed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder / "theirs"
    target.write_text(EVIL)
    given_to_another(target, monkeypatch)
    FILE.symlink_to(target)
    with pytest.raises(SettingsInvalid, match="belongs to"):
        read_file()


def test_a_connection_file_of_another_user_is_not_obeyed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = connection_file(folder)
    assert read_connection(folder)["database_url"] == "x"
    file.chmod(0o666)
    with pytest.raises(SettingsInvalid, match="chmod go-w"):
        read_connection(folder)
    file.chmod(0o600)
    given_to_another(file, monkeypatch)
    with pytest.raises(SettingsInvalid, match="belongs to"):
        read_connection(folder)


def test_a_symbolic_link_is_neither_followed_nor_replaced(folder: Path) -> None:
    target = folder / "elsewhere"
    target.write_text("precious")
    FILE.symlink_to(target)
    with pytest.raises(SettingsInvalid, match="symbolic link"):
        write_file("STEERSMAN_A=1\n")
    assert FILE.is_symlink()
    assert target.read_text() == "precious"


def test_a_link_laid_in_the_way_of_the_unfinished_file_is_not_followed(folder: Path) -> None:
    target = folder / "elsewhere"
    target.write_text("precious")
    (folder / f".{FILE.name}.{os.getpid()}").symlink_to(target)
    write_file("STEERSMAN_A=1\n")
    assert target.read_text() == "precious"
    assert read_file() == {"STEERSMAN_A": "1"}
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600


def test_a_link_in_place_of_the_lock_is_refused_and_its_target_kept(folder: Path) -> None:
    target = folder / "elsewhere"
    target.write_text("precious")
    (folder / LOCK_FILE).symlink_to(target)
    with (
        pytest.raises(SettingsInvalid, match="symbolic link"),
        open_backbone(ProcessSettings(run_dir=folder), embedded=True),
    ):
        pass
    assert target.read_text() == "precious"
