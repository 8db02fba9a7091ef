# SPDX-License-Identifier: Apache-2.0
"""XEP-0077: In-Band Registration of accounts with a server, both ends.

Creating an account comes before login, so there is no session and no dispatch: the stream stage of a server hands the
iq to `before_login`. Changing the password and cancelling are ordinary requests of a logged-in account.
"""

from _xmppcore import JID, Element, JidError, Stanza
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Context, Extension, Session
from xiot.schema import Payload, child, flag
from xiot.stanzas import error_to, reply_to

NS = "jabber:iq:register"
NS_FEATURE = "http://jabber.org/features/iq-register"
ext = Extension("register", spec="XEP-0077", version="2.4", features=[NS])


class StreamFeature(Payload, tag=(NS_FEATURE, "register")):
    """What a server that takes registrations puts into its stream features before login (section 8)."""


class Query(Payload, tag=(NS, "query")):
    """Registration data; empty when it asks for the fields. An empty string is a field to be filled in."""

    instructions: str | None = child(default=None)
    registered: bool = flag(default=False)
    username: str | None = child(default=None)
    password: str | None = child(default=None, secret=True)
    remove: bool = flag(default=False)


FIELDS = Query(instructions="Choose a username and a password.", username="", password="")


class Registrar:
    """What registration needs of its host, which derives its own; this one refuses everything.

    Each method may raise StanzaError, which is the reply.
    """

    async def create(self, jid: JID, password: str) -> None:
        """Make the account `jid`.

        ``conflict`` if there is one, ``not-acceptable`` if policy forbids the name, the password or so many accounts.
        """
        raise StanzaError("not-allowed")

    async def set_password(self, jid: JID, password: str) -> None:
        """Replace what the account `jid` logs in with. ``not-acceptable`` if policy forbids the password."""
        raise StanzaError("not-allowed")

    async def remove(self, jid: JID) -> None:
        """Remove the account `jid` with all that belongs to it; its sessions go on until `end_sessions`."""
        raise StanzaError("not-allowed")

    async def end_sessions(self, jid: JID) -> None:
        """End all streams of the account `jid` with the stream error ``not-authorized`` (section 3.2)."""


async def before_login(stanza: Stanza, host: str, registrar: Registrar) -> Element:
    """Answer the iq of a stream of `host` that has not logged in: with the fields to fill in, or by making the account.

    Returns the result. Raises StanzaError: ``not-acceptable`` if a field is missing, empty or no localpart,
    ``unexpected-request`` if an account is to be removed, ``bad-request``, and what `Registrar.create` raises.
    """
    query = Query.from_element(next(iter(stanza.element), None))
    if stanza.type == "get":
        return reply_to(stanza, FIELDS.to_element())
    if query.remove:
        raise StanzaError("unexpected-request")
    if not query.username or not query.password:
        raise StanzaError("not-acceptable", text="username and password are required")
    try:
        jid = JID.of(query.username, host)
    except JidError:
        raise StanzaError("not-acceptable", text="this cannot be a username") from None
    await registrar.create(jid, query.password)
    return reply_to(stanza)


def refusal(stanza: Stanza, error: StanzaError) -> Element | None:
    """Build the answer to what `before_login` refused; it does not repeat the request, which has a password in it."""
    return error_to(stanza, error)


def _own(ctx: Context) -> JID:
    """Return the account of the sender, whom this host must know and who must mean itself."""
    me = ctx.sender.bare
    if me.local is None or me.domain != ctx.host or ctx.account not in (None, me):
        raise StanzaError("forbidden")
    return me


@ext.iq_get(Query, at=HOST | ACCOUNT)
def on_get(_: Query, ctx: Context) -> Query:
    """Tell a logged-in account that it is registered, and as what (section 3.1)."""
    return Query(registered=True, username=_own(ctx).local, password="")


@ext.iq_set(Query, at=HOST | ACCOUNT)
async def on_set(query: Query, ctx: Context) -> None:
    """Change the password (section 3.3) or remove the account (section 3.2) of the sender."""
    me = _own(ctx)
    registrar = ctx.service(Registrar)
    if query.remove:
        if query != Query(remove=True):
            raise StanzaError("bad-request", text="remove stands alone")
        await registrar.remove(me)
        ctx.reply(None)  # before its stream ends
        await registrar.end_sessions(me)
        return
    if not query.username or not query.password:
        raise StanzaError("bad-request", text="username and password are required")
    try:
        named = JID.of(query.username, ctx.host)
    except JidError:
        named = None
    if named != me:
        raise StanzaError("not-allowed", text="that is not your username")
    await registrar.set_password(me, query.password)


async def change_password(session: Session, password: str) -> None:
    """Change the password of our account (section 3.3); call it only over TLS. Raises as `Session.request`."""
    await session.request("set", Query(username=session.jid.local, password=password), to=session.jid.domain)


async def cancel(session: Session) -> None:
    """Remove our account with all that belongs to it (section 3.2); the server then ends the stream."""
    await session.request("set", Query(remove=True))
