"""What commands share: the settings, and an open ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ingest.settings import ProcessSettings
from store import environ

if TYPE_CHECKING:
    from ingest.backbone import Backbone


def read_settings() -> ProcessSettings:
    """Return what the environment says; raises ``SettingsInvalid``."""
    return environ.read(ProcessSettings, os.environ)


@contextmanager
def opened_backbone() -> Iterator[Backbone]:
    """Yield what a running router stands on."""
    from ingest.backbone import open_backbone  # noqa: PLC0415

    with open_backbone(read_settings(), embedded=False) as backbone:
        yield backbone
