"""Where the recorded traffic is; it is not part of this repository."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.timing import heading

DATA = Path("..") / "shared" / "data"


def recorded_in(module: str, about: str | None, files: Iterable[str]) -> Path | None:
    """Print the heading and return ``--data``; None, with the reason printed, if a file is missing.

    ``module`` and ``about`` are the benchmark's name and docstring.
    """
    return recorded_at(parser(about).parse_args().data, module, files)


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--data``."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--data", type=Path, default=DATA, help="where the Parquet files are")
    return made


def recorded_at(data: Path, module: str, files: Iterable[str]) -> Path | None:
    """Print the heading and return the directory; None, with the reason, if a file is missing."""
    print(heading(f"python -m benchmarks.{module}"))
    missing = [name for name in files if not (data / name).is_file()]
    if not missing:
        return data
    print(f"\nSkipped: no {', '.join(missing)} in {data}; name their directory with --data.")
    return None
