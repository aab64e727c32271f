"""``make bench``, ``bench-judge``, ``bench-live``: benchmarks in turn, put into their pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "figures.md"
BENCHMARKS = ("decide", "ingest", "swap", "recalibrate")
PAGES = {"judge": DOCS / "judging.md", "live": DOCS / "experts.md", "drift": DOCS / "drift.md"}
"""By how the benchmark's name begins; every other one is in ``PAGE``."""
_PART = "(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"


def main() -> int:
    """Run what is named, or all of docs/figures.md; return 1 if one of them failed."""
    names = sys.argv[1:] or [*BENCHMARKS]
    status = 0
    for name in names:
        done = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-m", f"benchmarks.{name}"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        if done.returncode:
            status = 1
            continue
        write(name, done.stdout, PAGES.get(name.split("_")[0], PAGE))
    return status


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Replace one part of a page between its markers."""
    part = re.compile(_PART.format(name=name), re.DOTALL)
    new, count = part.subn(lambda _: f"\n{text.strip()}\n\n", page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(
            f"{page.name} needs the markers <!-- {name} --> once, has them {count} times"
        )
    page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
