"""README's generated table and its glossary; ``python -m tests.readme`` writes the table anew."""

from __future__ import annotations

import re
from pathlib import Path

from ingest.settings import ProcessSettings
from store import environ

README = Path(__file__).parents[1] / "README.md"
_SETTINGS = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
_TERM = re.compile(r"^\| \*\*(.+?)\*\*.*? \| .", re.MULTILINE)


def settings_table() -> str:
    """Return every environment variable as a Markdown table."""
    rows = [
        f"| `{name}` | {kind} | {_code(default)} | {_prose(meaning)} |"
        for name, kind, default, meaning in environ.describe(ProcessSettings)
    ]
    return "\n".join(["| variable | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def with_current_settings(text: str) -> str:
    """Return README's text with the table between its markers replaced."""
    current, count = _SETTINGS.subn(settings_table().replace("\\", r"\\"), text)
    if count != 1:
        raise ValueError(f"README needs the markers <!-- settings --> once, has them {count} times")
    return current


def glossary(text: str) -> list[str]:
    """Return the words that the glossary explains, in its order."""
    _, found, section = text.partition("\n## Glossary\n")
    if not found:
        raise ValueError("README has no section `## Glossary`")
    return _TERM.findall(section.partition("\n## ")[0])


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _prose(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|")


if __name__ == "__main__":
    README.write_text(with_current_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
