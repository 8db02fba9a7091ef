# SPDX-License-Identifier: Apache-2.0
"""Resource binding, both ends (RFC 6120 section 7), and the session request that RFC 3921 wanted after it."""

from __future__ import annotations

from xiot.core import JID, Element, JidError, Stanza
from xiot.errors import StanzaError
from xiot.stanzas import iq, read_error, reply_to

NS = "urn:ietf:params:xml:ns:xmpp-bind"
NS_SESSION = "urn:ietf:params:xml:ns:xmpp-session"

FEATURE = f"<bind xmlns='{NS}'/><session xmlns='{NS_SESSION}'><optional/></session>".encode()
"""``<session/>`` is for clients of RFC 3921, which will not go on without it."""


def request(id: str, resource: str | None) -> Element:
    """Return the client's iq; None leaves the resource to the server."""
    children = () if resource is None else (Element(f"{{{NS}}}resource", None, resource),)
    return iq("set", Element(f"{{{NS}}}bind", None, None, *children), id=id)


def is_request(stanza: Stanza) -> bool:
    """Return whether `stanza` asks for a resource."""
    return (stanza.name, stanza.type, stanza.payload) == ("iq", "set", (NS, "bind"))


def is_session_request(stanza: Stanza) -> bool:
    """Return whether `stanza` asks for a session (RFC 3921 section 3): a formality, once there is a resource."""
    return (stanza.name, stanza.type, stanza.payload) == ("iq", "set", (NS_SESSION, "session"))


def parse_request(stanza: Stanza, owner: JID) -> str | None:
    """Return the resource that the client of `owner` asks for, prepared; None if it leaves that to the server.

    Raises StanzaError (``bad-request``) if it cannot be one (section 7.7.2.1) or the iq has no id (section 8.1.3).
    """
    child = stanza.element.find(f"{{{NS}}}bind")
    text = None if child is None else child.findtext(f"{{{NS}}}resource")
    if not stanza.id:
        raise StanzaError("bad-request", text="an iq has an id")
    if not text:
        return None
    try:
        return owner.with_resource(text).resource
    except JidError:
        raise StanzaError("bad-request", text="this cannot be a resource") from None


def result(stanza: Stanza, jid: JID) -> Element:
    """Return the server's answer to the request `stanza`."""
    return reply_to(stanza, Element(f"{{{NS}}}bind", None, None, Element(f"{{{NS}}}jid", None, str(jid))))


def parse_result(answer: Element) -> JID:
    """Return the full JID that the server chose. Raises StanzaError if it refuses, or makes no sense."""
    if answer.get("type") != "result":
        raise read_error(answer)
    child = answer.find(f"{{{NS}}}bind")
    try:
        jid = JID("" if child is None else child.findtext(f"{{{NS}}}jid", ""))
    except JidError:
        jid = None
    if jid is None or jid.is_bare:
        raise StanzaError("undefined-condition", text="the server bound no full JID")
    return jid
