# SPDX-License-Identifier: Apache-2.0
"""RFC 6121 sections 2 and 3: the roster and subscriptions to presence, both ends.

The rules of a server are in `xiot.model.roster` and `xiot.model.presence`; subscriptions are presence stanzas, which
`xiot.server.presence` takes.
"""

from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, SESSION, Context, Extension, Inbound, Load, Session
from xiot.model import presence as subscriptions
from xiot.model import roster as rules
from xiot.model.effects import Effect, Tx
from xiot.schema import Payload, attr, children
from xiot.stanzas import NS_CLIENT, presence

NS = "jabber:iq:roster"
ext = Extension("roster", spec="RFC 6121", features=[])


class Item(Payload, tag=(NS, "item")):
    """A contact (section 2.1.2)."""

    jid: JID = attr()
    name: str = attr(default="")
    subscription: str | None = attr(default=None)
    """none, to, from or both; remove if the contact is to go, or is gone. What else a client says has no effect.

    A server always writes it: there are clients that take no notice of a contact without it.
    """
    ask: str | None = attr(default=None)
    approved: bool = attr(default=False)
    groups: tuple[str, ...] = children(name="group", default=())


class Query(Payload, tag=(NS, "query")):
    """A roster, or changes of it; empty when it asks (section 2.1.1)."""

    ver: str | None = attr(default=None)
    items: tuple[Item, ...] = children(default=())

    def the_item(self) -> Item:
        """Return the only item there may be in a change. Raises StanzaError (section 2.3.3)."""
        if len(self.items) != 1:
            raise StanzaError("bad-request", text="one item at a time")
        return self.items[0]


# ---- a server --------------------------------------------------------------------------------------------


@ext.iq_get(Query, at=ACCOUNT)
def on_get(query: Query, ctx: Context) -> Generator[Load[Any], Any, Query | None]:
    """Give the roster, or nothing if the client has it already (sections 2.1.3 and 2.6); from now on the client gets pushes."""
    owner = _own(ctx)
    ctx.interest(NS)
    seen = int(query.ver) if query.ver is not None and _is_version(query.ver) else None
    items, version = yield from ctx.load(lambda tx: rules.changes_since(tx.roster, str(owner), seen))
    if items is None:
        return None
    return Query(ver=None if query.ver is None else str(version), items=tuple(map(_item, items)))


@ext.iq_set(Query, at=ACCOUNT)
def on_set(query: Query, ctx: Context) -> Generator[Load[Any], Any, None]:
    """Add, change or remove a contact (sections 2.3 to 2.5) and push the change to all interested resources."""
    owner, item = _own(ctx), query.the_item()

    def rule(tx: Tx) -> list[Effect]:
        if item.subscription == "remove":
            return subscriptions.remove(*subscriptions.load(tx, owner, item.jid))
        return rules.set_item(rules.load(tx.roster, owner, item.jid), item.name, item.groups)

    for effect in (yield from ctx.commit(rule)):
        if isinstance(effect, rules.Push):
            ctx.push(JID(effect.owner), changed(effect))
        else:
            ctx.service(subscriptions.Subscriptions).perform([effect])


def changed(push: rules.Push) -> Query:
    """Return what the interested resources are told (section 2.1.6)."""
    item = Item(jid=JID(push.jid), subscription="remove") if push.item is None else _item(push.item)
    return Query(ver=str(push.version), items=(item,))


def _own(ctx: Context) -> JID:
    """Return the account, which must be the sender's: a roster is nobody else's business (sections 2.1.5 and 2.3.3)."""
    if ctx.account != ctx.sender.bare:
        raise StanzaError("forbidden")
    return ctx.sender.bare


def _is_version(ver: str) -> bool:
    return ver.isascii() and ver.isdigit() and len(ver) < 19  # what we gave out; anything else is of another server


def _item(item: rules.RosterItem) -> Item:
    return Item(
        jid=JID(item.jid),
        name=item.name,
        subscription=item.subscription,
        ask="subscribe" if item.ask else None,
        approved=item.approved,
        groups=tuple(sorted(item.groups)),
    )


# ---- a client --------------------------------------------------------------------------------------------


class Roster:
    """The contacts of our account, kept up to date by the pushes of our server."""

    def __init__(self, items: Iterable[Item] = (), version: str | None = None) -> None:
        """Start with what was kept from the last session, if anything; `version` is that of `items`."""
        self.items = {item.jid: item for item in items}
        self.version = version

    def replace(self, query: Query) -> None:
        """Take the roster as a whole."""
        self.items = {item.jid: item for item in query.items}
        self.version = query.ver

    def apply(self, item: Item, version: str | None) -> None:
        """Take one change."""
        if item.subscription == "remove":
            self.items.pop(item.jid, None)
        else:
            self.items[item.jid] = item
        self.version = version


@ext.iq_set(Query, at=SESSION)
def on_push(query: Query, ctx: Inbound) -> None:
    """Take a change of our roster, from our own server only; a push of anybody else is an attack (section 2.1.6)."""
    if ctx.sender != ctx.to.bare:
        raise StanzaError("service-unavailable")
    item = query.the_item()
    with suppress(LookupError):  # a client that keeps no roster acknowledges the push all the same
        ctx.service(Roster).apply(item, query.ver)


async def fetch(session: Session, roster: Roster) -> None:
    """Bring `roster` up to date, and have our server push changes from now on (section 2.2). Raises as `Session.request`."""
    answer = await session.request("get", Query(ver=roster.version or ""))
    if answer is not None:  # else nothing has changed since (section 2.6.3)
        roster.replace(Query.from_element(answer))


async def set_item(session: Session, jid: JID, name: str = "", groups: Iterable[str] = ()) -> None:
    """Add the contact `jid`, or change its name and groups (sections 2.3 and 2.4). Raises as `Session.request`."""
    await session.request("set", Query(items=(Item(jid=jid, name=name, groups=tuple(groups)),)))


async def remove(session: Session, jid: JID) -> None:
    """Remove the contact `jid` (section 2.5). Raises as `Session.request`, ``item-not-found`` if there is none."""
    await session.request("set", Query(items=(Item(jid=jid, subscription="remove"),)))


async def subscribe(session: Session, jid: JID, status: str | None = None) -> None:
    """Ask `jid` to let us see its presence; `status` is shown with the request (section 3.1.1). Raises as `Session.send`.

    The answer comes as a presence, and as a push of the roster.
    """
    children = () if status is None else (Element(f"{{{NS_CLIENT}}}status", None, status),)
    await session.send(presence(*children, type="subscribe", to=jid.bare))


async def unsubscribe(session: Session, jid: JID) -> None:
    """Do not see the presence of `jid` any more, or take back that we asked (section 3.3.1). Raises as `Session.send`."""
    await session.send(presence(type="unsubscribe", to=jid.bare))


async def approve(session: Session, jid: JID) -> None:
    """Let `jid` see our presence, now that it has asked, or once it asks (sections 3.1.4 and 3.4.1). Raises as `Session.send`."""
    await session.send(presence(type="subscribed", to=jid.bare))


async def refuse(session: Session, jid: JID) -> None:
    """Do not let `jid` see our presence, although it asks, sees it already, or was approved (section 3.2.1). Raises as `Session.send`."""
    await session.send(presence(type="unsubscribed", to=jid.bare))
