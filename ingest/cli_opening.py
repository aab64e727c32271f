"""What commands share: settings, an open ledger, who judges, text that a terminal may show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ingest import env_file
from ingest.settings import ProcessSettings
from store import environ
from store.errors import SettingsInvalid

if TYPE_CHECKING:
    from ingest.backbone import Backbone
    from ingest.judging import PolicyPanel


def read_settings() -> ProcessSettings:
    """Return what the environment says, and ``steersman.env`` where that says nothing.

    Raises
    ------
    SettingsInvalid
        Lists what is wrong, and in which file.
    """
    taken = settings_from_file()
    try:
        return environ.read(ProcessSettings, {**taken, **os.environ})
    except SettingsInvalid as wrong:
        raise env_file.named(wrong, taken) from wrong


def settings_from_file() -> dict[str, str]:
    """Return the values that are taken from ``steersman.env`` in the working directory."""
    return env_file.under_environment(env_file.read_file(), os.environ)


@contextmanager
def opened_backbone() -> Iterator[Backbone]:
    """Yield what a running router stands on."""
    from ingest.backbone import open_backbone  # noqa: PLC0415

    with open_backbone(read_settings(), embedded=False) as backbone:
        yield backbone


def panel_of(backbone: Backbone) -> PolicyPanel:
    """Return who judges, for a command; alerts are left to the sweeper of a running role."""
    from ingest.announce import announce_alert  # noqa: PLC0415
    from ingest.judging import PolicyPanel  # noqa: PLC0415
    from judge.purse import Purse  # noqa: PLC0415
    from online.recorded import load_recorded  # noqa: PLC0415

    here = backbone.settings
    traffic = load_recorded(here.recorded) if here.recorded is not None else None
    ledger, clock = backbone.ledger, backbone.clock
    purse = Purse(ledger, clock, announce=announce_alert, publish=lambda _: None)
    return PolicyPanel(ledger, traffic, here.judges, clock, purse=purse)


def printable(text: str) -> str:
    """Escape what could steer a terminal: keys, ids and bytes are written by strangers."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
