"""EDGE: namespaces and limits of Linux, through ctypes; used inside ``sandbox.py``'s subprocess.

Everything here runs before any code of a stranger, in a process of its own. Each step raises
``NotPossible`` where the kernel or a container forbids it: then nothing runs at all.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND = 2, 4, 8, 4096
_MS_REC_PRIVATE = 16384 | 262144
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_READ_ONLY = 1 | 2 | 4  # MOUNT_ATTR_RDONLY, NOSUID and NODEV
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL = 9
_CAPABILITIES = 0x20080522  # version 3

SCRATCH = "/tmp"  # noqa: S108  the new root's own
MEMORY_BYTES = 256 * 2**20
"""Address space of each process."""
CPU_S = 5
"""Of each process."""
FILE_BYTES = 8 * 2**20
SCRATCH_BYTES = 16 * 2**20
"""All files together; they are held in memory."""
PROCESSES = 8
"""Processes and threads together, the four of ``trial.py`` among them."""
OPEN_FILES = 64
FIRST_UID = 2**30
"""Root runs strangers' code under a user that no other process has: this and the process id."""


class NotPossible(Exception):
    """The kernel does not let this process lock code in."""


def isolate() -> int:
    """Leave the host's network, process, IPC and mount namespaces (the next fork does so for
    processes); return the user to run strangers' code as.
    """
    spaces = _NEWNS | _NEWIPC | _NEWPID | _NEWNET
    if os.geteuid() == 0:
        _call("unshare", spaces)
        return FIRST_UID + os.getpid()
    user, group = os.geteuid(), os.getegid()
    _call("unshare", spaces | _NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    return user


def shut_in(place: str) -> None:
    """Make a root of which only ``/tmp`` can be written, and go there for good.

    Parameters
    ----------
    place
        An empty directory; what is mounted over it is seen by this process and its children only.
    """
    _call("mount", b"none", b"/", None, _MS_REC_PRIVATE, None)
    flags = _MS_NOSUID | _MS_NODEV
    _call("mount", b"tmpfs", place.encode(), b"tmpfs", flags, b"size=1m,mode=755")
    root = f"{place}/root"
    for shown in _shown():
        target = root + shown
        os.makedirs(target, exist_ok=True)  # noqa: PTH103  pathlib is not loaded here
        _call("mount", shown.encode(), target.encode(), None, _MS_BIND | 16384, None)
    os.makedirs(root + SCRATCH, exist_ok=True)  # noqa: PTH103
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    _call(
        "syscall",
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        place.encode(),
        ctypes.c_long(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(32),
    )
    options = f"size={SCRATCH_BYTES},nr_inodes=1024,mode=1777".encode()
    scratch = (root + SCRATCH).encode()
    _call("mount", b"tmpfs", scratch, b"tmpfs", flags | _MS_NOEXEC, options)
    os.chdir(place)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/root")
    # Inside a chroot nobody can make a user namespace, and so get capabilities back.
    os.chroot(".")
    os.chdir(SCRATCH)


def _shown() -> list[str]:
    """Return the directories that the standard library and its extensions are loaded from."""
    libraries = os.path.dirname(os.path.realpath(os.__file__))  # noqa: PTH120
    wanted = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", libraries]
    kept: list[str] = []
    for directory in wanted:
        is_inside = any(f"{directory}/".startswith(f"{other}/") for other in kept)
        if os.path.isdir(directory) and not is_inside:  # noqa: PTH112
            kept.append(directory)
    return kept


def unshare_processes() -> None:
    """Let the next child be alone: it can neither see nor signal any other process."""
    _call("unshare", _NEWPID)


def drop(user: int) -> None:
    """Give every right up for good and set the limits; for a process with a stranger's code."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _prctl(_SET_DUMPABLE, 0)  # no other process may read or write this one's memory
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def die_with_parent() -> None:
    """Have this process killed when its parent ends, and with it its process namespace."""
    _prctl(_SET_DEATH_SIGNAL, _SIGKILL)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", option, ctypes.c_ulong(value), zero, zero, zero)


def _call(name: str, *arguments: object) -> None:
    if sys.platform != "linux":
        raise NotPossible(f"{sys.platform} has no namespaces")
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError as missing:
        raise NotPossible(f"{name} is missing") from missing
    if function(*arguments) == -1:
        raise NotPossible(f"{name}: {os.strerror(ctypes.get_errno())}")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
    except OSError as refused:
        raise NotPossible(f"{path}: {refused.strerror}") from refused
