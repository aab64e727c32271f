"""``make bench``: every benchmark in turn, printed and written into docs/figures.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"
BENCHMARKS = ("decide", "ingest", "swap", "recalibrate")
_PART = "(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"


def main() -> int:
    """Run what is named, or everything; return 1 if one of them failed."""
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
        write(name, done.stdout)
    return status


def write(name: str, text: str) -> None:
    """Replace one part of the page between its markers."""
    page = PAGE.read_text(encoding="utf-8")
    part = re.compile(_PART.format(name=name), re.DOTALL)
    new, count = part.subn(lambda _: f"\n{text.strip()}\n\n", page)
    if count != 1:
        raise ValueError(
            f"{PAGE.name} needs the markers <!-- {name} --> once, has them {count} times"
        )
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
