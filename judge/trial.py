"""What runs in ``sandbox.py``'s subprocess: lock up, part the answer from its tests, judge.

Four processes: this one, which leaves the host's namespaces and waits; the first of the new
process namespace, with whose end everything in it ends; the tests, which read the job and write
the verdict; the answer, alone in a process namespace of its own, which holds nothing but its end
of a socket and never sees the tests.
"""

from __future__ import annotations

import builtins
import inspect
import json
import os
import signal
import socket
import sys
import time
import types
import unittest
from collections.abc import Callable
from enum import StrEnum

from judge import jail, remote

TRIAL_S = 20.0
"""Seconds that tests wait for the answer, all in all."""
JOB, VERDICT = 0, 1
_NOT_RUN = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""Of functions whose call alone runs nothing of them."""


class Reason(StrEnum):
    """Why a trial ended as it did. Nothing else is told, for the tests could write anything."""

    PASSED = "every test passed"
    FAILED = "a test failed"
    ENDED = "the answer's process ended, or took too long"
    UNLOADABLE = "the answer cannot be loaded"
    FOREIGN_ANSWER = "the answer needs a module outside the standard library"
    FOREIGN_TESTS = "the tests need a module outside the standard library"
    NO_PYTHON = "the tests are no Python"
    NOT_PLAIN = "a test is no plain function without parameters"
    TESTS_ENDED = "the tests ended themselves"
    UNUSED = "the tests never used the answer"
    NOT_CARRIED = "the tests do with the answer's objects what cannot be carried over"
    SILENT = "the tests came to no verdict"
    TOO_LONG = "the tests took too long"
    NOT_LOCKED_IN = "this system does not let code be locked in"


def main(place: str) -> None:
    """Judge the job on standard input; the verdict goes to standard output, as JSON."""
    sys.path.pop(0)  # ours was only to load this; theirs is the standard library
    try:
        user = jail.isolate()
    except jail.NotPossible:
        _refuse()
    first = os.fork()
    if first == 0:
        _as_process(lambda: _first(place, user))
    _, status = os.waitpid(first, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _first(place: str, user: int) -> None:
    jail.die_with_parent()
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        jail.shut_in(place)
        mine, theirs = socket.socketpair()
        tests = os.fork()
        if tests == 0:
            theirs.close()
            _as_process(lambda: _tests(mine, nothing, user))
        jail.unshare_processes()
        if os.fork() == 0:
            _as_process(lambda: _answer(theirs, nothing, user))
    except (jail.NotPossible, OSError):
        _refuse()
    mine.close()
    theirs.close()
    _, status = os.waitpid(tests, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _as_process(body: Callable[[], None]) -> None:
    """Run a forked child's whole life; nothing of its parent's may run after it."""
    try:
        body()
        os._exit(0)
    except BaseException:  # noqa: BLE001  a child ends here, whatever happened
        os._exit(1)


def _answer(end: socket.socket, nothing: int, user: int) -> None:
    os.setsid()  # a signal to its process group reaches nobody else
    for number in range(3):
        os.dup2(nothing, number)
    line = os.dup2(end.detach(), 3)
    os.closerange(4, 1_024)
    jail.drop(user)
    sys.set_int_max_str_digits(0)
    remote.serve(socket.socket(fileno=line))


def _tests(end: socket.socket, nothing: int, user: int) -> None:
    jail.drop(user)
    job, written = json.loads(os.fdopen(JOB, "rb", closefd=False).read()), os.dup(VERDICT)
    for number in range(3):
        os.dup2(nothing, number)  # tests may print
    sys.set_int_max_str_digits(0)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    answer = remote.Answer(remote.Line(end, deadline=time.monotonic() + TRIAL_S))
    passed, why = verdict(answer, job["code"], job["tests"])
    os.write(written, json.dumps({"passed": passed, "why": why}).encode())


def verdict(  # noqa: PLR0911  one for each way that it can end
    answer: remote.Answer, code: str, tests: str
) -> tuple[bool | None, Reason]:
    """Return whether the answer passes (None: nobody can tell) and why."""
    try:
        compile(tests, "tests", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, Reason.NO_PYTHON
    try:
        names = answer.load(code)
    except remote.Ended:
        return False, Reason.ENDED
    except ModuleNotFoundError:
        return None, Reason.FOREIGN_ANSWER
    except Exception:  # noqa: BLE001  whatever it is, the answer cannot be used
        return False, Reason.UNLOADABLE
    passed, why = _run(names, tests)
    if answer.has_ended:
        return False, Reason.ENDED
    if answer.is_in_doubt:
        return None, Reason.NOT_CARRIED
    if passed and not answer.uses:
        return None, Reason.UNUSED
    return passed, why


def _run(names: dict[str, object], tests: str) -> tuple[bool | None, Reason]:
    whole = types.ModuleType("answer")
    vars(whole).update(names)
    sys.modules["answer"] = whole
    given = {name: value for name, value in names.items() if name not in dir(builtins)}
    found = unittest.TestResult()
    try:
        module = remote.run_module("tests", tests, before=given)
        for name, test in list(vars(module).items()):
            if isinstance(test, type) and issubclass(test, unittest.TestCase):
                unittest.defaultTestLoader.loadTestsFromTestCase(test).run(found)
            elif name.startswith("test") and inspect.isfunction(test):
                if inspect.signature(test).parameters or test.__code__.co_flags & _NOT_RUN:
                    return None, Reason.NOT_PLAIN
                test()
    except ModuleNotFoundError as missing:
        is_theirs = getattr(missing, "is_the_answers", False)
        return (False, Reason.FAILED) if is_theirs else (None, Reason.FOREIGN_TESTS)
    except Exception:  # noqa: BLE001  a failed assertion and all else alike
        return False, Reason.FAILED
    except BaseException:  # noqa: BLE001  ``answer`` knows of its own; else the tests left
        return None, Reason.TESTS_ENDED
    return (True, Reason.PASSED) if found.wasSuccessful() else (False, Reason.FAILED)


def _refuse() -> None:
    os.write(VERDICT, json.dumps({"passed": None, "why": Reason.NOT_LOCKED_IN}).encode())
    os._exit(1)
