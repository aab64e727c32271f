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
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=DATA, help="where the Parquet files are")
    data: Path = parser.parse_args().data
    print(heading(f"python -m benchmarks.{module}"))
    missing = [name for name in files if not (data / name).is_file()]
    if not missing:
        return data
    print(f"\nSkipped: no {', '.join(missing)} in {data}; name their directory with --data.")
    return None
