# SPDX-License-Identifier: Apache-2.0
"""XMPP for the Internet of Things: `connect` a device or an app, publish a `reading`, subscribe to others.

Names are imported when first used, so that a device never loads a part of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _xmppcore import JID, Element, JidError, XmlError
    from xiot.client import Client, NotDurable, connect
    from xiot.errors import AuthError, LinkError, StanzaError, StreamError, XiotError
    from xiot.iot.thing import Thing
    from xiot.model.reading import Field, Reading, reading

_ROOMS = {
    "JID": "_xmppcore",
    "Element": "_xmppcore",
    "JidError": "_xmppcore",
    "XmlError": "_xmppcore",
    "AuthError": "xiot.errors",
    "LinkError": "xiot.errors",
    "StanzaError": "xiot.errors",
    "StreamError": "xiot.errors",
    "XiotError": "xiot.errors",
    "Thing": "xiot.iot.thing",
    "Client": "xiot.client",
    "NotDurable": "xiot.client",
    "connect": "xiot.client",
    "Field": "xiot.model.reading",
    "Reading": "xiot.model.reading",
    "reading": "xiot.model.reading",
}

__all__ = [
    "JID",
    "AuthError",
    "Client",
    "Element",
    "Field",
    "JidError",
    "LinkError",
    "NotDurable",
    "Reading",
    "StanzaError",
    "StreamError",
    "Thing",
    "XiotError",
    "XmlError",
    "connect",
    "reading",
]


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'xiot' has no attribute {name!r}")
    value: object = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
