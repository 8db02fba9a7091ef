# SPDX-License-Identifier: Apache-2.0
"""XEP-0012: Last Activity."""

from datetime import timedelta

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.model.logout import Logout
from xiot.model.roster import RosterItem, SubscriptionState
from xiot.xep import last, roster
from xiot.xep.last import Activity, Last
from xiot.xep.roster import Roster

from .world import World

NS = "jabber:iq:last"


@pytest.mark.parametrize(
    ("payload", "xml"),
    [
        (Last(), f"<query xmlns='{NS}'/>"),
        (Last(seconds=903), f"<query xmlns='{NS}' seconds='903'/>"),
        (Last(seconds=903, status="Heading Home"), f"<query xmlns='{NS}' seconds='903'>Heading Home</query>"),
    ],
)
def test_examples_both_ways(payload: Last, xml: str) -> None:
    assert payload.to_element() == Element.fromstring(xml)
    assert Last.from_element(Element.fromstring(xml)) == payload


class Hands:
    """A clock that is set."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


def a_world(*services: object) -> World:
    return World(last.ext, roster.ext, services=services)


async def subscribed(world: World, subscription: SubscriptionState) -> None:
    await world.store.run(RosterItem("juliet@plant.example", "romeo@other.example", subscription=subscription).put)


async def went_offline(world: World, logout: Logout) -> None:
    await world.account(logout.owner)
    await world.store.run(lambda tx: tx.logouts.put([logout]))


async def test_host_tells_for_how_long_it_is_up() -> None:
    hands = Hands()
    romeo = a_world(Activity(hands)).session("romeo@other.example/x")
    hands.at += 123456.9
    assert await last.last(romeo, "plant.example") == Last(seconds=123456)


@pytest.mark.parametrize("subscription", ["from", "both"])
async def test_account_tells_whom_it_shows_its_presence_when_it_was_online(subscription: SubscriptionState) -> None:
    world = a_world()
    romeo = world.session("romeo@other.example/x")
    await subscribed(world, subscription)
    at = world.now - timedelta(seconds=903.5)
    await went_offline(world, Logout("juliet@plant.example", at, "Heading Home"))
    assert await last.last(romeo, "juliet@plant.example") == Last(seconds=903, status="Heading Home")
    world.session("juliet@plant.example/balcony")
    assert await last.last(romeo, "juliet@plant.example") == Last(seconds=0)


@pytest.mark.parametrize("subscription", ["none", "to"])
async def test_account_tells_nobody_else(subscription: SubscriptionState) -> None:
    world = a_world()
    romeo = world.session("romeo@other.example/x")
    await subscribed(world, subscription)
    await went_offline(world, Logout("juliet@plant.example", world.now))
    for to in ("juliet@plant.example", "nobody@plant.example"):
        with pytest.raises(StanzaError, match="forbidden"):
            await last.last(romeo, to)


async def test_account_that_was_never_online_tells_nothing() -> None:
    world = a_world()
    await subscribed(world, "from")
    with pytest.raises(StanzaError, match="service-unavailable"):
        await last.last(world.session("romeo@other.example/x"), "juliet@plant.example")


@pytest.mark.security(statement=90)
async def test_clock_that_was_set_back_makes_no_negative_time() -> None:
    world = a_world()
    await subscribed(world, "from")
    await went_offline(world, Logout("juliet@plant.example", world.now + timedelta(hours=1)))
    assert (await last.last(world.session("romeo@other.example/x"), "juliet@plant.example")).seconds == 0


async def test_client_tells_its_contacts_for_how_long_its_user_is_idle() -> None:
    hands, contacts = Hands(), Roster()
    activity = Activity(hands)
    romeo = a_world(activity, contacts).session("romeo@other.example/x")
    with pytest.raises(StanzaError, match="forbidden"):
        await last.last(romeo, "juliet@plant.example/balcony")
    contacts.apply(roster.Item(jid=JID("romeo@other.example"), subscription="from"), None)
    hands.at += 123
    assert (await last.last(romeo, "juliet@plant.example/balcony")).seconds == 123
    activity.touch()
    assert (await last.last(romeo, "juliet@plant.example/balcony")).seconds == 0


async def test_client_without_activity_tells_even_itself_nothing() -> None:
    juliet = a_world(Roster()).session("juliet@plant.example/a")
    with pytest.raises(StanzaError, match="service-unavailable"):
        await last.last(juliet, "juliet@plant.example/balcony")
