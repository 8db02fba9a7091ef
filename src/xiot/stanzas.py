# SPDX-License-Identifier: Apache-2.0
"""Stanzas as Elements: building them, answering them, and their errors (RFC 6120 section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from _xmppcore import JID, Element, JidError, parse_element
from xiot.errors import STANZA_ERROR_TYPES, StanzaError

if TYPE_CHECKING:
    from _xmppcore import Stanza

NS_CLIENT = "jabber:client"
NS_SERVER = "jabber:server"
NS_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

Address: TypeAlias = JID | str | None
IqType = Literal["get", "set", "result", "error"]
MessageType = Literal["chat", "error", "groupchat", "headline", "normal"]
PresenceType = Literal["error", "probe", "subscribe", "subscribed", "unavailable", "unsubscribe", "unsubscribed"]

_ERROR_TYPES = frozenset(STANZA_ERROR_TYPES.values()) | {"continue"}


def same_jid(address: str | None, jid: JID) -> bool:
    """Return whether `address`, in whatever spelling, is `jid` (RFC 7622 section 3.1): texts of others are compared by nothing else."""
    try:
        return address is not None and JID(address) == jid
    except JidError:
        return False


def iq(
    type: IqType,
    child: Element | None = None,
    *,
    id: str,
    to: Address = None,
    from_: Address = None,
    ns: str = NS_CLIENT,
) -> Element:
    """Build an ``<iq/>``; a get or set has exactly one child, a result at most one (section 8.2.3)."""
    if child is None and type in ("get", "set"):
        raise ValueError(f"an iq {type} has a child")
    return _stanza("iq", type, id, to, from_, ns, () if child is None else (child,))


def message(
    *children: Element,
    type: MessageType | None = None,
    id: str | None = None,
    to: Address = None,
    from_: Address = None,
    ns: str = NS_CLIENT,
) -> Element:
    """Build a ``<message/>``; no type means normal (RFC 6121 section 5.2.2)."""
    return _stanza("message", type, id, to, from_, ns, children)


def presence(
    *children: Element,
    type: PresenceType | None = None,
    id: str | None = None,
    to: Address = None,
    from_: Address = None,
    ns: str = NS_CLIENT,
) -> Element:
    """Build a ``<presence/>``; no type means available (RFC 6121 section 4.7.1)."""
    return _stanza("presence", type, id, to, from_, ns, children)


def reply_to(request: Stanza, child: Element | None = None) -> Element:
    """Build the result of an iq get or set: same id, addresses swapped (RFC 6120 section 8.2.3)."""
    children = () if child is None else (child,)
    return _stanza("iq", "result", request.id, request.from_, request.to, request.ns or NS_CLIENT, children)


def error_to(stanza: Stanza, error: StanzaError) -> Element | None:
    """Build the error that answers `stanza`, or None if it may have no answer.

    An error is never answered by an error, nor is an iq result (RFC 6120 sections 8.3.1 and 8.2.3).
    """
    if stanza.type == "error" or (stanza.name == "iq" and stanza.type == "result"):
        return None
    ns = stanza.ns or NS_CLIENT
    return _stanza(stanza.name, "error", stanza.id, stanza.from_, stanza.to, ns, (error_element(error, ns),))


def error_element(error: StanzaError, ns: str = NS_CLIENT) -> Element:
    """Write `error` as the ``<error/>`` child of a stanza of the namespace `ns` (RFC 6120 section 8.3.2)."""
    el = Element(f"{{{ns}}}error", {"type": error.type}, None, Element(f"{{{NS_ERRORS}}}{error.condition}"))
    if error.text is not None:
        el.append(Element(f"{{{NS_ERRORS}}}text", None, error.text))
    if error.app is not None:
        el.append(error.app)
    return el


def reread(stanza: bytes) -> Element:
    """Read a stanza of ours that was written with the default namespace ``jabber:client``: its limits are wider than a stream's.

    Raises XmlError if it still goes beyond them: what came within limits may be longer when it is written anew.
    """
    return parse_element(stanza, NS_CLIENT, max_bytes=2**30, max_depth=1000, max_attributes=1024)


def read_error(el: Element) -> StanzaError:
    """Read an ``<error/>``, or the one in the stanza `el`; never raises.

    A condition nobody has defined is ``undefined-condition``, a type nobody has defined that of the condition.
    """
    if el.name != "error":
        el = next((child for child in el if child.name == "error"), el)
    condition, text, app = "undefined-condition", None, None
    for child in el:
        if child.ns != NS_ERRORS:
            app = child if app is None else app
        elif child.name == "text":
            text = child.text
        elif child.name in STANZA_ERROR_TYPES:
            condition = child.name
    type = el.get("type")
    return StanzaError(condition, type if type in _ERROR_TYPES else None, text, app)


def _stanza(
    name: str, type: str | None, id: str | None, to: Address, from_: Address, ns: str, children: tuple[Element, ...]
) -> Element:
    attributes = {"to": to, "from": from_, "id": id, "type": type}
    el = Element(f"{{{ns}}}{name}", {key: str(value) for key, value in attributes.items() if value is not None})
    el.extend(children)
    return el
