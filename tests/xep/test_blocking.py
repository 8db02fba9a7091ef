# SPDX-License-Identifier: Apache-2.0
"""XEP-0191: Blocking Command, on the wire; `tests/server/test_hooks.py` has what it does."""

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.model.blocking import Blocked
from xiot.stanzas import error_element
from xiot.xep import blocking
from xiot.xep.blocking import Block, BlockList, Blocks, Enforcer, Item, Unblock

from .world import World

NS = "urn:xmpp:blocking"
JULIET = "juliet@plant.example"


class Noted(Enforcer):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Blocked]] = []

    def changed(self, owner: JID, change: Blocked) -> None:
        self.changes.append((str(owner), change))


async def a_world() -> tuple[World, Noted, Blocks]:
    noted, blocks = Noted(), Blocks()
    world = World(blocking.ext, services=[noted, blocks])
    await world.account(JULIET)
    return world, noted, blocks


@pytest.mark.parametrize(
    ("payload", "xml"),
    [
        (BlockList(), f"<blocklist xmlns='{NS}'/>"),
        (
            BlockList(items=(Item(jid=JID("romeo@montague.net")), Item(jid=JID("iago@shakespeare.lit")))),
            f"<blocklist xmlns='{NS}'><item jid='romeo@montague.net'/><item jid='iago@shakespeare.lit'/></blocklist>",
        ),
        (Block(items=(Item(jid=JID("montague.net")),)), f"<block xmlns='{NS}'><item jid='montague.net'/></block>"),
        (Unblock(), f"<unblock xmlns='{NS}'/>"),
    ],
)
def test_examples_both_ways(payload: Block, xml: str) -> None:
    assert payload.to_element() == Element.fromstring(xml)
    assert type(payload).from_element(Element.fromstring(xml)) == payload


def test_refusal_says_why() -> None:
    assert error_element(blocking.refusal()) == Element.fromstring(
        "<error xmlns='jabber:client' type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<blocked xmlns='urn:xmpp:blocking:errors'/></error>"
    )


async def test_list_is_stored_prepared_and_enforced() -> None:
    world, noted, blocks = await a_world()
    juliet = world.session(f"{JULIET}/balcony")
    await blocking.fetch(juliet, blocks)
    assert blocks.jids == set()
    await blocking.block(juliet, "ROMEO@Montague.NET", "iago@shakespeare.lit")
    await blocking.unblock(juliet, "romeo@montague.net")
    await blocking.fetch(juliet, blocks)
    assert blocks.jids == {JID("iago@shakespeare.lit")}
    await blocking.unblock_all(juliet)
    assert [(owner, change.added, change.removed) for owner, change in noted.changes] == [
        (JULIET, ("romeo@montague.net", "iago@shakespeare.lit"), ()),
        (JULIET, (), ("romeo@montague.net",)),
        (JULIET, (), ("iago@shakespeare.lit",)),
    ]
    assert noted.changes[-1][1].jids == frozenset()


async def test_only_resources_that_asked_for_the_list_get_pushes() -> None:
    world, _, blocks = await a_world()
    balcony, chamber = world.session(f"{JULIET}/balcony"), world.session(f"{JULIET}/chamber")
    await blocking.fetch(balcony, blocks)
    await blocking.block(chamber, "romeo@montague.net")
    await blocking.unblock_all(chamber)
    assert [push[0].tag for push in balcony.inbox] == [Block.TAG, Unblock.TAG]
    assert Block.from_element(balcony.inbox[0][0]).items == (Item(jid=JID("romeo@montague.net")),)
    assert Unblock.from_element(balcony.inbox[1][0]).items == ()
    assert chamber.inbox == []


async def test_block_of_nobody_is_a_bad_request() -> None:
    world, noted, _ = await a_world()
    with pytest.raises(StanzaError, match="bad-request"):
        await blocking.block(world.session(f"{JULIET}/balcony"))
    assert noted.changes == []


async def test_list_of_another_is_forbidden() -> None:
    world, noted, _ = await a_world()
    romeo = world.session("romeo@plant.example/x")
    for type, payload in (("get", BlockList()), ("set", Block(items=(Item(jid=JID("a@b")),))), ("set", Unblock())):
        with pytest.raises(StanzaError, match="forbidden"):
            await romeo.request(type, payload, to=JULIET)  # type: ignore[arg-type]
    assert noted.changes == []


@pytest.mark.security(row=55)
async def test_client_takes_pushes_of_its_own_account_only() -> None:
    world, _, blocks = await a_world()
    blocks.jids = {JID("iago@shakespeare.lit")}
    block, account = Block(items=(Item(jid=JID("romeo@montague.net")),)), world.session(JULIET)
    for stranger in ("tybalt@plant.example/x", f"{JULIET}/other", "plant.example"):
        for push in (block, Unblock()):
            with pytest.raises(StanzaError, match="service-unavailable"):
                await world.session(stranger).request("set", push, to=f"{JULIET}/balcony")
    assert blocks.jids == {JID("iago@shakespeare.lit")}
    await account.request("set", block, to=f"{JULIET}/balcony")
    assert blocks.jids == {JID("iago@shakespeare.lit"), JID("romeo@montague.net")}
    await account.request("set", Unblock(items=block.items), to=f"{JULIET}/balcony")
    assert blocks.jids == {JID("iago@shakespeare.lit")}
    await account.request("set", Unblock(), to=f"{JULIET}/balcony")
    assert blocks.jids == set()


async def test_unblock_without_names_is_a_mistake() -> None:
    world, _, _ = await a_world()
    with pytest.raises(ValueError, match="unblock_all"):
        await blocking.unblock(world.session(f"{JULIET}/balcony"))
