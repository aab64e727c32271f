"""What a process prints when something fails: types and places, never messages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WHISPER = "whispered-prompt-text"
FAILURES = {
    "in a thread": "thread = threading.Thread(target=fail); thread.start(); thread.join()",
    "at the top": "fail()",
    "in a task nobody waits for": """
async def hurried():
    task = asyncio.ensure_future(asyncio.to_thread(fail))
    await asyncio.wait([task])
    del task

asyncio.run(hurried())
""",
    "in a call of the loop": """
async def hurried():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)

asyncio.run(hurried())
""",
    "and is logged": """
try:
    fail()
except ValueError:
    logging.getLogger("x").exception("it.failed")
""",
}


def printed(failing: str) -> list[dict[str, object]]:
    """Run a program and return what it logged; the text reaches it over stdin."""
    program = f"""
import asyncio, logging, sys, threading
from ingest import logs
logs.configure("DEBUG")
text = sys.stdin.read()

def fail():
    raise ValueError(text)

logging.getLogger("x").debug("is.on")
{failing}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=WHISPER, capture_output=True, text=True, check=False
    )
    assert WHISPER not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["event"] == "is.on"
    return lines


@pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_logged_without_its_message(failing: str) -> None:
    last = printed(failing)[-1]
    assert last["error"] == "ValueError"
    assert "fail" in str(last["where"])


def test_what_cannot_be_logged_is_not_printed_instead() -> None:
    assert len(printed("logging.getLogger('x').warning('%d prompts', text)")) == 1
