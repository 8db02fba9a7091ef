# SPDX-License-Identifier: Apache-2.0
"""XEP-0030: Service Discovery, both ends, with the forms of XEP-0128."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, SESSION, Context, Extension, Inbound, Load, Scope, Session
from xiot.schema import Payload, attr, child, children
from xiot.xep.forms import Form
from xiot.xep.rsm import Page

NS_INFO = "http://jabber.org/protocol/disco#info"
NS_ITEMS = "http://jabber.org/protocol/disco#items"
ext = Extension("disco", spec="XEP-0030", version="2.5.0", features=[NS_INFO, NS_ITEMS], needs=["forms", "rsm"])


class Identity(Payload, tag=(NS_INFO, "identity")):
    """What an entity is (section 3.1), in the terms of the registrar: ``server`` / ``im``, ``pubsub`` / ``service``."""

    category: str = attr()
    type: str = attr()
    name: str | None = attr(default=None)
    lang: str | None = attr(name="{http://www.w3.org/XML/1998/namespace}lang", default=None)


class Feature(Payload, tag=(NS_INFO, "feature")):
    """Something an entity can do, as a namespace or a registered name."""

    var: str = attr()


class Info(Payload, tag=(NS_INFO, "query")):
    """What an entity, or one of its nodes, is and can do; empty when it asks."""

    node: str | None = attr(default=None)
    identities: tuple[Identity, ...] = children(default=())
    features: tuple[Feature, ...] = children(default=())
    forms: tuple[Form, ...] = children(default=())
    """Further information by FORM_TYPE (XEP-0128)."""

    def can(self, var: str) -> bool:
        """Return whether the feature `var` is among them."""
        return any(feature.var == var for feature in self.features)


class Item(Payload, tag=(NS_ITEMS, "item")):
    """Something that belongs to an entity and can itself be asked (section 4.1)."""

    jid: JID = attr()
    node: str | None = attr(default=None)
    name: str | None = attr(default=None)


class Items(Payload, tag=(NS_ITEMS, "query")):
    """What belongs to an entity, or to one of its nodes; empty when it asks."""

    node: str | None = attr(default=None)
    items: tuple[Item, ...] = children(default=())
    page: Page | None = child(default=None)
    """Which part of a long list (XEP-0059)."""


InfoOfNode = Callable[[str, Context], Generator[Load[Any], Any, Info]]
ItemsOfNode = Callable[[Items, Context], Generator[Load[Any], Any, Items]]


class Directory:
    """What one host, or one client, tells of itself; made from its extensions when it starts."""

    def __init__(
        self,
        extensions: Iterable[Extension],
        *,
        identities: Sequence[Identity] = (),
        items: Sequence[Item] = (),
        forms: Sequence[Form] = (),
        info_of_node: InfoOfNode | None = None,
        items_of_node: ItemsOfNode | None = None,
    ) -> None:
        """Take identities and features from `extensions`, and from the caller what no extension knows.

        `identities` are those of the host or client itself, such as ``server`` / ``im``; `items` are the services of a
        host, `forms` what else it tells of itself (XEP-0128). A service whose nodes can be browsed, such as pubsub, gives `info_of_node` and `items_of_node`; the latter
        is also asked what is at its root.
        """
        self._extensions = tuple(extensions)
        self._own = tuple(identities)
        self._forms = tuple(forms)
        self.node: str | None = None
        """A node that is the host or client itself, by the name of its capabilities (XEP-0115 section 6.2)."""
        self.items = tuple(items)
        self.features: set[str] = set()
        """What is true only for now, such as that there is a thing to read; shown by a client."""
        self.info_of_node = info_of_node
        self.items_of_node = items_of_node

    def info(self, scope: Scope) -> Info:
        """Return what is told at `scope`; for ACCOUNT this includes the identity of an account (section 8)."""
        shown = [extension for extension in self._extensions if scope in extension.scopes]
        identities = [Identity(category="account", type="registered")] if scope is ACCOUNT else [*self._own]
        identities += [Identity(category=e.identity[0], type=e.identity[1]) for e in shown if e.identity is not None]
        own = self.features if scope is SESSION else set()
        features = sorted({feature for extension in shown for feature in extension.features}.union(own))
        return Info(
            identities=tuple(identities),
            features=tuple(Feature(var=var) for var in features),
            forms=() if scope is ACCOUNT else self._forms,
        )

    def own_info(self, query: Info, scope: Scope) -> Info | None:
        """Return what is told of the host, account or client itself if `query` asks for that, None if it asks for a node."""
        if not query.node:
            return self.info(scope)
        return replace(self.info(scope), node=query.node) if query.node == self.node and scope is not ACCOUNT else None


def _may_see(ctx: Context) -> Generator[Load[Any], Any, None]:
    """Let pass whom the account shows its presence; to all others it looks as if there were no account (section 8)."""
    account = ctx.account
    if account is None or ctx.sender.bare == account:
        return
    contact = yield from ctx.load(lambda tx: tx.roster.get(str(account), str(ctx.sender.bare)))
    if contact is None or contact.subscription not in ("from", "both"):
        raise StanzaError("service-unavailable")


@ext.iq_get(Info, at=HOST | ACCOUNT)
def on_info(query: Info, ctx: Context) -> Generator[Load[Any], Any, Info]:
    """Tell what the host, the account or a node is and can do (section 3.1); else ``item-not-found``."""
    yield from _may_see(ctx)
    directory = ctx.service(Directory)
    own = directory.own_info(query, HOST if ctx.account is None else ACCOUNT)
    if own is not None:
        return own
    if directory.info_of_node is None or query.node is None:
        raise StanzaError("item-not-found")
    return (yield from directory.info_of_node(query.node, ctx))


@ext.iq_get(Items, at=HOST | ACCOUNT)
def on_items(query: Items, ctx: Context) -> Generator[Load[Any], Any, Items]:
    """Tell what belongs to the host, the account or a node (section 4.1); else ``item-not-found``."""
    yield from _may_see(ctx)
    directory = ctx.service(Directory)
    if directory.items_of_node is not None:
        return (yield from directory.items_of_node(query, ctx))
    if query.node:
        raise StanzaError("item-not-found")
    if ctx.account is not None:
        return Items(items=tuple(Item(jid=jid) for jid in ctx.resources(ctx.account)))
    return Items(items=directory.items)


@ext.iq_get(Info, at=SESSION)
def on_own_info(query: Info, ctx: Inbound) -> Info:
    """Tell what this client or thing is."""
    own = ctx.service(Directory).own_info(query, SESSION)
    if own is None:
        raise StanzaError("item-not-found")
    return own


@ext.iq_get(Items, at=SESSION)
def on_own_items(query: Items, ctx: Inbound) -> Items:
    """Tell what belongs to this client or thing."""
    if query.node:
        raise StanzaError("item-not-found")
    return Items(items=ctx.service(Directory).items)


async def info(session: Session, to: JID | str | None = None, node: str | None = None) -> Info:
    """Ask what `to` (our account if None), or its `node`, is and can do. Raises as `Session.request`."""
    return Info.from_element(await session.request("get", Info(node=node), to=to))


async def items(session: Session, to: JID | str | None = None, node: str | None = None) -> tuple[Item, ...]:
    """Ask what belongs to `to` (our account if None), or to its `node`. Raises as `Session.request`."""
    return Items.from_element(await session.request("get", Items(node=node), to=to)).items
