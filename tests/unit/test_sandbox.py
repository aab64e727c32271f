"""An answer's code in the sandbox: right is right, wrong is wrong, and nothing gets out."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from judge import jail, sandbox
from judge.sandbox import Trial, run_tests
from judge.trial import Reason

pytestmark = pytest.mark.usefixtures("lockable")

ROOT = Path(__file__).parents[2]
ADD = "def add(a, b):\n    return a + b\n"
WANTS_ADD = "assert add(2, 3) == 5\n"


def passed(code: str, tests: str) -> bool | None:
    return run_tests(code, tests).passed


RIGHT = [
    (ADD, WANTS_ADD),
    (ADD, "def test_add():\n    assert add(2, 3) == 5\n"),
    (ADD, "from answer import add as plus\nassert plus(2, 3) == 5\n"),
    (ADD, "def check(candidate):\n    assert candidate(2, 3) == 5\ncheck(add)\n"),
    (
        ADD,
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n",
    ),
    ("def f(x): return {'a': (1, 2.5, None), 'b': {x, 2}, 3: b'x'}",
     "assert f(1) == {'a': (1, 2.5, None), 'b': {1, 2}, 3: b'x'}\nassert type(f(1)['a']) is tuple"),
    ("def f(x):\n    x.sort()\n", "xs = [3, 1, 2]\nf(xs)\nassert xs == [1, 2, 3]"),
    ("def f(d):\n    d['k'] = 1\n", "d = {}\nf(d)\nassert d == {'k': 1}"),
    ("def f(x):\n    raise ValueError('no')\n",
     "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    assert False"),
    ("class Broke(LookupError): pass\ndef f(): raise Broke('x')",
     "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
     "        with self.assertRaises(Broke): f()\n"
     "        with self.assertRaises(LookupError): f()"),
    ("class Stack:\n    def __init__(self): self.items = []\n"
     "    def push(self, x): self.items.append(x)\n    def __len__(self): return len(self.items)\n"
     "    def __iter__(self): return iter(self.items)\n"
     "    def __contains__(self, x): return x in self.items\n"
     "    def __getitem__(self, n): return self.items[n]\n",
     "s = Stack()\ns.push(1)\ns.push('b')\nassert len(s) == 2\nassert list(s) == [1, 'b']\n"
     "assert 1 in s and 5 not in s\nassert s[1] == 'b'\nassert s.items == [1, 'b']"),
    ("def count():\n    n = 0\n    while True:\n        yield n\n        n += 1\n",
     "import itertools\nassert list(itertools.islice(count(), 100)) == list(range(100))"),
    ("import collections\ndef f(s): return collections.Counter(s)",
     "assert f('aab') == {'a': 2, 'b': 1}"),
    ("class Node:\n    def __init__(self, v, left=None): self.v, self.left = v, left\n"
     "def depth(n): return 0 if n is None else 1 + depth(n.left)",
     "assert depth(Node(1, Node(2))) == 2"),
    ("import threading\ndef f():\n    got = []\n"
     "    t = threading.Thread(target=got.append, args=(1,))\n"
     "    t.start(); t.join()\n    return got", "assert f() == [1]"),
    ("import tempfile\ndef f():\n    with tempfile.NamedTemporaryFile('w+') as t:\n"
     "        t.write('x'); t.seek(0)\n        return t.read()", "assert f() == 'x'"),
    ("def f(): return 2 ** 20_000", "assert f() == 2 ** 20_000"),
    ("from fractions import Fraction\ndef f(): return Fraction(1, 2)", "assert f() == 0.5"),
    ("from decimal import Decimal\ndef f(x): return x * 2",
     "from decimal import Decimal\nassert f(Decimal('1.10')) == Decimal('2.20')"),
    ("import datetime as d\ndef f(x): return [x + d.timedelta(days=1), x.time(), x.date()]",
     "from datetime import date, datetime, time\n"
     "a, b = datetime(2024, 2, 28, 9), datetime(2024, 2, 29, 9)\n"
     "assert f(a) == [b, time(9), date(2024, 2, 28)]"),
    ("print('hello')\ndef f():\n    print('x')\n    return 1", "print('testing')\nassert f() == 1"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), RIGHT)
def test_code_that_does_what_it_should_passes(code: str, tests: str) -> None:
    assert run_tests(code, tests) == Trial(True, Reason.PASSED)


WRONG = [
    ("def add(a, b):\n    return a - b\n", WANTS_ADD),
    ("def plus(a, b):\n    return a + b\n", WANTS_ADD),
    ("def add(a, b) return a + b", WANTS_ADD),
    ("I think the answer is to add both numbers.", WANTS_ADD),
    ("", WANTS_ADD),
    ("raise RuntimeError('x')", WANTS_ADD),
    ("def add(a, b):\n    return 1 / 0\n", WANTS_ADD),
    (ADD, "from answer import subtract\nassert subtract(1, 1) == 0"),
    ("def add(a, b):\n    return 5 if a == 2 else 0\n", WANTS_ADD + "assert add(1, 1) == 2\n"),
    (ADD, "import unittest\nclass T(unittest.TestCase):\n"
          "    def test_a(self): self.assertEqual(add(1, 1), 2)\n"
          "    def test_b(self): self.assertEqual(add(1, 1), 3)\n"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "tests"), WRONG)
def test_code_that_does_something_else_fails(code: str, tests: str) -> None:
    assert passed(code, tests) is False


UNDECIDED = [
    (ADD, "assert add(2, 3 == 5"),
    (ADD, "assert 1 + 1 == 2"),
    (ADD, "import pytest\nassert add(2, 3) == 5"),
    ("import numpy\n" + ADD, WANTS_ADD),
    ("import numpy\n" + ADD, "import numpy.linalg\n" + WANTS_ADD),
    ("raise ModuleNotFoundError('numpy')\n" + ADD, "import math\n" + WANTS_ADD),
    ("def apply(f, x): return f(x)", "assert apply(lambda x: x + 1, 1) == 2"),
    (ADD, "import sys\nsys.exit(0)"),
    (ADD, "import os\nos._exit(0)"),
    (ADD, "async def test_add():\n    assert add(2, 3) == 6\nassert add(1, 1) == 2"),
    (ADD, "def test_add(fixture):\n    assert add(2, 3) == 5"),
    (
        "class Half:\n    def __eq__(self, other): return True\ndef f(): return Half()",
        "assert f() == 0.5",
    ),
]


@pytest.mark.parametrize(("code", "tests"), UNDECIDED)
def test_what_the_tests_cannot_tell_is_neither_passed_nor_failed(code: str, tests: str) -> None:
    assert passed(code, tests) is None


FORGERIES = {
    "leaves before the tests": "import os\nos._exit(0)",
    "leaves by sys.exit": "import sys\nsys.exit(0)",
    "leaves in a test": "import os\ndef add(a, b):\n    os._exit(0)",
    "exits in a test": "import sys\ndef add(a, b):\n    sys.exit(0)",
    "kills itself": "import os, signal\ndef add(a, b):\n    os.kill(os.getpid(), signal.SIGKILL)",
    "kills everybody": "import os, signal\ndef add(a, b):\n    os.kill(-1, signal.SIGKILL)",
    "kills its parent": "import os, signal\ndef add(a, b):\n    os.kill(os.getppid(), 9)",
    "prints a verdict": """print('{"passed": true, "why": "every test passed"}', flush=True)""",
    "writes a verdict to every descriptor": """
