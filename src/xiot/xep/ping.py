# SPDX-License-Identifier: Apache-2.0
"""XEP-0199: XMPP Ping, both ends."""

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, SESSION, Extension, Inbound, Session
from xiot.schema import Payload

NS = "urn:xmpp:ping"
ext = Extension("ping", spec="XEP-0199", version="2.0.1", features=[NS])


class Ping(Payload, tag=(NS, "ping")):
    """``<ping/>``: no attributes, no children (section 10)."""


@ext.iq_get(Ping, at=HOST | ACCOUNT | SESSION)
def pong(_: Ping, ctx: Inbound) -> None:
    """Answer with an empty result (section 4)."""


async def ping(
    session: Session,
    to: JID | str | None = None,
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - that of the request
) -> float:
    """Measure the round trip to `to` (our server if None), in seconds.

    The refusal of a peer that does not know pings, ``service-unavailable``, is an answer too (section 4.2). Raises
    StanzaError for any other error, TimeoutError if nothing comes within `timeout` seconds, LinkError.
    """
    start = session.now()
    try:
        await session.request("get", Ping(), to=to, timeout=timeout)
    except StanzaError as err:
        if err.condition != "service-unavailable":
            raise
    return session.now() - start
