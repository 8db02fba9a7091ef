# SPDX-License-Identifier: Apache-2.0
"""XEP-0054: vcard-temp, both ends. The rules of a server are in `xiot.model.documents`."""

from collections.abc import Generator
from typing import Any, Self

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, Context, Extension, Load, Session
from xiot.model import documents
from xiot.model.documents import Document, Quota
from xiot.model.effects import Effect, Tx
from xiot.schema import Payload, any_children, attr
from xiot.stanzas import reread

NS = "vcard-temp"
ext = Extension("vcard", spec="XEP-0054", version="1.3.0", features=[NS], at=HOST)


class VCard(Payload, tag=(NS, "vCard")):
    """What somebody tells of himself; empty when it asks (section 3)."""

    prodid: str | None = attr(default=None)
    version: str | None = attr(default=None)
    fields: tuple[Element, ...] = any_children(default=())

    @classmethod
    def of(cls, **texts: str) -> Self:
        """Return a vCard of fields that are only text: ``VCard.of(FN="Juliet", NICKNAME="jules")``."""
        return cls(fields=tuple(Element(f"{{{NS}}}{name}", None, value) for name, value in texts.items()))

    def text(self, *path: str) -> str | None:
        """Return the text of the first field at `path`, such as ``text("N", "FAMILY")``; None if there is none."""
        level = self.fields
        for depth, name in enumerate(path, 1):
            field = next((el for el in level if el.tag == f"{{{NS}}}{name}"), None)
            if field is None:
                return None
            if depth == len(path):
                return field.text or ""
            level = tuple(field)
        return None


@ext.iq_get(VCard, at=ACCOUNT)
def on_get(_: VCard, ctx: Context) -> Generator[Load[Any], Any, VCard]:
    """Give the account's vCard to anybody (sections 3.1 and 3.3).

    None of one's own is ``item-not-found``; none of another is ``service-unavailable``, as if there were no account.
    """
    owner = str(ctx.account)
    found = yield from ctx.load(lambda tx: tx.documents.get(owner, "vcard", ""))
    if found is None:
        raise StanzaError("item-not-found" if ctx.account == ctx.sender.bare else "service-unavailable")
    return VCard.from_element(reread(found.data))


@ext.iq_set(VCard, at=ACCOUNT)
def on_set(vcard: VCard, ctx: Context) -> Generator[Load[Any], Any, None]:
    """Keep the vCard of the sender as a whole; an empty one removes it (section 3.2)."""
    if ctx.account != ctx.sender.bare:
        raise StanzaError("forbidden")
    data = vcard.to_element().tobytes() if vcard.fields else b""
    new, quota = (Document(str(ctx.account), "vcard", "", data),), ctx.service(Quota)

    def rule(tx: Tx) -> list[Effect]:
        return documents.keep(documents.load(tx, new, quota), new)

    yield from ctx.commit(rule)


async def fetch(session: Session, of: JID | str | None = None) -> VCard | None:
    """Fetch the vCard of an account, our own if None; None if it has none, or is not there. Raises as `Session.request`."""
    try:
        answer = await session.request("get", VCard(), to=of)
    except StanzaError as error:
        if error.condition in ("item-not-found", "service-unavailable"):
            return None
        raise
    return None if answer is None or not len(answer) else VCard.from_element(answer)


async def publish(session: Session, vcard: VCard) -> None:
    """Replace our vCard. Raises as `Session.request`, ``resource-constraint`` if it is too big for the server."""
    await session.request("set", vcard)
