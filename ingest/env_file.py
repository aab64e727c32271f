"""``steersman.env``: settings of the commands that are started in its directory.

Lines of NAME=value, as python-dotenv parses them, without expansion of ``$NAME``. Environment
variables win; a file that others may write is refused. Only settings belong here: a key in a file
is a key in a backup.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from ingest.own_files import read_own, write_own
from store.environ import PREFIX
from store.errors import SettingsInvalid

FILE = Path("steersman.env")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@,+%=-]*")


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as it is written, with what explains it."""

    name: str
    value: str
    comment: str
    """One or more lines."""


def read_file(file: Path = FILE) -> dict[str, str]:
    """Return the settings in the file, none if there is no file.

    Raises
    ------
    SettingsInvalid
        The file is not one's own, cannot be read or holds something else; names the file and the
        lines.
    """
    try:
        text = read_own(file).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsInvalid(f"{file.absolute()} cannot be read: {_reason(problem)}") from problem
    values: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        where = f"{file.absolute()}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{where}: not NAME=value")
        elif binding.key is None or binding.value is None:
            continue  # a comment, an empty line
        elif not binding.key.startswith(f"{PREFIX}_"):
            problems.append(
                f"{where}: {binding.key} is no setting; other variables, and every key, belong in"
                " the environment"
            )
        elif binding.key in values:
            problems.append(f"{where}: {binding.key} is there twice")
        else:
            values[binding.key] = binding.value
    if problems:
        raise SettingsInvalid("\n".join(problems))
    return values


def under_environment(values: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the file's values that no environment variable replaces."""
    return {name: value for name, value in values.items() if name not in environment}


def named(problem: SettingsInvalid, taken: Mapping[str, str], file: Path = FILE) -> SettingsInvalid:
    """Return the error with the file named in each line that speaks of one of its values."""

    def with_file(line: str) -> str:
        found = re.match(rf"({PREFIX}\w*?)(_\*)?[ :]", line)
        if found is None:
            return line
        if found[1] in taken:
            return f"{line} (in {file.absolute()})"
        is_group = found[2] is not None and any(n.startswith(f"{found[1]}_") for n in taken)
        return f"{line} (see also {file.absolute()})" if is_group else line

    return SettingsInvalid("\n".join(with_file(line) for line in str(problem).splitlines()))


def content_of(lines: Sequence[Line], *, heading: str) -> str:
    """Return the file's text."""
    parts = [f"{_commented(line.comment)}\n{line.name}={_quoted(line.value)}" for line in lines]
    return "\n\n".join([_commented(heading), *parts]) + "\n"


def write_file(content: str, file: Path = FILE) -> None:
    """Write the file, readable by this user only; whoever reads meanwhile sees all or nothing.

    Raises
    ------
    SettingsInvalid
        It cannot be written, or is a symbolic link.
    """
    try:
        write_own(content, file)
    except OSError as problem:
        raise SettingsInvalid(
            f"{file.absolute()} cannot be written: {_reason(problem)}"
        ) from problem


def _commented(text: str) -> str:
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _reason(problem: OSError | UnicodeDecodeError) -> str:
    return (problem.strerror or "?") if isinstance(problem, OSError) else "it is not UTF-8"
