"""How tests and answer talk: two processes, one socket, plain data only.

The tests hold ``Remote`` in place of the answer's functions and objects; each use of one is a
message. What comes back is made anew from plain data by the tests' own process, so that an answer
can compute, raise or end, but never touch what decides.
"""

from __future__ import annotations

import itertools
import json
import operator
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

from judge.parcels import error_named, pack, unpack

MESSAGE_BYTES = 4 * 2**20
CHUNK = 64


class Undecided(BaseException):
    """The tests ask for something that cannot be carried over.

    No ``Exception``, so that no test takes it for a failure of the answer.
    """


class Ended(BaseException):
    """The answer's process has ended or is too late."""


class Line:
    """JSON messages over a socket, each up to a line end; nothing is waited for past a deadline."""

    def __init__(self, end: socket.socket, *, deadline: float | None) -> None:
        self._end = end
        self._deadline = deadline
        self._rest = b""

    def send(self, message: object) -> None:
        """Send a message. Raises ``Ended``."""
        try:
            self._set_time()
            self._end.sendall(json.dumps(message).encode() + b"\n")
        except OSError as gone:
            raise Ended from gone

    def receive(self) -> object:
        """Return the next message. Raises ``Ended``, also for what is none."""
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            try:
                self._set_time()
                part = self._end.recv(2**16)
            except OSError as late:
                raise Ended from late
            size += len(part)
            if not part or size > MESSAGE_BYTES:
                raise Ended
            parts.append(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as unreadable:
            raise Ended from unreadable

    def _set_time(self) -> None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0.0:
                raise TimeoutError
            self._end.settimeout(left)


_OPERATIONS: dict[str, Callable[..., object]] = {
    "call": lambda function, *args, **named: function(*args, **named),
    "get": getattr,
    "set": setattr,
    "len": len,
    "item": operator.getitem,
    "put": operator.setitem,
    "drop": operator.delitem,
    "in": operator.contains,
    "eq": operator.eq,
    "bool": bool,
    "str": str,
    "repr": repr,
    "iter": iter,
    "chunk": lambda items: list(itertools.islice(items, CHUNK)),
    "next": next,
}


def serve(end: socket.socket) -> None:
    """Load the answer that comes first, then do what the tests ask until they hang up."""
    line = Line(end, deadline=None)
    kept: list[object] = []

    def keep(value: object) -> int:
        kept.append(value)
        return len(kept) - 1

    while True:
        reply: dict[str, object]
        try:
            asked = line.receive()
            if not isinstance(asked, dict):
                return
            if "load" in asked:
                reply = {"value": pack(_load(str(asked["load"])), keep)}
            else:
                args = [unpack(one, kept.__getitem__) for one in asked["args"]]
                named = {k: unpack(v, kept.__getitem__) for k, v in asked["named"].items()}
                value = _OPERATIONS[asked["do"]](*args, **named)
                reply = {"value": pack(value, keep)}
                if asked["do"] == "call":  # which may have changed what it was given
                    reply["args"] = [pack(one, keep) for one in args]
        except Ended:
            return
        except BaseException as raised:  # noqa: BLE001  whatever the answer raises, its tests see
            reply = {"raised": [kind.__name__ for kind in type(raised).__mro__]}
            reply["message"] = str(raised)[:1_000]
        line.send(reply)


def _load(code: str) -> dict[str, object]:
    module = run_module("answer", code)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


class _Source(InspectLoader):
    def __init__(self, code: str) -> None:
        self._code = code

    def get_source(self, fullname: str) -> str:
        return self._code


def run_module(name: str, code: str, before: dict[str, object] | None = None) -> types.ModuleType:
    """Run code as a module that finds the names in ``before`` already there."""
    loader = _Source(code)
    module = module_from_spec(ModuleSpec(name, loader))
    sys.modules[name] = module
    vars(module).update(before or {})
    loader.exec_module(module)
    return module


class Answer:
    """The answer's process, as its tests see it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.uses = 0
        """How often the tests used it."""
        self.is_in_doubt = False
        """Whether something could not be carried over, so that the tests say nothing of it."""
        self.has_ended = False

    def load(self, code: str) -> dict[str, object]:
        """Return the names that the answer defines. Raises what the answer raises."""
        named = self._ask({"load": code})
        if not isinstance(named, dict):
            raise Ended
        return named

    def do(self, operation: str, *args: object, **named: object) -> object:
        """Return what comes of an operation on the answer's objects; raises what it raises."""
        self.uses += 1
        asked = {
            "do": operation,
            "args": [pack(one, self._number) for one in args],
            "named": {name: pack(value, self._number) for name, value in named.items()},
        }
        return self._ask(asked, args)

    def undecided(self) -> Undecided:
        """Note that the tests can say nothing and return what ends them."""
        self.is_in_doubt = True
        return Undecided()

    def _ask(self, asked: object, args: tuple[object, ...] = ()) -> object:
        try:
            reply = self._reply(asked)
            if "raised" not in reply:
                theirs = [unpack(one, self._remote) for one in reply.get("args", ())]
                for mine, changed in zip(args, theirs, strict=False):
                    _restore(mine, changed)
                return unpack(reply["value"], self._remote)
            raised = _raised(reply)
        except (
            Ended,
            LookupError,
            ArithmeticError,
            TypeError,
            ValueError,
            RecursionError,
        ) as problem:
            self.has_ended = True
            raise Ended from problem
        raise raised

    def _reply(self, asked: object) -> dict[str, Any]:
        if self.has_ended:
            raise Ended
        self._line.send(asked)
        reply = self._line.receive()
        if not isinstance(reply, dict):
            raise Ended
        return reply

    def _remote(self, number: int) -> Remote:
        return Remote(self, number)

    def _number(self, value: object) -> int:
        if isinstance(value, Remote):
            number: int = object.__getattribute__(value, "_number")
            return number
        raise self.undecided()


def _raised(reply: dict[str, object]) -> Exception:
    """Return the answer's exception, made anew."""
    names = reply["raised"]
    kind = error_named(names) if isinstance(names, list) and names else RuntimeError
    try:
        raised = kind(str(reply.get("message", "")))
    except TypeError:  # UnicodeDecodeError and its like want more
        raised = RuntimeError(kind.__name__)
    raised.is_the_answers = True  # type: ignore[attr-defined]
    return raised


def _restore(mine: object, theirs: object) -> None:
    """Bring a list, dict or set of the tests to what the answer made of it."""
    if isinstance(mine, list) and isinstance(theirs, list):
        mine[:] = theirs
    for kind in (dict, set):
        if isinstance(mine, kind) and isinstance(theirs, kind):
            mine.clear()
            mine.update(theirs)


class Remote:
    """A function or an object of the answer."""

    def __init__(self, answer: Answer, number: int) -> None:
        object.__setattr__(self, "_answer", answer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _do(self, "get", name)

    def __setattr__(self, name: str, value: object) -> None:
        _do(self, "set", name, value)

    def __call__(self, *args: object, **named: object) -> object:
        return _do(self, "call", *args, **named)

    def __len__(self) -> int:
        length = _do(self, "len")
        return length if isinstance(length, int) else -1

    def __getitem__(self, key: object) -> object:
        return _do(self, "item", key)

    def __setitem__(self, key: object, value: object) -> None:
        _do(self, "put", key, value)

    def __delitem__(self, key: object) -> None:
        _do(self, "drop", key)

    def __contains__(self, value: object) -> bool:
        return _do(self, "in", value) is True

    def __bool__(self) -> bool:
        return _do(self, "bool") is True

    def __str__(self) -> str:
        return str(_do(self, "str"))

    def __repr__(self) -> str:
        return str(_do(self, "repr"))

    def __iter__(self) -> Iterator[object]:
        items = _do(self, "iter")
        while chunk := _do(items, "chunk") if isinstance(items, Remote) else None:
            yield from chunk if isinstance(chunk, list) else ()

    def __next__(self) -> object:
        return _do(self, "next")

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return _do(self, "eq", other) is True
        raise _answer_of(self).undecided()

    def __ne__(self, other: object) -> bool:
        return not self == other


def _answer_of(remote: Remote) -> Answer:
    answer: Answer = object.__getattribute__(remote, "_answer")
    return answer


def _do(remote: Remote, operation: str, *args: object, **named: object) -> object:
    return _answer_of(remote).do(operation, remote, *args, **named)


def _unsupported(self: Remote, *_: object) -> object:
    raise _answer_of(self).undecided()


for _name in (
    *("__lt__", "__le__", "__gt__", "__ge__", "__add__", "__radd__", "__sub__", "__rsub__"),
    *("__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__mod__", "__pow__", "__neg__"),
    *("__abs__", "__int__", "__float__", "__index__", "__round__", "__enter__", "__exit__"),
    *("__and__", "__or__", "__xor__", "__invert__", "__instancecheck__", "__subclasscheck__"),
    *("__await__", "__aiter__", "__matmul__", "__floordiv__", "__divmod__", "__reversed__"),
):
    setattr(Remote, _name, _unsupported)
