# SPDX-License-Identifier: Apache-2.0
"""XEP-0049: Private XML Storage, both ends. The rules of a server are in `xiot.model.documents`."""

from collections.abc import Generator
from typing import Any

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Context, Extension, Load, Session
from xiot.model import documents
from xiot.model.documents import Document, Quota
from xiot.model.effects import Effect, Tx
from xiot.schema import Payload, any_children
from xiot.stanzas import NS_CLIENT, reread

NS = "jabber:iq:private"
MAX_ELEMENTS = 64
"""Kept by one request: each is a row to be read and written. Clients send one."""

ext = Extension("private", spec="XEP-0049", version="1.2", features=[NS], at=HOST)


class Query(Payload, tag=(NS, "query")):
    """Elements to be kept, or the empty one that asks for one (section 2)."""

    elements: tuple[Element, ...] = any_children(default=())


@ext.iq_get(Query, at=ACCOUNT)
def on_get(query: Query, ctx: Context) -> Generator[Load[Any], Any, Query]:
    """Give what was kept by the name of the element, or that element as it came (section 2.3)."""
    owner = str(_own(ctx))
    if len(query.elements) != 1:
        raise StanzaError("bad-request", text="ask for one element at a time")
    (asked,) = query.elements
    _check(asked)
    found = yield from ctx.load(lambda tx: tx.documents.get(owner, "private", asked.tag))
    return Query(elements=(asked if found is None else reread(found.data),))


@ext.iq_set(Query, at=ACCOUNT)
def on_set(query: Query, ctx: Context) -> Generator[Load[Any], Any, None]:
    """Keep the elements by their names; an empty one removes what was kept (section 2.3)."""
    owner = str(_own(ctx))
    if not query.elements:
        raise StanzaError("not-acceptable", text="nothing to be kept")
    if len(query.elements) > MAX_ELEMENTS:
        raise StanzaError("policy-violation", text=f"at most {MAX_ELEMENTS} elements at a time")
    kept: dict[str, Document] = {}
    for element in query.elements:
        _check(element)
        if element.tag in kept:
            raise StanzaError("bad-request", text="two elements of the same name")
        empty = not (len(element) or element.text or element.attrib)
        element.tail = None
        kept[element.tag] = Document(owner, "private", element.tag, b"" if empty else element.tobytes())
    new, quota = tuple(kept.values()), ctx.service(Quota)

    def rule(tx: Tx) -> list[Effect]:
        return documents.keep(documents.load(tx, new, quota), new)

    yield from ctx.commit(rule)


def _own(ctx: Context) -> JID:
    """Return the account, which must be the sender's (section 2.3)."""
    if ctx.account != ctx.sender.bare:
        raise StanzaError("forbidden")
    return ctx.sender.bare


def _check(element: Element) -> None:
    """An element has a namespace of its own (section 2.1)."""
    if element.ns in ("", NS, NS_CLIENT):
        raise StanzaError("not-acceptable", text="the element needs a namespace of its own")


async def get(session: Session, tag: str) -> Element:
    """Fetch what was kept as `tag` (``{ns}name``); an empty element if nothing was. Raises as `Session.request`."""
    answer = Query.from_element(await session.request("get", Query(elements=(Element(tag),))))
    return next((element for element in answer.elements if element.tag == tag), Element(tag))


async def put(session: Session, *elements: Element) -> None:
    """Have `elements` kept by their names, an empty one removed. Raises as `Session.request`, ``resource-constraint`` if full."""
    await session.request("set", Query(elements=elements))