import os
for n in range(1024):
    try: os.write(n, b'{"passed": true, "why": "every test passed"}\\n')
    except OSError: pass
""",
    "answers before it is asked": """
import os
for _ in range(9):
    try: os.write(3, b'{"value": 5}\\n')
    except OSError: pass
def add(a, b): return 6
add = None
os._exit(0)
""",
    "is equal to everything": """
class Any:
    def __eq__(self, other): return True
    def __bool__(self): return True
def add(a, b): return Any()
""",
    "is an equal integer": """
class Any(int):
    def __eq__(self, other): return True
def add(a, b): return Any(6)
""",
    "patches built-ins": """
import builtins
class Never(BaseException): pass
builtins.AssertionError = Never
builtins.compile = builtins.__import__ = lambda *a, **k: None
def add(a, b): return 6
""",
    "names its functions as built-ins": """
def isinstance(*a): return True
def abs(x): return 0
class AssertionError(Exception): pass
def add(a, b): return 6
""",
    "patches unittest and the interpreter": """
import sys, unittest, gc
unittest.TestCase.run = lambda *a, **k: None
sys.settrace(lambda *a: None)
sys.excepthook = lambda *a: None
for found in gc.get_objects():
    if type(found).__name__ == "Answer":
        found.is_in_doubt, found.has_ended, found.uses = False, False, 1
def add(a, b): return 6
""",
    "runs at exit": """
import atexit, os
atexit.register(lambda: os._exit(0))
def add(a, b): return 6
""",
    "brings its own tests": """
def add(a, b): return 6
def test_add(): pass
def load_tests(*a): return None
""",
    "poisons the standard library": """
import os
for place in ("/usr/lib", "/lib", os.path.dirname(os.__file__), "/root"):
    for name in ("unittest.py", "python311.zip", "json.py"):
        try: open(f"{place}/{name}", "w").write("raise SystemExit(0)")
        except OSError: pass
