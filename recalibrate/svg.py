"""From a drawing to inline SVG. The home of matplotlib.

Colours are written as placeholders and replaced by CSS variables, so that one picture is right on
light and dark paper; text stays text, in the page's own font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, MUTED, GRID, BAD, BAND = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = ("#060601", "#060602", "#060603", "#060604", "#060605", "#060606", "#060607", "#060608")
_VARIABLES = {
    **dict(
        zip((INK, MUTED, GRID, BAD, BAND), ("ink", "muted", "grid", "bad", "band"), strict=True)
    ),
    **{colour: f"s{i + 1}" for i, colour in enumerate(SERIES)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "steersman",
    "text.parse_math": False,  # an expert's name may hold dollar signs
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_WIDTH = 7.8


def drawn(draw: Callable[[Figure], None], *, name: str, height: float) -> str:
    """Return what ``draw`` puts on a fresh figure as an ``<svg>`` element.

    Parameters
    ----------
    name
        Unique on the page: it prefixes every id.
    height
        In inches; the width is fixed, and the element scales to the page.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The page's font draws the text; matplotlib's own only measures it.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), prefix=name)


def _inline(svg: str, *, prefix: str) -> str:
    """Return the drawing alone: no prologue, no addresses, ids that are unique on the page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(\sid="|"#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return body.strip()
