# SPDX-License-Identifier: Apache-2.0
"""XEP-0160: Best Practices for Handling Offline Messages. The rules are in `xiot.model.offline`."""

from datetime import datetime

from _xmppcore import JID, Element, XmlError
from xiot.errors import StanzaError
from xiot.ext import HOST, Extension
from xiot.stanzas import NS_CLIENT, reread, same_jid
from xiot.xep.delay import NS as NS_DELAY
from xiot.xep.delay import Delay

NS_CHAT_STATES = "http://jabber.org/protocol/chatstates"
NS_HINTS = "urn:xmpp:hints"
ext = Extension("offline", spec="XEP-0160", version="1.0.1", features=["msgoffline"], needs=["delay"], at=HOST)


def storable(message: Element) -> bool:
    """Whether a message is worth keeping (section 3): chat and normal, but what says only that somebody types.

    Its sender has the last word: ``<no-store/>`` and ``<store/>`` of XEP-0334 (sections 4.2 and 4.4).
    """
    if message.get("type") in ("error", "groupchat", "headline"):
        return False
    if message.find(f"{{{NS_HINTS}}}no-store") is not None:
        return False
    if message.find(f"{{{NS_HINTS}}}store") is not None:
        return True
    small = {(NS_CLIENT, "thread")}
    content = [child for child in message if child.ns != NS_HINTS and (child.ns, child.name) not in small]
    return not (content and all(child.ns == NS_CHAT_STATES for child in content))


def kept(message: Element, host: str, now: datetime) -> bytes:
    """Return `message` as it is to be delivered later, with a note that `host` has kept it since `now` (section 2).

    Notes that claim to be of `host` are removed: nobody else writes them (XEP-0203 section 5). Raises StanzaError
    (policy-violation) if it could not be read again: nobody must be kept from his messages by one of them.
    """
    for delay in message.findall(f"{{{NS_DELAY}}}delay"):
        if same_jid(delay.get("from"), JID(host)):
            message.remove(delay)
    message.append(Delay(from_=host, stamp=now).to_element())
    octets = message.tobytes(NS_CLIENT)
    try:
        reread(octets)
    except XmlError as error:
        raise StanzaError("policy-violation", text="this message is too complex to be kept") from error
    return octets