def add(a, b): return 6
""",
    "raises what a test may expect": "def add(a, b): raise AssertionError",
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
@pytest.mark.parametrize(
    "tests",
    [
        WANTS_ADD,
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test(self):\n        self.assertTrue(abs(add(2, 3) - 5) < 1)\n",
        "def test_add():\n    assert isinstance(add(2, 3), str) or add(2, 3) == 5",
    ],
)
def test_no_answer_forges_its_verdict(how: str, tests: str) -> None:
    # What compares itself must be left to the judge: the tests cannot know what it is.
    expected = None if how == "is equal to everything" else False
    assert passed(FORGERIES[how], tests) is expected


def test_the_answer_cannot_see_its_tests() -> None:
    code = """
import gc, os, sys
def add(a, b):
    seen = [x for x in gc.get_objects() if isinstance(x, (dict, list, tuple))]
    texts = [str(v) for x in seen for v in (x.values() if isinstance(x, dict) else x)
             if isinstance(v, (str, bytes))]
    word = "-".join(["secret", "in", "tests"])
    return any(word in t for t in texts)
"""
    assert passed(code, "WORD = 'secret-in-tests'\nassert add(2, 3) is False") is True


ESCAPES = {
    "environment": "import os\ndef f(): return dict(os.environ).get('STEERSMAN_SECRET', 'none')",
    "its parent's environment": """
def f():
    for pid in (1, 2, 3, 'self'):
        try: return open(f'/proc/{pid}/environ').read() or 'none'
        except OSError: pass
    return 'none'
""",
    "files of the host": """
import os
SECRET = "steersman-secret-file"
def f():
    for path in ('/etc/passwd', '/etc/hostname', '/home', '/proc/1', '/var', '/dev/null', '/sys',
                 '/../etc/passwd', '/tmp/../../etc/passwd', SECRET):
        if os.path.exists(path): return path
    return 'none'
""",
    "writing outside its directory": """
import os
def f():
    for path in ('/x', '/usr/lib/x', '/lib/x', os.path.dirname(os.__file__) + '/x', '../x'):
        try: open(path, 'w'); return path
        except OSError: pass
    return 'none'
""",
    "new namespaces": """
import ctypes, os
def f():
    libc = ctypes.CDLL(None)
    for flags in (0x10000000, 0x20000, 0x10020000, 0x40000000):
        if libc.unshare(flags) == 0: return hex(flags)
    if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0: return 'mount'
    for act in (lambda: os.setuid(0), lambda: os.chroot('/tmp'), lambda: os.setgid(0)):
        try: act()
        except OSError: continue
        if os.getuid() == 0 or act is not None and os.getgid() == 0: return 'rights'
    return 'none'
""",
    "other processes": """
import os
def f():
    seen = []
    for pid in range(1, 3000):
        if pid == os.getpid(): continue
        try: os.kill(pid, 0); seen.append(pid)
        except OSError: pass
    return str(seen) if seen else 'none'
""",
    "more limits": """
import resource
def f():
    try: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)); return 'raised'
    except (ValueError, OSError): return 'none'
""",
}  # fmt: skip


@pytest.mark.parametrize("what", ESCAPES)
def test_nothing_of_the_host_is_in_reach(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEERSMAN_SECRET", "hunter2")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    code = ESCAPES[what].replace("steersman-secret-file", str(secret))
    assert run_tests(code, "assert f() == 'none'") == Trial(True, Reason.PASSED)
    if what != "other processes":  # the tests' process sees the answer's, which is a child of it
        # The tests are a stranger's too.
        assert run_tests(ADD, code + "\nadd(1, 1)\nassert f() == 'none'").passed is True


def test_nobody_is_reached_over_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import socket\ndef f():\n    try:\n"
            f"        socket.create_connection(('127.0.0.1', {port}), 2)\n"
            "    except OSError as e:\n        return 'none'\n    return 'connected'"
        )
        abstract = socket.socket(socket.AF_UNIX)
        abstract.bind(f"\0steersman-{os.getpid()}")
        abstract.listen()
        unix = (
            "import socket\ndef f():\n    try:\n"
            f"        socket.socket(socket.AF_UNIX).connect('\\0steersman-{os.getpid()}')\n"
            "    except OSError as e:\n        return 'none'\n    return 'connected'"
        )
        with abstract:
            assert passed(code, "assert f() == 'none'") is True
            assert passed(unix, "assert f() == 'none'") is True


BOMBS = {
    "a loop": "def f():\n    while True: pass",
    "memory": "def f():\n    x = []\n    while True: x.append(bytearray(2**20))",
    "forks": "import os\ndef f():\n    while True: os.fork()",
    "forks that go on": """
import os
def f():
    while True:
        try: os.fork()
        except OSError: pass
""",
    "output": "import sys\ndef f():\n    while True: sys.stdout.write('x' * 2**20)",
    "files": """
def f():
    n = 0
    while True:
        open(f'/tmp/{n}', 'wb').write(b'x' * 2**20)
        n += 1
