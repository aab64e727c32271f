"""A process that works says so; one that is gone, hangs or is silent over HTTP does not."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ingest import crew as crew_module
from ingest.crew import Crew
from ingest.heartbeat import Heartbeat, Sign, heartbeat_file, troubles
from ingest.http_serve import url_from_here
from store.clock import SystemClock

CLOCK = SystemClock()
NOW = 1_000.0


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    monkeypatch.setattr(crew_module, "BEAT_S", 0.02)
    monkeypatch.setattr(crew_module, "GRACE_S", 5.0)
    made = Crew()
    yield made
    made.stop.set()
    made.wait()


class Seen:
    """Stops the crew as soon as its signs say what the test waits for."""

    def __init__(self, crew: Crew, folder: Path, expected: str) -> None:
        self._crew = crew
        self._heartbeat = Heartbeat(folder, "judge", replica="r-1")
        self._expected = expected
        self.file = heartbeat_file(folder, "judge", replica="r-1")
        self.give_up = CLOCK.monotonic() + 10.0
        self.said = "nothing yet"

    def beat(self, signs: Mapping[str, Sign]) -> None:
        self._heartbeat.beat(signs)
        self.said = "; ".join(troubles(self.file, now=CLOCK.monotonic()))
        found = self._expected in self.said if self._expected else not self.said
        if found or CLOCK.monotonic() > self.give_up:
            self._crew.stop.set()


def works(stop: threading.Event) -> None:
    while not stop.is_set():
        CLOCK.wait(stop, 0.01)


def test_a_working_crew_shows_no_trouble(crew: Crew, tmp_path: Path) -> None:
    crew.add("worker", works, quiet_s=5.0)
    seen = Seen(crew, tmp_path, "")
    assert crew.wait(seen.beat) == 0
    assert seen.said == ""


def test_a_loop_that_hangs_is_named_while_the_others_work(crew: Crew, tmp_path: Path) -> None:
    crew.add("worker", works, quiet_s=5.0)
    crew.add("stuck", lambda _: crew.stop.wait(30.0), quiet_s=0.1)  # its own event is never asked
    seen = Seen(crew, tmp_path, "stuck has not asked")
    crew.wait(seen.beat)
    assert "stuck has not asked whether to stop" in seen.said
    assert "worker" not in seen.said


def test_a_loop_that_only_waits_for_something_away_does_not_hang(
    crew: Crew, tmp_path: Path
) -> None:
    def waits(stop: threading.Event) -> None:
        while not CLOCK.wait(stop, 0.05):
            pass

    crew.add("waiting", waits, quiet_s=5.0)
    seen = Seen(crew, tmp_path, "")
    crew.wait(seen.beat)
    assert seen.said == ""


def test_a_member_can_stop_the_whole_crew_through_its_own_event(crew: Crew) -> None:
    crew.add("bystander", works)
    crew.add("ends", lambda stop: stop.set())
    assert crew.wait() == 0


def written(folder: Path, *, http_url: str = "", **signs: Sign) -> Path:
    Heartbeat(folder, "learn", replica="r-1", http_url=http_url).beat(signs)
    return heartbeat_file(folder, "learn", replica="r-1")


@pytest.mark.parametrize(
    ("asked_at", "is_fine"),
    [(NOW, True), (NOW - 59.0, True), (NOW - 61.0, False), (NOW + 5, False)],
)
def test_a_sign_is_good_for_as_long_as_its_loop_may_be_quiet(
    tmp_path: Path, asked_at: float, *, is_fine: bool
) -> None:
    file = written(tmp_path, learn=Sign(asked_at=asked_at, quiet_s=60.0))
    assert (troubles(file, now=NOW) == []) is is_fine


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 1, "http_url": "", "loops": [1]}'])
def test_a_damaged_or_missing_file_is_no_sign_of_life(tmp_path: Path, content: str) -> None:
    file = heartbeat_file(tmp_path, "learn", replica="r-1")
    assert "no sign of life" in troubles(file, now=NOW)[0]
    file.write_text(content)
    assert "no sign of life" in troubles(file, now=NOW)[0]


def test_a_process_that_was_killed_is_gone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file = written(tmp_path, learn=Sign(asked_at=NOW, quiet_s=60.0))
    file.write_text(file.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended.pid}'))
    assert troubles(file, now=NOW) == [f"process {ended.pid} is gone without a goodbye"]


def test_a_process_that_ends_takes_its_sign_with_it(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, "learn", replica="r-1")
    with heartbeat.ending():
        heartbeat.beat({})
        assert troubles(heartbeat_file(tmp_path, "learn", replica="r-1"), now=NOW) == []
    assert list(tmp_path.iterdir()) == []


def test_http_that_accepts_and_never_answers_is_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.heartbeat.HTTP_TIMEOUT_S", 0.2)
    with socket.create_server(("0.0.0.0", 0)) as silent:  # noqa: S104  as in a container
        url = url_from_here(silent)
        assert url.startswith("http://127.0.0.1:")
        file = written(tmp_path, http_url=url, http=Sign(asked_at=NOW, quiet_s=60.0))
        (found,) = troubles(file, now=NOW)
    assert "/health does not answer" in found


def test_replicas_of_a_role_in_one_directory_have_files_of_their_own(tmp_path: Path) -> None:
    names = [heartbeat_file(tmp_path, "judge", replica=r) for r in ("a", "b", "../a", "a/b")]
    assert len(set(names)) == len(names)
    assert {file.parent for file in names} == {tmp_path}


def test_a_run_directory_that_cannot_be_written_is_logged_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    heartbeat = Heartbeat(blocked, "judge", replica="r-1")
    with caplog.at_level(logging.WARNING), heartbeat.ending():
        heartbeat.beat({})
        heartbeat.beat({})
    assert [r.getMessage() for r in caplog.records] == ["heartbeat.unwritable"]
