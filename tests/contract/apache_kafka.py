"""A real Apache Kafka (KRaft, one node) from Maven Central, for tests: it can be killed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

POM = Path(__file__).with_name("apache-kafka.xml")
START_S = 60.0
FETCH_S = 300.0
USER, PASSWORD = "alice", "not-a-secret-1"
_STORE_PASSWORD = "keystore-1"  # noqa: S105
_MEMORY = ("-Xms128m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def missing_tools() -> list[str]:
    """Return what this machine lacks to run Apache Kafka."""
    return [tool for tool in ("java", "mvn", "keytool") if shutil.which(tool) is None]


def fetch_jars(cache: Path) -> Path:
    """Return the folder of the broker's jars, fetched once per version."""
    version = re.findall(r"<version>([\d.]+\d)</version>", POM.read_text())[-1]
    folder = cache / f"apache-kafka-{version}"
    if not (folder / "complete").exists():
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        command = ["mvn", "--quiet", "--batch-mode", "--file", str(POM), goal]
        command.append(f"-DoutputDirectory={folder.resolve()}")
        subprocess.run(command, check=True, timeout=FETCH_S)
        (folder / "complete").touch()
    return folder


class ApacheKafka:
    """One broker and controller with a plain listener and one with SASL over TLS.

    Its data stay in the directory, so that a killed broker comes back with what it acknowledged.
    """

    def __init__(self, jars: Path, directory: Path) -> None:
        self._directory = directory
        self._classpath = f"{jars.resolve()}/*"
        self.port, self.secure_port, self.controller_port = free_ports(3)
        self.ca_file = directory / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._make_certificate()
        values = self._properties()
        lines = (f"{name}={value}\n" for name, value in values.items())
        self._configuration().write_text("".join(lines))
        self._format()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def secure_servers(self) -> str:
        return f"127.0.0.1:{self.secure_port}"

    def start(self) -> None:
        """Start and wait until it serves; returns at once when it runs."""
        if self._process is not None:
            return
        with (self._directory / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._configuration())),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not all(map(_listens, self.client_ports())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Apache Kafka did not start; see {self._directory}/kafka.log")
            time.sleep(0.1)

    def client_ports(self) -> tuple[int, ...]:
        return self.port, self.secure_port

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_S)

    def _configuration(self) -> Path:
        return self._directory / "server.properties"

    def _java(self, *arguments: str) -> list[str]:
        return ["java", *_MEMORY, "-cp", self._classpath, *arguments]

    def _format(self) -> None:
        # Of 22 characters; one in 64 would begin with a hyphen, and be taken for an option.
        cluster = "S" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"
        tool = self._java("kafka.tools.StorageTool", "format", "-t", cluster, "--add-scram", scram)
        subprocess.run(
            [*tool, "-c", str(self._configuration())], check=True, capture_output=True, timeout=60
        )

    def _make_certificate(self) -> None:
        store = ["-keystore", str(self._keystore()), "-storetype", "PKCS12"]
        store += ["-storepass", _STORE_PASSWORD, "-alias", "broker"]
        pair = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-validity", "30"]
        pair += ["-ext", "SAN=IP:127.0.0.1,DNS:localhost", "-ext", "BC:c=ca:true"]
        for action in (pair, ["-exportcert", "-rfc", "-file", str(self.ca_file)]):
            subprocess.run(["keytool", *action, *store], check=True, capture_output=True)

    def _keystore(self) -> Path:
        return self._directory / "broker.p12"

    def _properties(self) -> dict[str, str]:
        controller = f"127.0.0.1:{self.controller_port}"
        places = f"PLAINTEXT://{self.bootstrap_servers},SASL_SSL://{self.secure_servers}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"{places},CONTROLLER://{controller}",
            "advertised.listeners": places,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "SASL_SSL:SASL_SSL",
            "log.dirs": str(self._directory / "data"),
            "auto.create.topics.enable": "false",
            "num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",  # so that a test need not wait for 6 s
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{_PLAIN} user_{USER}="{PASSWORD}";',
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": _SCRAM,
            "ssl.keystore.location": str(self._keystore()),
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.password": _STORE_PASSWORD,
        }


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def must_run() -> bool:
    """Return whether a machine that lacks what a test needs is an error: in CI it is."""
    return bool(os.environ.get("CI"))
