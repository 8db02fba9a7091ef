# SPDX-License-Identifier: Apache-2.0
"""One file per specification, with what a server and what a client does of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xiot.ext import Extension

STANDARD = (
    "altconnections",
    "bind2",
    "binding",
    "blocking",
    "caps",
    "carbons",
    "chatstates",
    "contact",
    "control",
    "correction",
    "csi",
    "datetimes",
    "delay",
    "disco",
    "downgrade",
    "entitytime",
    "exi",
    "external",
    "fast",
    "forms",
    "forward",
    "hints",
    "last",
    "limits",
    "markers",
    "offline",
    "ping",
    "private",
    "pubsub",
    "receipts",
    "register",
    "roster",
    "rsm",
    "sasl2",
    "sensordata",
    "sm",
    "stanzaid",
    "validation",
    "vcard",
    "version",
)
"""The files of this package that hold an Extension, in alphabetical order."""


def standard() -> list[Extension]:
    """Return the Extensions that come with xiot, ordered by name; a host picks from them by its configuration."""
    return [import_module(f"{__name__}.{name}").ext for name in STANDARD]
