# SPDX-License-Identifier: Apache-2.0
"""XEP-0191: Blocking Command, both ends. The rules of a server are in `xiot.model.blocking`."""

from collections.abc import Generator, Iterable
from typing import Any

from _xmppcore import JID
from xiot.errors import StanzaError
from xiot.ext import ACCOUNT, HOST, SESSION, Context, Extension, Inbound, Load, Session
from xiot.model import blocking as rules
from xiot.model.effects import Effect, Tx
from xiot.schema import Payload, attr, children

NS = "urn:xmpp:blocking"
NS_ERRORS = "urn:xmpp:blocking:errors"
ext = Extension("blocking", spec="XEP-0191", version="1.3", features=[NS], at=HOST)


class Item(Payload, tag=(NS, "item")):
    """A JID that is, or is to be, blocked: full, bare, or a domain (section 5)."""

    jid: JID = attr()


class BlockList(Payload, tag=(NS, "blocklist")):
    """All that is blocked; empty when it asks (section 3.2)."""

    items: tuple[Item, ...] = children(default=())


class Block(Payload, tag=(NS, "block")):
    """Block these (section 3.3)."""

    items: tuple[Item, ...] = children(default=())


class Unblock(Payload, tag=(NS, "unblock")):
    """Unblock these; all, if there are none (sections 3.4 and 3.5)."""

    items: tuple[Item, ...] = children(default=())


class BlockedError(Payload, tag=(NS_ERRORS, "blocked")):
    """In the error for what was sent to somebody whom we block (section 3.3)."""


def refusal() -> StanzaError:
    """Return the error for what an account sends to somebody whom it blocks (section 3.3)."""
    return StanzaError("not-acceptable", "cancel", app=BlockedError().to_element())


# ---- a server --------------------------------------------------------------------------------------------


class Enforcer:
    """What enforces the lists of the accounts that are online; a server derives its own."""

    def changed(self, owner: JID, change: rules.Blocked) -> None:
        """Go by the new list from now on, and show that the account is gone, or there again (sections 3.3 and 3.4)."""


@ext.iq_get(BlockList, at=ACCOUNT)
def on_get(_: BlockList, ctx: Context) -> Generator[Load[Any], Any, BlockList]:
    """Give the list; from now on the client gets pushes (section 3.2)."""
    owner = str(_own(ctx))
    ctx.interest(NS)
    jids = yield from ctx.load(lambda tx: tx.blocks.jids(owner))
    return BlockList(items=tuple(Item(jid=JID(jid)) for jid in jids))


@ext.iq_set(Block, at=ACCOUNT)
def on_block(block: Block, ctx: Context) -> Generator[Load[Any], Any, None]:
    """Add to the list, and push to all interested resources (section 3.3)."""
    owner, jids = _own(ctx), [str(item.jid) for item in block.items]
    if not jids:
        raise StanzaError("bad-request", text="nobody to be blocked")
    _enforce(ctx, (yield from ctx.commit(lambda tx: _rule(tx, owner, jids, rules.block))))
    ctx.push(owner, block)


@ext.iq_set(Unblock, at=ACCOUNT)
def on_unblock(unblock: Unblock, ctx: Context) -> Generator[Load[Any], Any, None]:
    """Take from the list, and push to all interested resources (sections 3.4 and 3.5)."""
    owner, jids = _own(ctx), [str(item.jid) for item in unblock.items]
    _enforce(ctx, (yield from ctx.commit(lambda tx: _rule(tx, owner, jids, rules.unblock))))
    ctx.push(owner, unblock)


def _rule(tx: Tx, owner: JID, jids: list[str], change: Any) -> list[Effect]:
    effects: list[Effect] = change(rules.load(tx, str(owner)), jids)
    return effects


def _enforce(ctx: Context, effects: Iterable[Effect]) -> None:
    for effect in effects:
        assert isinstance(effect, rules.Blocked)
        ctx.service(Enforcer).changed(JID(effect.owner), effect)


def _own(ctx: Context) -> JID:
    """Return the account, which must be the sender's."""
    if ctx.account != ctx.sender.bare:
        raise StanzaError("forbidden")
    return ctx.sender.bare


# ---- a client --------------------------------------------------------------------------------------------


class Blocks:
    """Whom our account blocks, kept up to date by the pushes of our server."""

    def __init__(self) -> None:
        self.jids: set[JID] = set()


@ext.iq_set(Block, at=SESSION)
def on_block_push(block: Block, ctx: Inbound) -> None:
    """Take an addition, from our own server only."""
    _blocks(ctx).update(item.jid for item in block.items)


@ext.iq_set(Unblock, at=SESSION)
def on_unblock_push(unblock: Unblock, ctx: Inbound) -> None:
    """Take a removal, from our own server only."""
    jids = _blocks(ctx)
    jids.difference_update({item.jid for item in unblock.items} or set(jids))


def _blocks(ctx: Inbound) -> set[JID]:
    """Return our list, for a push; one of anybody but our server is an attack."""
    if ctx.sender != ctx.to.bare:
        raise StanzaError("service-unavailable")
    try:
        return ctx.service(Blocks).jids
    except LookupError:
        return set()  # a client that keeps no list acknowledges the push all the same


async def fetch(session: Session, blocks: Blocks) -> None:
    """Bring `blocks` up to date, and have our server push changes from now on (section 3.2). Raises as `Session.request`."""
    answer = BlockList.from_element(await session.request("get", BlockList()))
    blocks.jids = {item.jid for item in answer.items}


async def block(session: Session, *jids: JID | str) -> None:
    """Block `jids`, at least one (section 3.3). Raises as `Session.request`."""
    await session.request("set", Block(items=tuple(Item(jid=JID(jid)) for jid in jids)))


async def unblock(session: Session, *jids: JID | str) -> None:
    """Unblock `jids`, at least one (section 3.4). Raises ValueError if there are none, else as `Session.request`."""
    if not jids:
        raise ValueError("unblock_all unblocks all")
    await session.request("set", Unblock(items=tuple(Item(jid=JID(jid)) for jid in jids)))


async def unblock_all(session: Session) -> None:
    """Unblock everybody (section 3.5). Raises as `Session.request`."""
    await session.request("set", Unblock())
