"""The wheel holds everything the code needs, and works from an empty directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ingest", "recalibrate", "judge", "online", "store")
PROBE = """
import json
import ingest.wire
from alembic.script import ScriptDirectory
from store.postgres import migrate
scripts = ScriptDirectory.from_config(migrate._config())
print(json.dumps([ingest.wire.__file__, scripts.dir, scripts.get_current_head()]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    # hatchling is a development dependency: building in place needs no network.
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(target), cwd=ROOT)
    (built,) = target.glob("steersman-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target, wheel)
    return target


def run(*arguments: str | Path, cwd: Path | None = None, path: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def source_files(folder: Path) -> set[str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {f.relative_to(folder).as_posix() for f in files if "__pycache__" not in f.parts}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_wheel_holds_every_file_of_a_folder(wheel: Path, folder: str) -> None:
    expected = {f"{folder}/{name}" for name in source_files(ROOT / folder)}
    assert f"{folder}/py.typed" in expected
    assert expected - names_in(wheel) == set()


def test_the_wheel_holds_the_migrations_inside_store(wheel: Path) -> None:
    expected = {f"store/_migrations/{name}" for name in source_files(ROOT / "migrations")}
    assert "store/_migrations/env.py" in expected
    assert expected - names_in(wheel) == set()


def test_the_wheel_holds_nothing_but_our_folders(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(FOLDERS)


def test_the_wheel_offers_the_command(wheel: Path) -> None:
    (name,) = (name for name in names_in(wheel) if name.endswith("/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "steersman = ingest.cli:main" in archive.read(name).decode()


def test_an_installed_wheel_finds_its_modules_schemas_and_migrations(
    installed: Path, tmp_path: Path
) -> None:
    module, migrations, head = json.loads(run("-c", PROBE, cwd=tmp_path, path=installed))
    assert Path(module).is_relative_to(installed)
    assert Path(migrations).is_relative_to(installed)
    assert head is not None


def test_an_installed_wheel_answers_help(installed: Path, tmp_path: Path) -> None:
    said = run("-c", "from ingest.cli import main; main()", "--help", cwd=tmp_path, path=installed)
    assert "Usage" in said
