# SPDX-License-Identifier: Apache-2.0
"""The bytes around the stanzas: stream header, stream error, closing tag (RFC 6120 sections 4.2, 4.4 and 4.9)."""

from __future__ import annotations

import re

from xiot.core import Element
from xiot.errors import STREAM_ERRORS, StreamError

NS = "http://etherx.jabber.org/streams"
NS_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

CLOSE = b"</stream:stream>"
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
_VERSION = re.compile(r"([0-9]{1,9})\.[0-9]{1,9}")

_SPECIAL = re.compile("[&<>'\"]")
_NAMES = {"from_": "from", "lang": "xml:lang"}
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})


def open_stream(content_ns: str, **attributes: str | None) -> bytes:
    """Return the XML declaration and the header; attributes that are None are left out, ``from_`` stands for ``from``.

    Their values have no control characters: they are JIDs, ids of ours, and what `language` let through.
    """
    written = f"<?xml version='1.0'?><stream:stream xmlns='{content_ns}' xmlns:stream='{NS}' version='1.0'"
    for name, value in attributes.items():
        if value is not None:
            text = value.translate(_ESCAPES) if _SPECIAL.search(value) else value
            written += f" {_NAMES.get(name, name)}='{text}'"
    return f"{written}>".encode()


def language(tag: str | None, default: str = "en") -> str:
    """Return the peer's language tag, to echo it; `default` if it gave none or one of no plausible form (RFC 5646)."""
    return tag if tag and len(tag) <= 35 and _LANGUAGE.fullmatch(tag) else default


def supports_version(version: str | None) -> bool:
    """Return whether a peer of this ``version`` speaks XMPP 1.0: it is compared as numbers (section 4.7.5)."""
    if version == "1.0":
        return True
    match = _VERSION.fullmatch(version or "")
    return match is not None and int(match[1]) >= 1


def render_error(error: StreamError) -> bytes:
    """Return ``<stream:error/>``. For ``see-other-host``, `text` is the host (section 4.9.3.19)."""
    condition = Element(f"{{{NS_ERRORS}}}{error.condition}")
    children = [condition]
    if error.condition == "see-other-host":
        condition.text = error.text
    elif error.text is not None:
        children.append(Element(f"{{{NS_ERRORS}}}text", {XML_LANG: "en"}, error.text))
    if error.app is not None:
        children.append(error.app)
    return b"<stream:error>" + b"".join(child.tobytes() for child in children) + b"</stream:error>"


def parse_error(element: Element) -> StreamError:
    """Return what the peer's ``<stream:error/>`` says; a condition unknown to us is ``undefined-condition``."""
    condition, text, app = "undefined-condition", element.findtext(f"{{{NS_ERRORS}}}text"), None
    for child in element:
        if child.ns != NS_ERRORS:
            app = child
        elif child.name in STREAM_ERRORS:
            condition = child.name
            text = child.text if condition == "see-other-host" else text
    return StreamError(condition, text, app)
