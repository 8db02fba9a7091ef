# SPDX-License-Identifier: Apache-2.0
"""FAST, both ends: logging in again by a token, in one round trip (XEP-0484, by the HT mechanisms).

A token belongs to one account, one client (the id of its user agent) and one mechanism. HT is: the client sends its
name and ``HMAC(token, "Initiator" + binding)``, the server answers ``HMAC(token, "Responder" + binding)``.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from xiot.core import Element
from xiot.errors import AuthError

NS = "urn:xmpp:fast:0"

BINDINGS = {"HT-SHA-256-ENDP": "tls-server-end-point", "HT-SHA-256-NONE": None}
"""Mechanism to its type of channel binding, best first. EXPR needs an exporter; UNIQ is broken in TLS 1.3."""

MAX_COUNT = 2**31 - 1
"""The schema's int."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a client keeps."""

    mechanism: str
    token: str = field(repr=False)
    expiry: str
    """As the server wrote it (XEP-0082)."""
    count: int = 0
    """Logins tried with it."""


@dataclass(frozen=True, slots=True)
class Request:
    """``<fast/>`` of a client: it logs in by a token."""

    count: int | None = None
    invalidate: bool = False


def usable(bindings: Collection[str]) -> list[str]:
    """Return the mechanisms that work with these types of channel binding, best first."""
    return [name for name, binding in BINDINGS.items() if binding is None or binding in bindings]


def binding_data(mechanism: str, bindings: Mapping[str, bytes]) -> bytes:
    """Return what `mechanism` is bound to."""
    binding = BINDINGS[mechanism]
    return b"" if binding is None else bindings[binding]


def initiator(token: str, binding: bytes) -> bytes:
    """Return the client's proof."""
    return hmac.digest(token.encode(), b"Initiator" + binding, "sha256")


def responder(token: str, binding: bytes) -> bytes:
    """Return the server's proof."""
    return hmac.digest(token.encode(), b"Responder" + binding, "sha256")


def feature(mechanisms: Iterable[str]) -> Element:
    """Return what is offered within SASL2 (section 3.1)."""
    return Element(f"{{{NS}}}fast", None, None, *(Element(f"{{{NS}}}mechanism", None, name) for name in mechanisms))


def parse_feature(inline: Element | None) -> list[str]:
    """Return the mechanisms offered."""
    offer = None if inline is None else inline.find(f"{{{NS}}}fast")
    return [] if offer is None else [child.text or "" for child in offer if child.name == "mechanism"]


def parse_request(element: Element) -> Request:
    """Read a client's ``<fast/>``. Raises AuthError."""
    count, invalidate = element.get("count"), element.get("invalidate", "false")
    if count is not None and not (re.fullmatch("[0-9]{1,10}", count, re.ASCII) and 0 < int(count) <= MAX_COUNT):
        raise AuthError("malformed-request", "count is a positive integer")
    if invalidate not in ("true", "1", "false", "0"):
        raise AuthError("malformed-request", "invalidate is true or false")
    return Request(None if count is None else int(count), invalidate in ("true", "1"))


def render_request(token: Token) -> Element:
    """Return ``<fast/>`` for the next login by `token`, whose `count` has been raised."""
    return Element(f"{{{NS}}}fast", {"count": str(token.count)})


def render_wish(mechanism: str) -> Element:
    """Return the client's wish for a token (section 3.2)."""
    return Element(f"{{{NS}}}request-token", {"mechanism": mechanism})


def render_token(token: Token) -> Element:
    """Return the server's token (section 3.3)."""
    return Element(f"{{{NS}}}token", {"token": token.token, "expiry": token.expiry})


def parse_token(element: Element, mechanism: str) -> Token | None:
    """Read the server's token, which is for `mechanism`; None if it makes no sense."""
    token, expiry = element.get("token"), element.get("expiry")
    return Token(mechanism, token, expiry) if token and expiry else None
