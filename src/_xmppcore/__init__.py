# SPDX-License-Identifier: Apache-2.0
"""The compiled core of xiot: XML stream parser, JIDs, element trees, router. Sans-IO; usable without trio and without xiot."""

from _xmppcore.element import Element
from _xmppcore.errors import JidError, XmlError
from _xmppcore.jid import JID
from _xmppcore.router import Audience, Link, OutBuf, Router
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamClose, StreamOpen, StreamParser, parse_element

__all__ = [
    "JID",
    "Audience",
    "Element",
    "JidError",
    "Link",
    "OutBuf",
    "Router",
    "Stanza",
    "StreamClose",
    "StreamOpen",
    "StreamParser",
    "XmlError",
    "parse_element",
]
