# SPDX-License-Identifier: Apache-2.0
"""XEP-0030: Service Discovery."""

from collections.abc import Generator
from typing import Any

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import Context, Load
from xiot.model.roster import RosterItem, SubscriptionState
from xiot.schema import Payload
from xiot.xep import disco, forms, ping, rsm
from xiot.xep.disco import Directory, Feature, Identity, Info, Item, Items

from .world import World

INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"


@pytest.mark.parametrize(
    ("payload", "xml"),
    [
        (Info(), f"<query xmlns='{INFO}'/>"),
        (Info(node="n"), f"<query xmlns='{INFO}' node='n'/>"),
        (
            Info(
                identities=(Identity(category="server", type="im", name="xiot", lang="en"),),
                features=(Feature(var=INFO), Feature(var="urn:xmpp:ping")),
                forms=(forms.Form(type="result"),),
            ),
            f"<query xmlns='{INFO}'><identity category='server' type='im' name='xiot' xml:lang='en'/>"
            f"<feature var='{INFO}'/><feature var='urn:xmpp:ping'/><x xmlns='jabber:x:data' type='result'/></query>",
        ),
        (
            Items(node="n", items=(Item(jid=JID("a.example")), Item(jid=JID("b.example"), node="m", name="M"))),
            f"<query xmlns='{ITEMS}' node='n'><item jid='a.example'/><item jid='b.example' node='m' name='M'/></query>",
        ),
    ],
)
def test_disco_both_ways(payload: Payload, xml: str) -> None:
    assert payload.to_element() == Element.fromstring(xml)
    assert type(payload).from_element(Element.fromstring(xml)) == payload


def a_world(**browse: Any) -> World:
    directory = Directory(
        [disco.ext, forms.ext, ping.ext],
        identities=[Identity(category="server", type="im")],
        items=[Item(jid=JID("pubsub.plant.example"))],
        **browse,
    )
    return World(disco.ext, forms.ext, ping.ext, rsm.ext, services=[directory])


async def test_host_tells_its_identity_and_the_features_it_has_handlers_for() -> None:
    juliet = a_world().session("juliet@plant.example/a")
    info = await disco.info(juliet, "plant.example")
    assert info.identities == (Identity(category="server", type="im"),)
    assert [feature.var for feature in info.features] == [INFO, ITEMS, "urn:xmpp:ping"]
    assert info.can("urn:xmpp:ping")
    assert not info.can("jabber:x:data")
    assert await disco.items(juliet, "plant.example") == (Item(jid=JID("pubsub.plant.example")),)


async def test_account_tells_itself_that_it_is_registered_and_where_it_is_online() -> None:
    world = a_world()
    juliet, balcony = world.session("juliet@plant.example/a"), world.session("juliet@plant.example/b")
    info = await disco.info(juliet)
    assert info.identities == (Identity(category="account", type="registered"),)
    assert await disco.items(juliet) == (Item(jid=juliet.jid), Item(jid=balcony.jid))


@pytest.mark.parametrize(("subscription", "seen"), [("none", False), ("to", False), ("from", True), ("both", True)])
async def test_account_tells_only_whom_it_shows_its_presence(subscription: SubscriptionState, seen: bool) -> None:
    world = a_world()
    world.session("juliet@plant.example/a")
    romeo = world.session("romeo@other.example/x")
    contact = RosterItem("juliet@plant.example", "romeo@other.example", subscription=subscription)
    await world.store.run(contact.put)
    if seen:
        assert (await disco.info(romeo, "juliet@plant.example")).identities
        assert await disco.items(romeo, "juliet@plant.example")
    else:
        with pytest.raises(StanzaError, match="service-unavailable"):
            await disco.info(romeo, "juliet@plant.example")
        with pytest.raises(StanzaError, match="service-unavailable"):
            await disco.items(romeo, "juliet@plant.example")


async def test_account_that_does_not_exist_looks_like_one_that_is_hidden() -> None:
    with pytest.raises(StanzaError, match="service-unavailable"):
        await disco.info(a_world().session("romeo@other.example/x"), "nobody@plant.example")


@pytest.mark.parametrize("to", ["plant.example", "juliet@plant.example/b"])
async def test_unknown_node_is_not_found_and_an_empty_one_is_none(to: str) -> None:
    juliet = a_world().session("juliet@plant.example/a")
    with pytest.raises(StanzaError, match="item-not-found"):
        await disco.info(juliet, to, "no-such-node")
    with pytest.raises(StanzaError, match="item-not-found"):
        await disco.items(juliet, to, "no-such-node")
    assert (await disco.info(juliet, to, "")).features


async def test_client_tells_what_it_is() -> None:
    info = await disco.info(a_world().session("juliet@plant.example/a"), "juliet@plant.example/b")
    assert [feature.var for feature in info.features] == [INFO, ITEMS, "urn:xmpp:ping"]


async def test_service_with_nodes_is_browsed() -> None:
    def info_of_node(node: str, ctx: Context) -> Generator[Load[Any], Any, Info]:
        count = yield from ctx.load(lambda tx: tx.nodes.node_count(str(ctx.to)))
        return Info(node=node, identities=(Identity(category="pubsub", type="leaf", name=str(count)),))

    def items_of_node(query: Items, ctx: Context) -> Generator[Load[Any], Any, Items]:
        yield from ctx.load(lambda tx: None)
        return Items(node=query.node, items=(Item(jid=ctx.to, node=f"{query.node}/below"),))

    juliet = a_world(info_of_node=info_of_node, items_of_node=items_of_node).session("juliet@plant.example/a")
    assert (await disco.info(juliet, "plant.example", "n")).identities[0].type == "leaf"
    assert (await disco.items(juliet, "plant.example", "n"))[0].node == "n/below"
    assert (await disco.items(juliet, "plant.example"))[0].node == "None/below"