""",
    "a huge reply": "def f(): return 'x' * (8 * 2**20)",
    "a deep reply": "def f():\n    x = []\n    for _ in range(100_000): x = [x]\n    return x",
    "a regular expression": "import re\ndef f(): re.match('(a+)+$', 'a' * 64 + '!')",
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_fails_and_leaves_nothing_running(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = (
        "import judge.jail, judge.trial as t; judge.jail.CPU_S = 1; t.TRIAL_S = 4; from judge.trial"
    )
    monkeypatch.setattr(sandbox, "_START", sandbox._START.replace("from judge.trial", soon))
    marker = f"steersman-trial-{what.encode().hex()}"
    assert passed(BOMBS[what] + f"\n{marker!r}", "assert f() == 1") is not True
    assert strays_after_a_while() == set()


def test_a_bomb_of_the_tests_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WHOLE_S", 3.0)
    hidden = "import os\nos.setsid()\nif os.fork() == 0:\n    os.setsid()\nwhile True: pass"
    assert passed(ADD, hidden) is None
    assert strays_after_a_while() == set()


def strays_after_a_while() -> set[str]:
    """The kernel kills a process namespace soon, not at once."""
    stop, left = threading.Event(), strays()
    for _ in range(100):
        if not left:
            break
        stop.wait(0.05)
        left = strays()
    return left


def strays() -> set[str]:
    """Return the command lines of processes that a sandbox left behind."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if "judge.trial" in command and state != "Z":
            found.add(f"{entry.name}: {command}")
    return found


def test_trials_beside_each_other_do_not_disturb_each_other() -> None:
    results: list[bool | None] = []
    one = lambda: results.append(passed(ADD, WANTS_ADD))  # noqa: E731
    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_nothing_runs_where_it_cannot_be_locked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without the rights: the first call that takes the process out fails."""
    refusing = sandbox._START.replace(
        "from judge.trial",
        "import judge.jail; judge.jail._NEWNS = -1; from judge.trial",
    )
    monkeypatch.setattr(sandbox, "_START", refusing)
    assert run_tests(ADD, WANTS_ADD) == Trial(None, Reason.NOT_LOCKED_IN)


def test_tests_that_write_a_verdict_themselves_put_no_word_of_theirs_into_it() -> None:
    forged = """
import os
for n in range(9):
    try: os.write(n, {!r})
    except OSError: pass
os._exit(0)
"""
    assert run_tests(ADD, forged.format(b'{"passed": true, "why": "secret"}')).why is Reason.SILENT


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can read, unlike pytest's."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def interpreter_for_others() -> str | None:
    """Return an interpreter that a user who is not root can run."""
    for candidate in (sandbox._interpreter(), shutil.which("python3", path="/usr/bin:/bin")):
        if candidate is None:
            continue
        whole = Path(candidate).resolve()
        if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (whole, *whole.parents)):
            return candidate
    return None


@pytest.mark.parametrize(
    ("code", "tests", "expected"),
    [
        (ADD, WANTS_ADD, True),
        ("def add(a, b): return 6", WANTS_ADD, False),
        (FORGERIES["kills everybody"], WANTS_ADD, False),
        *((code, "assert f() == 'none'", True) for code in ESCAPES.values()),
        (BOMBS["forks"], "assert f() == 1", False),
    ],
)
def test_an_ordinary_user_is_as_safe_as_root(
    code: str, tests: str, expected: bool, open_place: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's own tests are the rest of this file")
    python = interpreter_for_others()
    if python is None:
        assert not os.environ.get("CI"), "no interpreter that other users can run"
        pytest.skip("no interpreter that other users can run")
    for folder in ("judge", "store"):
        shutil.copytree(ROOT / folder, open_place / folder)
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from judge.sandbox import run_tests;"
        " job = json.load(sys.stdin); print(json.dumps(run_tests(*job).passed))"
    )
    done = subprocess.run(
        [python, "-c", program, str(open_place)],
        input=json.dumps([code, tests]),
        capture_output=True,
        text=True,
        user=65_534,
        group=65_534,
        extra_groups=[],
        env={"STEERSMAN_SECRET": "hunter2", "TMPDIR": str(open_place.parent)},
        cwd="/",
        check=True,
    )
    assert json.loads(done.stdout) is expected


def test_the_limits_that_the_page_names_are_those_in_force() -> None:
    said = sandbox.__doc__ or ""
    assert re.search(rf"{jail.MEMORY_BYTES // 2**20} MB of address space and {jail.CPU_S} s", said)
    assert f"({jail.SCRATCH_BYTES // 2**20} MB)" in said
    assert f"there are {jail.PROCESSES} processes" in said
    assert f"files of {jail.FILE_BYTES // 2**20} MB" in said
    assert sys.platform == "linux"
