"""Files that say where to connect and which keys go there: only one's own are believed.

Whoever may write such a file can send a key away, so one found in a directory that others can
write to must not be taken for the operator's.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from store.errors import SettingsInvalid

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_own(file: Path) -> str:
    """Return the text of a file that nobody but this user and root could have written.

    Raises
    ------
    SettingsInvalid
        It is somebody else's, others may write to it, or it is no regular file.
    OSError, UnicodeDecodeError
        There is none, or it cannot be read.
    """
    # The open file is looked at, not its name, which may lead elsewhere a moment later. Opening
    # a pipe would wait for its writer.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        _refuse_strange(file, os.fstat(opened.fileno()))
        return opened.read().decode()


def write_own(content: str, file: Path) -> None:
    """Write a file, readable by this user only; whoever reads meanwhile sees all or nothing.

    Raises
    ------
    SettingsInvalid
        A symbolic link has its name.
    OSError
        It cannot be written.
    """
    if file.is_symlink():
        raise SettingsInvalid(
            f"{file.absolute()} is a symbolic link to {file.readlink()}: remove it first"
        )
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(unfinished, flags, 0o600), "w", encoding="utf-8") as opened:
        opened.write(content)
    unfinished.replace(file)


def _refuse_strange(file: Path, found: os.stat_result) -> None:
    where = file.absolute()
    if not stat.S_ISREG(found.st_mode):
        raise SettingsInvalid(f"{where} is no regular file: remove it")
    me = os.geteuid()
    if found.st_uid not in {me, _ROOT}:
        raise SettingsInvalid(
            f"{where} belongs to {_name(found.st_uid)}, neither to you nor to root, so it is not"
            f" obeyed: start in another directory, or read it and then `chown {_name(me)} {where}`"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise SettingsInvalid(
            f"{where} can be written by others than {_name(found.st_uid)} (mode"
            f" {stat.S_IMODE(found.st_mode):o}), so it is not obeyed: read it, then"
            f" `chmod go-w {where}`"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
