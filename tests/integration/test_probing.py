"""Probing an endpoint as an operator does: shown, confirmed, killed, gone on with; PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online import probes
from online.clients import Message
from online.footprint_strings import STRINGS
from online.local_lm import LocalModel
from store.clock import SystemClock
from store.describing import DescriptorKind
from store.ledger import Ledger
from store.money import SHADOW, day_of, micro_usd
from store.postgres.ledger import PostgresLedger
from store.records import ExpertId, FloatArray
from tests import fake_endpoints
from tests.command_line import run
from tests.factories import settings
from tests.fake_endpoints import Endpoints
from tests.waiting import until

pytestmark = pytest.mark.postgres

SMALL = ExpertId("small")
PRICE = ("--input", "10", "--output", "40")


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    with fake_endpoints.running() as made:
        made.is_final = True
        made.says = "Said in a few words."
        yield made


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresLedger]:
    monkeypatch.setenv("STEERSMAN_DATABASE_URL", database_url)
    monkeypatch.setenv("STEERSMAN_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("judge.describing.PER_SECOND", 1e9)
    with closing(PostgresLedger(database_url)) as held:
        set_policy(held)
        yield held


def set_policy(ledger: Ledger, **changes: Any) -> None:
    with ledger.begin() as tx:
        tx.policies.set(settings(**changes), actor="test", now=SystemClock().now())


def add(endpoints: Endpoints, *more: str) -> tuple[int, str]:
    return run("experts", "add", SMALL, "--base-url", endpoints.url, *PRICE, *more)


def answered(ledger: Ledger) -> int:
    with ledger.begin() as tx:
        return len(tx.describing.answers(SMALL, probe_set=probes.sha256()))


def is_registered(ledger: Ledger) -> bool:
    with ledger.begin() as tx:
        return tx.experts.find(SMALL) is not None


def test_adding_with_probes_shows_the_cost_and_keeps_every_answer(
    ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    status, said = add(endpoints, "--probe", "--yes")
    assert status == 0, said
    assert "small answers: " in said
    assert "192 probes: about " in said
    assert "20.00 USD are left of it today" in said
    assert "small: probes answered: 192 of 192" in said
    assert "STEERSMAN_FINGERPRINT_MODEL" in said
    assert answered(ledger) == 192
    assert endpoints.calls["small"] == 193  # with the trial
    assert endpoints.last["temperature"] == 0.0
    with ledger.begin() as tx:
        held = tx.describing.answers(SMALL, probe_set=probes.sha256())
        used = tx.money.used([SHADOW], day=day_of(SystemClock().now()))[SHADOW]
        assert tx.decisions.last_seq() == 0
    assert used == sum(micro_usd(one.cost_usd) for one in held) > 0
    assert {one.text for one in held} == {"Said in a few words."}
    assert run("experts", "probe", SMALL)[0] == 0  # nothing is left to be asked or paid
    assert endpoints.calls["small"] == 193


def test_an_endpoint_that_does_not_answer_is_not_registered(
    ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    endpoints.key = "another"
    status, said = add(endpoints, "--probe", "--yes")
    assert status == 2
    assert "status 401" in said
    assert "nothing is registered: check --base-url" in said
    assert not is_registered(ledger)
    assert add(endpoints, "--no-probe")[0] == 0
    assert is_registered(ledger)
    assert answered(ledger) == 0


def test_without_a_terminal_nothing_is_asked(ledger: PostgresLedger, endpoints: Endpoints) -> None:
    status, _ = add(endpoints)
    assert status == 0
    assert is_registered(ledger)
    assert endpoints.calls["small"] == 0


def test_a_budget_that_is_too_small_is_said_before_anything_is_asked(
    ledger: PostgresLedger, endpoints: Endpoints
) -> None:
    set_policy(ledger, shadow_usd_per_day=0.5)
    status, said = add(endpoints, "--probe", "--yes")
    assert status == 2
    assert "raise shadow_usd_per_day" in said
    assert (answered(ledger), endpoints.calls["small"]) == (0, 1)
    assert is_registered(ledger)


def test_a_model_that_takes_no_temperature_is_asked_without(
    ledger: PostgresLedger, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fake_endpoints import _Handler  # noqa: PLC0415

    plain = _Handler._send

    def picky(handler: Any, status: int, body: bytes, *more: Any) -> None:
        if "temperature" in handler.server.endpoints.last:
            return plain(handler, 400, b'{"error": {"message": "temperature"}}', *more)
        return plain(handler, status, body, *more)

    monkeypatch.setattr(_Handler, "_send", picky)
    status, said = add(endpoints, "--probe", "--yes")
    assert status == 0, said
    with ledger.begin() as tx:
        held = tx.describing.answers(SMALL, probe_set=probes.sha256())
    assert {one.text for one in held} == {"Said in a few words."}


def test_recorded_experts_and_unknown_ones_are_told_apart(ledger: PostgresLedger) -> None:
    assert ledger is not None
    assert run("experts", "add", "old", "--request", "0.1")[0] == 0
    status, said = run("experts", "probe", "old")
    assert (status, "by its labels alone" in said) == (2, True)
    status, said = run("experts", "probe", "nobody")
    assert (status, "steersman experts list" in said) == (2, True)


def test_a_retired_expert_is_neither_asked_nor_described(
    ledger: PostgresLedger, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bug: it was paid for, and what retiring deletes was there again and stayed."""
    monkeypatch.setattr(LocalModel, "load", lambda place: Weights())
    assert add(endpoints, "--no-probe")[0] == 0
    assert run("experts", "retire", SMALL)[0] == 0
    for how in (["--yes"], ["--weights", str(tmp_path / "tiny.gguf")]):
        status, said = run("experts", "probe", SMALL, *how)
        assert (status, "retired for good" in said) == (2, True)
    assert (answered(ledger), endpoints.calls["small"]) == (0, 0)
    with ledger.begin() as tx:
        assert tx.describing.descriptors(SMALL) == []


