"""A rolling upgrade: processes of an earlier version beside those of this one, on this schema.

The schema moves first, while the earlier version runs; then its processes are replaced one by one.
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from tests.contract.apache_kafka import ApacheKafka, must_run
from tests.contract.kafka_fixtures import settings_of
from tests.faults.site import ROLES, Site
from tests.integration.composed import ROOT

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # some twenty programs start: two minutes on a quiet machine
]
EARLIER = "324c54d47b3c"
"""The version that upgrades are tested from; move it with each release."""
PHASE = 30
ASKED = 5


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the earlier version; without history the test is skipped, in CI it fails."""
    command = ["git", "-C", str(ROOT), "archive", EARLIER]
    try:
        packed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        why = f"the history with commit {EARLIER} is not here: git fetch --unshallow"
        if must_run():
            pytest.fail(why)
        pytest.skip(why)
    folder: Path = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(packed)) as sources:
        sources.extractall(folder, filter="data")
    return folder


@pytest.fixture
def site(
    postgres_server: EmbeddedPostgres, apache_kafka: ApacheKafka, tmp_path: Path
) -> Iterator[Site]:
    with raw_connection(postgres_server.url()) as admin:
        admin.execute("CREATE DATABASE side_by_side")
    url = postgres_server.url("side_by_side")
    made = Site(tmp_path / "site", url, settings_of(apache_kafka.bootstrap_servers))
    yield made
    made.stop(how=signal.SIGKILL)
    with raw_connection(postgres_server.url()) as admin:
        admin.execute("DROP DATABASE side_by_side WITH (FORCE)")


class Upgrade:
    """Traffic that goes on while processes are replaced."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sent = 0

    def phase(self, *serving: str) -> None:
        """Send prompts over both ways; every one is decided, answered and judged."""
        self.site.send(self._names(PHASE))
        for replica in serving:
            for name in self._names(ASKED):
                body = {"request_id": name, "prompt": self.site.texts[name]}
                assert self.site.http(replica, "/v1/routing/decision", body)["request_id"] == name
        for table in ("decisions", "responses"):
            self.site.wait(lambda t=table: self.site.count(t) == self.sent, what=table)
        open_tasks = "judge_tasks WHERE status <> 'done'"
        self.site.wait(lambda: self.site.count(open_tasks) == 0, what="labels")
        assert self.site.count("judge_tasks") > self.sent / 4

    def _names(self, count: int) -> list[str]:
        first, self.sent = self.sent, self.sent + count
        return [f"t{number}" for number in range(first, self.sent)]

    def new_policy(self, alpha: str, *serving: str) -> None:
        """Change the policy; the state that learn makes of it is in force on every replica."""
        self.site.does("policy", "set", f"alpha={alpha}")
        for name in serving:
            self.site.wait(
                lambda n=name: self.site.http(n, "/v1/state")["serving"]["alpha"] == float(alpha),
                what=f"alpha={alpha} on {name}",
            )


def imports_from(code: Path, folder: Path) -> Path:
    said = subprocess.run(
        [sys.executable, "-c", "import ingest; print(ingest.__file__)"],
        env={"PYTHONPATH": str(code)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return Path(said.strip()).parents[1]


def test_an_upgrade_process_by_process_fails_no_request_and_loses_nothing(
    site: Site, earlier: Path
) -> None:
    assert imports_from(earlier, site.folder) == earlier
    for role in ROLES:
        site.start(role, name=f"old-{role}", code=earlier)
    site.prepare(code=earlier)
    site.until_ready("old-serve")
    site.start("consume")
    upgrade = Upgrade(site)
    upgrade.phase("old-serve")

    assert "up to date" in site.does("migrate")
    for role in ROLES:
        site.start(role, name=f"new-{role}")  # new-learn waits: the old one leads
    site.until_ready("new-serve")
    upgrade.new_policy("0.16", "old-serve", "new-serve")
    upgrade.phase("old-serve", "new-serve")

    site.stop("old-learn", "old-judge")
    upgrade.new_policy("0.17", "old-serve", "new-serve")
    upgrade.phase("old-serve", "new-serve")

    site.stop("old-serve", "old-ingest")
    upgrade.phase("new-serve")
    assert "1" in site.does("state", "show")
    assert len(site.published()) == upgrade.sent
    assert {len(made) for made in site.published().values()} == {1}
    assert [site.topic(f"{name}.dlq") for name in ("prompts", "responses")] == [[], []]
    for name in ("old-serve", "old-ingest", "old-judge", "old-learn"):
        log = site.log(name).read_text()
        assert "Traceback" not in log, log[-3_000:]
        assert "state.refused" not in log
