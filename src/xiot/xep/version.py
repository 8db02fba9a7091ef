# SPDX-License-Identifier: Apache-2.0
"""XEP-0092: Software Version, both ends."""

from _xmppcore import JID
from xiot.ext import HOST, SESSION, Extension, Inbound, Session
from xiot.schema import Payload, child

NS = "jabber:iq:version"
ext = Extension("version", spec="XEP-0092", version="1.1", features=[NS])


class Version(Payload, tag=(NS, "query")):
    """What a software is; empty when it asks (section 3)."""

    name: str | None = child(default=None)
    version: str | None = child(default=None)
    os: str | None = child(default=None)
    """Left out unless the operator wants it shown: it helps attackers (section 5)."""


@ext.iq_get(Version, at=HOST | SESSION)
def on_get(_: Version, ctx: Inbound) -> Version:
    """Answer with the `Version` that the host or client was built with."""
    return ctx.service(Version)


async def version(session: Session, to: JID | str) -> Version:
    """Ask `to`, such as our server's domain, what software it is. Raises as `Session.request`."""
    return Version.from_element(await session.request("get", Version(), to=to))
