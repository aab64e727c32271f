"""What the soak looks at: memory of each process, lengths of queues, sizes of tables."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psycopg

Sample = dict[str, float]
PAGE = 4096
_QUEUES = {
    "outbox_unmarked": "SELECT count(*) FROM outbox WHERE published_at IS NULL",
    "judge_tasks_open": "SELECT count(*) FROM judge_tasks WHERE status IN ('pending', 'leased')",
    "awaited_labels": "SELECT count(*) FROM awaited_labels",
    "parked_responses": "SELECT count(*) FROM parked_responses",
}
_TOTALS = {
    "decided": "SELECT count(*) FROM decisions",
    "answered": "SELECT count(*) FROM responses",
    "labels": "SELECT count(*) FROM labels",
    "states": "SELECT count(*) FROM routing_states",
}
_SIZES = """
    SELECT coalesce(i.inhparent::regclass, c.oid::regclass)::text,
           sum(pg_total_relation_size(c.oid))
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
    GROUP BY 1
"""
_LAG = re.compile(r"^steersman_stream_lag\{.*\} (\S+)$", re.MULTILINE)
_SPOOLED = re.compile(r"^steersman_spooled_decisions (\S+)$", re.MULTILINE)


def memory(processes: Mapping[str, int]) -> Sample:
    """Return the resident bytes of each process by its name."""
    found = {}
    for name, pid in processes.items():
        resident = Path(f"/proc/{pid}/statm").read_text().split()[1]
        found[f"rss_{name}"] = float(int(resident) * PAGE)
    return found


def family(pid: int) -> Sample:
    """Return the bytes that PostgreSQL's processes hold together, shared pages counted once."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if pid in {parent, int(entry.name)}:
                rollup = (entry / "smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0]) * 1024
        except (OSError, IndexError):  # it has ended
            continue
    return {"pss_postgres": float(total)}


def ledger(connection: psycopg.Connection, *, sent: int) -> Sample:
    """Return the lengths of the queues, how far each step has come, and the tables' sizes."""
    found: Sample = {"sent": float(sent)}
    for name, query in (_QUEUES | _TOTALS).items():
        row = connection.execute(query.encode()).fetchone()
        found[name] = float(row[0]) if row else 0.0
    found["undecided"] = max(0.0, sent - found["decided"])
    found["unanswered"] = found["decided"] - found["answered"]
    sizes = connection.execute(_SIZES.encode()).fetchall()
    found |= {f"bytes_{name}": float(size) for name, size in sizes}
    return found


def serving(port: int) -> Sample:
    """Return what the serving process says of the stream's lag and of its spool."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as reply:
            text = reply.read().decode()
    except OSError:
        return {}
    found = {"prompts_lag": sum(map(float, _LAG.findall(text)))}
    if spooled := _SPOOLED.findall(text):
        found["spooled"] = float(spooled[0])
    return found


QUEUES = (*_QUEUES, "undecided", "unanswered", "prompts_lag", "spooled")
"""What must not grow."""
