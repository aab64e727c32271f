"""The command line in this process, which has paid for the imports."""

from __future__ import annotations

import contextlib
import io
import sys
from unittest import mock

import pytest

from ingest import cli


def run(*arguments: str) -> tuple[int, str]:
    """Run ``steersman <arguments>``; return its status and what it printed."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["steersman", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    status = ended.value.code
    assert isinstance(status, int)
    return status, said.getvalue()
