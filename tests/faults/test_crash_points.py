"""Killed at named points and at random while 2,000 recorded prompts stream: nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.demo_traffic import load_prompts
from tests.acceptance.story_runs import encoder
from tests.faults import crashing, replays
from tests.faults.conftest import Servers
from tests.faults.crashing import RoleProcess
from tests.faults.replays import KILLED, Learned, Replay
from tests.faults.streaming import PROMPTS_SENT

# The first test encodes the prompts, unless the cache has them.
pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.kafka, pytest.mark.timeout(900)]

POINTS: Mapping[str, Sequence[str]] = {
    "serve": (
        "before swap",
        "after swap",
        "after commit of acknowledgement",
        "before commit of decision",
        "after commit of decision",
        "before sweep",
        "after sending decisions",
        "after sweep",
        "before commit of mark",
        "before commit of sweeper's mark",
        "after commit of mark",
        "before commit of offsets",
        "after commit of offsets",
    ),
    "ingest": (
        "before commit of parking",
        "after commit of parking",
        "before commit of parked response",
        "after commit of parked response",
        "before commit of response",
        "after commit of response",
        "before commit of offsets",
        "after commit of offsets",
    ),
    "judge": (
        "after commit of lease",
        "after commit of shadow answer",
        "after verdict",
        "before commit of label",
        "after commit of label",
        "after sending labels",
        "before commit of mark",
    ),
    "learn": (
        "before commit of clusters",
        "after commit of clusters",
        "after reading labels",
        "before publishing",
        "before commit of state",
        "after commit of state",
    ),
}
"""Where each role dies, in this order; a sweep finds what the death before it left unsent, and here
serving alone sweeps, so that nobody is faster."""
NAMED = sum(map(len, POINTS.values()))
REACH_S = 120.0
NOT_HERE_S = 3_600.0
KILLS = 100
CREW = ("serve", "serve", "ingest", "judge", "judge", "learn", "learn")
LIVES_S = (0.5, 5.0)
SEED = 20_261_125


@pytest.fixture(scope="module", autouse=True)
def embeddings() -> None:
    encoder().encode([p.text for p in load_prompts()[:PROMPTS_SENT]])


@dataclass(frozen=True, slots=True)
class Undisturbed:
    learned: Learned
    labels: list[tuple[object, ...]]


@pytest.fixture(scope="module")
def undisturbed(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    run = servers.replay(tmp_path_factory.mktemp("runs"), "undisturbed")
    with run.open():
        roles = [run.start(role, role) for role in POINTS]
        run.wait_for_state()
        run.stream.feed(PROMPTS_SENT)
        run.rest()
        learned = run.learned()
        replays.stop(roles)
        run.check()
        return Undisturbed(learned, run.labels())


class Deaths:
    """How often something died on purpose so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self) -> int:
        with self._lock:
            self.count += 1
            return self.count


def feed_along(
    run: Replay, deaths: Deaths, total: int, helpers: Sequence[threading.Thread]
) -> None:
    """Let the prompts last as long as the deaths do, and never run dry before the last one."""
    while any(helper.is_alive() for helper in helpers):
        left = PROMPTS_SENT - len(run.stream.sent)
        wanted = PROMPTS_SENT * (deaths.count + 1) // (total + 1) - len(run.stream.sent)
        run.stream.feed(max(wanted, min(left, 4)))
        time.sleep(0.5)
    run.stream.feed(PROMPTS_SENT)


def test_killed_at_every_named_point(
    servers: Servers, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = servers.replay(tmp_path, "named")
    deaths = Deaths()
    last: dict[str, RoleProcess] = {}
    failures: list[str] = []

    def die_at_each(role: str) -> None:
        patience = {} if role == "serve" else {"sweep_after_s": NOT_HERE_S}
        for point in POINTS[role]:
            process = run.start(role, role, die_at=point, **patience)
            status = process.wait(REACH_S)
            said = run.log(role).read_text().endswith(f"{crashing.REACHED} {point}\n")
            if status != KILLED or not said:
                failures.append(f"{role} at {point!r} ended with {status}")
                process.kill()
                return
            deaths.add()
        last[role] = run.start(role, role, **patience)

    with run.open():
        threads = [threading.Thread(target=die_at_each, args=(role,)) for role in POINTS]
        for thread in threads:
            thread.start()
        run.wait_for_state()
        feed_along(run, deaths, NAMED, threads)
        assert failures == []
        assert deaths.count == NAMED >= 20
        run.rest()
        learned = run.learned()
        replays.stop(list(last.values()))
        assert run.rebuilt() == learned
        run.check()
        assert run.labels() == undisturbed.labels
        told = undisturbed.learned
        assert (learned.model, learned.binding) == (told.model, told.binding)
        # A transaction that died took ledger numbers with it, and labels age by those numbers.
        assert learned.effective_labels == pytest.approx(told.effective_labels, rel=0.01)


class Doomed:
    """Keeps roles running and kills each again and again, until they have died often enough."""

    def __init__(self, run: Replay, deaths: Deaths) -> None:
        self._run = run
        self._deaths = deaths
        self._over = threading.Event()
        self.statuses: Counter[int | None] = Counter()
        self.killed: Counter[str] = Counter()
        self.alive: list[RoleProcess] = []

    def live_and_die(self, role: str, replica: str, rng: random.Random) -> None:
        while True:
            process = self._run.start(role, replica)
            if self._over.wait(rng.uniform(*LIVES_S)):
                break
            process.kill()
            status = process.wait()
            self.statuses[status] += 1
            if status == KILLED:
                self.killed[role] += 1
                if self._deaths.add() >= KILLS:
                    self._over.set()
        self.alive.append(process)


def test_killed_at_random_while_broker_and_database_restart(
    servers: Servers, tmp_path: Path
) -> None:
    run = servers.replay(tmp_path, "random", partitions=4)
    deaths = Deaths()
    doomed = Doomed(run, deaths)
    with run.open():
        threads = [
            threading.Thread(
                target=doomed.live_and_die,
                args=(role, f"{role}-{number}", random.Random(SEED + number)),  # noqa: S311
            )
            for number, role in enumerate(CREW)
        ]
        threads.append(threading.Thread(target=restart_servers, args=(servers, deaths)))
        for thread in threads:
            thread.start()
        run.wait_for_state()
        feed_along(run, deaths, KILLS, threads)
        assert deaths.count >= KILLS
        assert set(doomed.killed) == set(POINTS)
        # 2: it could not start, for a server was away.
        assert set(doomed.statuses) <= {KILLED, 2}
        run.rest()
        learned = run.learned()
        replays.stop(doomed.alive)
        assert run.rebuilt() == learned
        run.check()


def restart_servers(servers: Servers, deaths: Deaths) -> None:
    """Kill and restart each of both twice, on the way."""

    def broker() -> None:
        servers.kafka.kill()
        servers.kafka.start()

    def database() -> None:
        servers.kill_postgres()
        servers.start_postgres()

    for fifth, restart in enumerate((broker, database, broker, database), start=1):
        while deaths.count < KILLS * fifth / 5:
            time.sleep(0.1)
        restart()