class Reader:
    """Reads a text's length as its loss: another text, another loss."""

    def log_losses(self, texts: list[str], *, at_most: int) -> list[FloatArray]:
        return [np.array([float(len(text) % 17)]) if text else np.zeros(0) for text in texts]

    def identity(self) -> str:
        return "reader-1"


def test_the_fingerprint_is_kept_and_shown(
    ledger: PostgresLedger, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERSMAN_FINGERPRINT_MODEL", "somewhere/reader")
    monkeypatch.setattr(LocalModel, "load", lambda place: Reader())
    endpoints.says = None
    status, said = add(endpoints, "--probe", "--yes")
    assert status == 0, said
    assert "small: answers read: 192 of 192" in said
    assert "described by its fingerprint, 192 numbers" in said
    with ledger.begin() as tx:
        (made,) = tx.describing.descriptors(SMALL)
    assert (made.kind, len(made.vector)) == (DescriptorKind.FINGERPRINT, 192)
    assert made.details["reader"] == "reader"
    assert np.linalg.norm(made.vector) == pytest.approx(1.0, abs=1e-6)
    status, said = run("experts", "show", SMALL)
    assert "described by:    fingerprint of " in said
    assert "probes:          192 answers" in said


class Weights:
    """Open weights whose tokens are the strings of a footprint."""

    def vocabulary(self) -> list[str]:
        return list(STRINGS)

    def string_mass(
        self, talks: Sequence[Sequence[Message]], *, columns: Sequence[Sequence[int]], steps: int
    ) -> FloatArray:
        return np.array([np.arange(len(columns)) + len(talk[-1].content) for talk in talks])

    def identity(self) -> str:
        return "weights-1"


@pytest.mark.parametrize("asked", ["--probe", "--no-probe"])
def test_open_weights_are_described_without_a_call(
    ledger: PostgresLedger,
    endpoints: Endpoints,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    asked: str,
) -> None:
    """At a terminal ``--probe`` is the default."""
    monkeypatch.setattr(LocalModel, "load", lambda place: Weights())
    status, said = add(endpoints, asked, "--weights", str(tmp_path / "tiny.gguf"))
    assert status == 0, said
    assert "small: probes through its weights: 192 of 192" in said
    with ledger.begin() as tx:
        (made,) = tx.describing.descriptors(SMALL)
    assert (made.kind, len(made.vector)) == (DescriptorKind.FOOTPRINT, len(STRINGS))
    assert made.details["weights"] == "tiny.gguf"
    assert endpoints.calls["small"] == 0


def test_weights_that_cannot_be_loaded_say_what_to_do(
    ledger: PostgresLedger, endpoints: Endpoints, tmp_path: Path
) -> None:
    assert add(endpoints, "--no-probe")[0] == 0
    status, said = run("experts", "probe", SMALL, "--weights", str(tmp_path / "none"))
    assert (status, "cannot be loaded" in said) == (2, True)
    with ledger.begin() as tx:
        assert tx.describing.descriptors(SMALL) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_run_that_ends_early_goes_on_where_it_stopped(
    ledger: PostgresLedger, endpoints: Endpoints, how: signal.Signals
) -> None:
    assert add(endpoints, "--no-probe")[0] == 0
    command = [sys.executable, "-m", "ingest.cli", "experts", "probe", SMALL, "--yes"]
    with subprocess.Popen(
        command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        until(lambda: answered(ledger) >= 5, what="answers")
        running.send_signal(how)
        said, _ = running.communicate(timeout=60)
    kept = answered(ledger)
    assert 5 <= kept < 192
    asked = endpoints.calls["small"] - 1  # the trial
    if how is signal.SIGINT:
        assert (running.returncode, asked) == (130, kept)
        assert f"stopped: {kept} of 192 probes are answered and kept" in said
    else:
        assert kept <= asked <= kept + 4  # what was under way is lost, and no more
    status, said = run("experts", "probe", SMALL, "--yes")
    assert status == 0, said
    assert f"{192 - kept} probes: about " in said
    assert answered(ledger) == 192
    assert endpoints.calls["small"] == asked + 1 + 1 + 192 - kept
