"""Threads that live and die together."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading

import pytest

from ingest import crew as crew_module
from ingest.crew import Crew


def until_stopped(stop: threading.Event) -> None:
    stop.wait(30.0)


def test_a_stop_ends_every_member_with_status_0() -> None:
    crew = Crew()
    ended: list[str] = []

    def member(stop: threading.Event) -> None:
        until_stopped(stop)
        ended.append(threading.current_thread().name)

    crew.add("a", member)
    crew.add("b", member)
    crew.stop.set()
    assert crew.wait() == 0
    assert sorted(ended) == ["a", "b"]


def test_a_member_that_fails_ends_the_process_with_status_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: threading.Event) -> None:
        raise RuntimeError("the prompt was: my secret")

    crew = Crew()
    crew.add("bystander", until_stopped)
    with caplog.at_level(logging.INFO):
        crew.add("culprit", fail)
        assert crew.wait() == 1
    assert crew.failed == "culprit"
    said = json.dumps([vars(r) for r in caplog.records], default=str)
    assert "culprit" in said
    assert "my secret" not in said


def test_a_member_that_returns_ends_the_others() -> None:
    crew = Crew()
    crew.add("bystander", until_stopped)
    crew.add("done", lambda _: None)
    assert crew.wait() == 0


def test_a_member_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew_module, "GRACE_S", 0.05)
    release = threading.Event()
    crew = Crew()
    crew.add("hangs", lambda _: release.wait(30.0))
    crew.stop.set()
    assert crew.wait() == 0
    release.set()
    assert [r.getMessage() for r in caplog.records] == ["crew.left_behind"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_stop(number: signal.Signals) -> None:
    kept = [(one, signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGINT)]
    crew = Crew()
    try:
        crew.stop_on_signals()
        crew.add("member", until_stopped)
        os.kill(os.getpid(), number)
        assert crew.wait() == 0
    finally:
        for one, handler in kept:
            signal.signal(one, handler)
