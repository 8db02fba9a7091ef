# SPDX-License-Identifier: Apache-2.0
"""Bind 2, both ends: a resource within the login (XEP-0386)."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xiot.core import JID, Element, JidError

NS = "urn:xmpp:bind:0"

ID_BYTES = 12
"""Of the part of a resource that we choose: nobody guesses 96 bits, and it is 16 characters."""


@dataclass(frozen=True, slots=True)
class Request:
    """``<bind/>`` of a client."""

    tag: str | None = None
    inline: tuple[Element, ...] = ()
    """Features to be turned on for the new session."""


def feature(offers: Iterable[str]) -> Element:
    """Return what is offered within SASL2: `offers` are the features that can be asked for (section 3.1)."""
    listed = [Element(f"{{{NS}}}feature", {"var": name}) for name in offers]
    return Element(f"{{{NS}}}bind", None, None, *([Element(f"{{{NS}}}inline", None, None, *listed)] if listed else []))


def parse_feature(inline: Element | None) -> tuple[str, ...] | None:
    """Return the features that can be asked for; None if Bind 2 is not offered."""
    offer = None if inline is None else inline.find(f"{{{NS}}}bind")
    listed = None if offer is None else offer.find(f"{{{NS}}}inline")
    if offer is None:
        return None
    return () if listed is None else tuple(child.get("var", "") for child in listed if child.name == "feature")


def parse_request(element: Element) -> Request:
    """Read a client's ``<bind/>``."""
    return Request(element.findtext(f"{{{NS}}}tag"), tuple(child for child in element if child.ns != NS))


def render_request(tag: str, inline: Sequence[Element]) -> Element:
    """Return the client's ``<bind/>``."""
    return Element(f"{{{NS}}}bind", None, None, Element(f"{{{NS}}}tag", None, tag), *inline)


def bound(results: Iterable[Element]) -> Element:
    """Return the server's answer."""
    return Element(f"{{{NS}}}bound", None, None, *results)


def full_jid(account: JID, tag: str | None, client: str | None, secret: bytes) -> JID:
    """Return the full JID for a client of `account`: the same for the same `tag` and id of the user agent, `client`.

    The id cannot be told from it without `secret` (section 3.2.1). A tag that a resource cannot begin with is left out.
    """
    if client is None:
        chosen = secrets.token_bytes(ID_BYTES)
    else:
        text = "\0".join(("resource", str(account), tag or "", client))
        chosen = hmac.digest(secret, text.encode(), "sha256")[:ID_BYTES]
    id = urlsafe_b64encode(chosen).decode()
    if tag:
        try:
            return account.with_resource(f"{tag}/{id}")
        except JidError:
            pass
    return account.with_resource(id)
