"""EDGE: running an answer's Python against tests, both strangers' code, in a locked subprocess.

What is guaranteed, wherever anything runs at all:

- Neither code can reach the network (a network namespace without any interface that is up, loopback
  included), see or signal a process of the host (process namespace), read an environment variable
  (there is none), or see a file other than the standard library and the system's shared libraries,
  all read-only. What it writes is held in memory (16 MB) and gone with it.
- It runs without capabilities and cannot get any back: as root, under a user id that no other
  process has; otherwise under the caller's, in a user namespace.
- Each process has 256 MB of address space and 5 s of CPU time; there are 8 processes and threads at
  most, files of 8 MB at most. The whole is killed after ``WHOLE_S`` seconds, with everything it
  started: its process namespace ends with its first process. Output goes nowhere.
- The verdict is the tests' process's own. The answer runs in another process that holds one end of
  a socket: it can return values and raise exceptions, but not touch the tests, see their text, or
  write the verdict. Ending early, printing, ``atexit`` and patched built-ins change nothing there.

What is not: a bug in the kernel that lets code out of namespaces (there is no seccomp filter and
no virtual machine; kernel keyrings are not parted); fair shares of memory and CPU beyond those limits, so an answer may use a core
for some seconds; that tests are good. An answer that computes what it should only where it is tested passes.

Tests see return values, exceptions and lists, dicts and sets that the answer changed in place, all
as plain data; what is printed they do not see. They can hold and use the answer's own objects; what
cannot be carried over (a callback, arithmetic on such an object) ends in "nobody can tell".

Needs Linux with ``mount_setattr`` (5.12) and, but for root, user namespaces that are not forbidden;
in a container, ``CAP_SYS_ADMIN`` or user namespaces. Where that is missing nothing runs.
"""  # noqa: E501  two more characters

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from judge.trial import Reason

WHOLE_S = 30.0
VERDICT_BYTES = 4_096
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from judge.trial import main; main(sys.argv[2])"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of running an answer against its tests."""

    passed: bool | None
    """None if nobody can tell: not an isolated run, or none that says anything of the answer."""
    why: Reason


def run_tests(code: str, tests: str) -> Trial:
    """Run ``tests`` (asserts, ``test*`` functions, ``unittest`` cases) against ``code``.

    Names that the tests neither define nor import are the answer's; ``import answer`` works too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="steersman-trial-") as place,
        tempfile.TemporaryFile() as job,
        tempfile.TemporaryFile() as verdict,
    ):
        job.write(json.dumps({"code": code, "tests": tests}).encode())
        job.seek(0)
        process = subprocess.Popen(  # noqa: S603  our own interpreter and program
            [_interpreter(), "-I", "-S", "-B", "-c", _START, str(Path(__file__).parents[1]), place],
            stdin=job,
            stdout=verdict,
            stderr=subprocess.DEVNULL,
            env={},
            cwd=place,
            start_new_session=True,
        )
        try:
            process.wait(WHOLE_S)
        except subprocess.TimeoutExpired:
            return Trial(None, Reason.TOO_LONG)
        finally:
            _kill(process)
        verdict.seek(0)
        return _read(verdict.read(VERDICT_BYTES))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its group; the kernel kills what left the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(written: bytes) -> Trial:
    try:
        said = json.loads(written)
        passed, why = said["passed"], Reason(said["why"])
    except (ValueError, TypeError, KeyError):
        return Trial(None, Reason.SILENT)
    return Trial(passed if isinstance(passed, bool) else None, why)


def _interpreter() -> str:
    """Return the interpreter itself: a virtual environment's may be a script's way to another."""
    base: str = getattr(sys, "_base_executable", "") or sys.executable
    return base
