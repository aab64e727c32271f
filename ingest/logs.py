"""Logs a machine can count: one JSON object a line, a constant event name, facts in ``extra``.

Prompt texts and keys must not be logged; the formatter helps by leaving out what most often
carries them: exception messages. An exception is its type and where it was raised, one that
nobody caught too.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_CHATTY = (
    "apscheduler",
    "httpcore2",
    "httpx",
    "httpx2",
    "kafka",
    "openai",  # its earlier versions log at DEBUG what is sent
    "sentence_transformers",
    "uvicorn",
)
FACT_CHARACTERS = 500
FRAMES = 8


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            # Below the first line asyncio quotes what failed, its exception's message included.
            "event": record.getMessage().partition("\n")[0],
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = value if isinstance(value, int | float | bool) else _fact(value)
        if record.exc_info and record.exc_info[1] is not None:
            line |= failure(record.exc_info[1])
        return json.dumps(line)


def failure(error: BaseException) -> dict[str, object]:
    """Return what may be logged of an exception: its type and place, not its message."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "where": where}


def configure(level: str) -> None:
    """Send every log record of this process to stderr as JSON; call once, at start.

    What nobody caught is logged too, not printed: a traceback ends with a message.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # else the arguments of a record that cannot be are printed
    sys.excepthook = _uncaught
    threading.excepthook = lambda ended: _uncaught(ended.exc_type, ended.exc_value, None)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, _: TracebackType | None
) -> None:
    facts = {"error": kind.__name__} if error is None else failure(error)
    log.critical("process.uncaught", extra=facts)


def _fact(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_fact(item) for item in value]
    return str(value)[:FACT_CHARACTERS]
