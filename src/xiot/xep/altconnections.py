# SPDX-License-Identifier: Apache-2.0
"""XEP-0156: Discovering Alternative XMPP Connection Methods: the documents of a host, and how a client reads them.

They are served at ``/.well-known/host-meta`` and ``/.well-known/host-meta.json`` with `HEADERS`.
"""

import json
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from _xmppcore import Element
from xiot.ext import Extension

NS = "http://docs.oasis-open.org/ns/xri/xrd-1.0"
HEADERS = {"Access-Control-Allow-Origin": "*"}
"""Any web page may read the documents (section 3)."""
ext = Extension("altconnections", spec="XEP-0156", version="1.4.0")

Method = Literal["websocket", "xbosh"]

_SCHEMES: dict[Method, str] = {"websocket": "wss", "xbosh": "https"}
_REL = "urn:xmpp:alt-connections:"


class Connection(NamedTuple):
    """A way to connect over HTTP: RFC 7395, or XEP-0206."""

    method: Method
    url: str


def host_meta(connections: Iterable[Connection]) -> bytes:
    """Return the document as XRD, of the type ``application/xrd+xml``. Raises ValueError for an URL without TLS."""
    links = (Element(f"{{{NS}}}Link", link) for link in _links(connections))
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + Element(f"{{{NS}}}XRD", None, None, *links).tobytes()


def host_meta_json(connections: Iterable[Connection]) -> bytes:
    """Return the document as JRD, of the type ``application/json``. Raises ValueError for an URL without TLS."""
    return json.dumps({"links": _links(connections)}).encode()


def read_host_meta_json(data: bytes) -> list[Connection]:
    """Return the connections with TLS in a JRD, which must have come over HTTPS (section 2.2). Raises ValueError."""
    document = json.loads(data)
    links = document.get("links", []) if isinstance(document, dict) else None
    if not isinstance(links, list):
        raise ValueError("not a JRD document")
    return [
        Connection(method, link["href"])
        for link in links
        for method in get_args(Method)
        if isinstance(link, dict) and link.get("rel") == _REL + method and _is_safe(method, link.get("href"))
    ]


def _links(connections: Iterable[Connection]) -> list[dict[str, str]]:
    found = list(connections)
    for method, url in found:
        if not _is_safe(method, url):
            raise ValueError(f"the URL of {method} does not begin with {_SCHEMES[method]}://")
    return [{"rel": _REL + method, "href": url} for method, url in found]


def _is_safe(method: Method, url: object) -> bool:
    if not isinstance(url, str):
        return False
    parts = urlsplit(url)
    return parts.scheme == _SCHEMES[method] and bool(parts.hostname)
