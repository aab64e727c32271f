"""What docs/operations.md tells operators to do with pg_dump and pg_restore, for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sqlalchemy import make_url

from store.postgres.connecting import raw_connection
from store.postgres.embedded import _find_binaries


def dump(url: str, file: Path) -> None:
    """Back a database up while it is used."""
    _run("pg_dump", "--format=custom", f"--file={file}", _plain(url))


def restore(url: str, file: Path) -> None:
    """Put a backup in the place of a database, whoever is connected."""
    database = make_url(url).database
    with raw_connection(_of(url, "postgres")) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{database}"')
    _run("pg_restore", "--exit-on-error", f"--dbname={_plain(url)}", str(file))


def _of(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _plain(url: str) -> str:
    """Return a URL that PostgreSQL's own programs read."""
    parsed = make_url(url).set(drivername="postgresql")
    return parsed.render_as_string(hide_password=False)


def _run(program: str, *arguments: str) -> None:
    command = [str(_find_binaries() / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
