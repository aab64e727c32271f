"""docs/quickstart.md, run as it stands: endpoints that answer, a judge that compares, learning."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.clock import SystemClock
from tests.calls import ask
from tests.contract.apache_kafka import free_ports
from tests.fake_endpoints import prompts

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "quickstart.md"
PATIENCE_S = 240.0
CLOCK = SystemClock()


def commands() -> tuple[list[str], str]:
    """Return the blocks between installing and stopping, and the one that stops."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks[0] == "make install\n"
    return blocks[1:-1], blocks[-1]


class Followed:
    """A newcomer's directory after the commands."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.trial = folder, folder / "trial"
        for name in ("tests", "docs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        http, endpoints = free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        self.environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith("STEERSMAN_")},
            "STEERSMAN_HTTP_PORT": str(http),
        }
        # Kept small: the test goes on by itself where the document has a fixed number of prompts.
        self.places = {"8080": str(http), "9100": str(endpoints), "480": "120"}
        self.output = folder / "said.txt"
        self.groups: list[int] = []

    def run(self, script: str) -> None:
        """Run blocks in one shell; what they start in the background goes on."""
        # In one pass: a free port may contain another place's digits.
        written = re.compile("|".join(map(re.escape, self.places)))
        script = written.sub(lambda found: self.places[found[0]], script)
        with self.output.open("ab") as output:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.trial if self.trial.exists() else self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.groups.append(shell.pid)
        try:
            status = shell.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(self.told())
        assert status == 0, self.told()

    def learn(self) -> None:
        """Send prompts until the cheap expert serves most sums: how many that takes depends on how
        fast the judge is beside them.
        """
        give_up = CLOCK.monotonic() + PATIENCE_S
        for portion in range(1, 1_000):
            line = self.gateway(prompts(40, seed=portion))
            served = re.search(r"small \(routed\) (\d+)", line)
            if served is not None and int(served[1]) > 12:
                return
            assert CLOCK.monotonic() < give_up, line + self.told()

    def told(self) -> str:
        log = self.trial / "up.log"
        return self.output.read_text()[-3_000:] + (log.read_text()[-3_000:] if log.exists() else "")

    def gateway(self, lines: list[str]) -> str:
        """Send more prompts through the document's gateway; return what it says."""
        done = subprocess.run(
            [sys.executable, "../docs/gateway.py"],
            cwd=self.trial,
            env=self.environment,
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr + self.told()
        return done.stdout

    def steersman(self, *arguments: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("steersman"), *arguments],
            cwd=self.trial,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        """End what the commands started: it shares its shell's process group."""
        for group in self.groups:
            _signal(group, signal.SIGTERM)
        give_up = CLOCK.monotonic() + 60.0
        while any(_signal(group, 0) for group in self.groups) and CLOCK.monotonic() < give_up:
            CLOCK.wait(threading.Event(), 0.1)
        for group in self.groups:
            _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether it is there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    made = Followed(tmp_path_factory.mktemp("quickstart"))
    try:
        learning, looking = commands()[0][:-1], commands()[0][-1]
        made.run("\n".join(learning))
        made.learn()
        made.run(f"export PATH=$PWD/../.venv/bin:$PATH\n{looking}")
        yield made
    finally:
        made.close()


def test_a_newcomers_commands_end_with_a_router_that_has_learnt(followed: Followed) -> None:
    said = followed.output.read_text()
    assert "small works: " in said
    assert "the judge works: " in said
    assert "registered" in said
    assert '"schema": "steersman.decision"' in said
    assert re.search(r"prompts 1 to 40: λ SAFE, 0 effective labels: big \(safe_cold\) 40", said)

    state = ask(f"{followed.url}/v1/state")["active"]
    assert 0.0 < state["threshold"] < 0.5, "below a tie, above a loss"
    assert state["effective_labels"] >= 100
    fresh = prompts(80, seed=1_000)
    served = [_decided(followed, text) for text in fresh]
    sums, products = served[::2], served[1::2]
    assert sums.count("small") > 20
    assert products.count("small") < 8


def _decided(followed: Followed, text: str) -> str:
    return str(ask(f"{followed.url}/v1/routing/decision", {"prompt": text})["expert"])


def test_init_beside_a_running_router_shows_what_changes(followed: Followed) -> None:
    assert "the ledger says this already" in followed.steersman("init", "--answers", "answers.toml")
    answers = followed.trial / "answers.toml"
    answers.write_text(answers.read_text().replace("0.40", "0.45").replace("= 0.10 ", "= 0.12 "))
    said = followed.steersman("init", "--answers", "answers.toml")
    assert "small: price 0.1/0.4/0 → 0.1/0.45/0" in said
    assert "policy: alpha 0.1 → 0.12" in said
    shown = followed.steersman("policy", "show")
    assert "alpha=0.12" in shown
    assert "cluster_prompts=50" in shown, "what init does not ask for stays"


def test_no_text_is_in_the_log(followed: Followed) -> None:
    log = (followed.trial / "up.log").read_text()
    assert "up.ready" in log
    for text in ("apples", "The answer is", "the product", "winner"):
        assert text not in log


def test_the_way_to_stop_names_what_was_started() -> None:
    started = [line for block in commands()[0] for line in block.splitlines() if line.endswith("&")]
    assert len(started) == 2
    assert commands()[1] == "kill %2 %1\n"


def test_git_ignores_where_the_commands_write() -> None:
    made = [line for block in commands()[0] for line in re.findall(r"^mkdir (\w+)", block, re.M)]
    assert made == ["trial"]
    assert "/trial/" in (ROOT / ".gitignore").read_text().splitlines()
