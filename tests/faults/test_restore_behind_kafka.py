"""The database is restored from a backup while Kafka's consumers have gone on without it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from online.snapshot import load_state
from store.postgres.ledger import PostgresLedger
from tests.contract.apache_kafka import ApacheKafka
from tests.contract.kafka_fixtures import settings_of
from tests.faults.site import ROLES, Site
from tests.integration.backups import dump, restore

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # some twenty programs start, as in test_versions_side_by_side
]
BEFORE, LOST, MEANWHILE = 80, 60, 20
ALL = BEFORE + LOST + MEANWHILE
JUDGED = "decisions d WHERE is_sampled AND {} EXISTS (SELECT FROM labels l WHERE l.day = d.day AND l.request_id = d.request_id)"  # noqa: E501


@pytest.fixture
def site(database_url: str, apache_kafka: ApacheKafka, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site", database_url, settings_of(apache_kafka.bootstrap_servers))
    yield made
    made.stop(how=signal.SIGKILL)


def drained(site: Site, count: int) -> None:
    """Wait until so many requests are decided, answered and, if sampled, judged."""
    site.wait(lambda: site.count("decisions") == count, what=f"{count} decisions")
    site.wait(lambda: site.count("responses") == count, what=f"{count} responses")
    site.wait(lambda: site.count(JUDGED.format("NOT")) == 0, what="labels of every sampled one")


def start(site: Site) -> None:
    for role in (*ROLES, "consume"):
        site.start(role)


def restored(site: Site, backup: Path, meanwhile: list[str]) -> None:
    """Do what docs/operations.md says: stop, restore, rewind, start."""
    status, said = site.cli("rewind", "--yes")
    assert status == 2
    assert "stop serve and ingest" in said
    site.stop()
    restore(site.database_url, backup)
    assert site.count("decisions") == BEFORE
    site.send(meanwhile)  # Kafka takes them although nobody reads
    planned = site.does("rewind", "--dry-run")
    said = site.does("rewind", "--yes")
    counts = f"{LOST} were decided and published and are taken back, {MEANWHILE} are to be decided"
    assert counts in planned
    assert counts in said
    assert "ingest: nothing to move" not in said
    assert site.count("decisions") == BEFORE + LOST
    assert site.count("responses") == BEFORE
    start(site)


def check_learnt_state(site: Site) -> None:
    with closing(PostgresLedger(site.database_url)) as ledger, ledger.begin() as tx:
        record = tx.states.active()
        assert record is not None
        assert tx.states.acknowledged(record.version)
        assert tx.operations.audit_trail(limit=9)[0].action == "stream.rewound"
    assert load_state(record.payload, sha256=record.sha256).version == record.version


def test_nothing_is_lost_and_no_decision_is_made_twice(site: Site, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(ALL)]
    start(site)
    site.prepare()
    site.until_ready("serve")
    site.send(names[:BEFORE])
    drained(site, BEFORE)
    dump(site.database_url, tmp_path / "ledger.dump")
    site.send(names[BEFORE : BEFORE + LOST])
    drained(site, BEFORE + LOST)
    told = {name: made[0].expert for name, made in site.published().items()}

    restored(site, tmp_path / "ledger.dump", names[BEFORE + LOST :])
    drained(site, ALL)
    decided, published = site.decided(), site.published()
    assert set(decided) == set(published) == set(names)
    assert {name: decided[name] for name in told} == told
    assert {name for name, made in published.items() if len({d.expert for d in made}) > 1} == set()
    assert site.topic("responses.dlq") == site.topic("prompts.dlq") == []
    assert site.count(JUDGED.format("")) > ALL / 4
    check_learnt_state(site)

    again = site.does("republish", "--since", "2000-01-01T00:00:00Z", "--yes")
    assert "messages will be published again" in again
    site.wait(lambda: sum(map(len, site.published().values())) > ALL, what="decisions sent again")
    assert site.decided() == decided
