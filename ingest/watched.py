"""Run a command that ends with its owner: ``python watched.py COMMAND...``.

The owner holds the other end of standard input. When it closes, on purpose or because the owner
was killed, the command is terminated. The command itself dies with this process even if that is
killed too (Linux). A process of its own, because a death signal asked for by the owner would
fire when the owner's *thread* ends, and because code between fork and exec is unsafe in a
process with threads.
"""

from __future__ import annotations

import ctypes
import select
import signal
import subprocess
import sys

SET_DEATH_SIGNAL = 1
LOOK_S = 0.2
TERMINATE_S = 5.0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run until the command ends or standard input does; return the command's exit code."""
    child = subprocess.Popen(  # noqa: S603 - the owner's own command line
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
    )
    while child.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], LOOK_S)
        if readable and not sys.stdin.buffer.read(1):
            child.terminate()
            try:
                child.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                child.kill()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
