# SPDX-License-Identifier: Apache-2.0
"""XEP-0054: vcard-temp."""

import pytest

from _xmppcore import Element
from xiot.errors import StanzaError
from xiot.model.documents import Quota
from xiot.xep import vcard
from xiot.xep.vcard import VCard

from .world import World

XML = (
    "<vCard xmlns='vcard-temp' version='2.0' prodid='-//Hand//v1'><FN>Peter Saint-Andre</FN>"
    "<N><FAMILY>Saint-Andre</FAMILY><GIVEN>Peter</GIVEN><MIDDLE/></N>"
    "<TEL><WORK/><VOICE/><NUMBER>303-308-3282</NUMBER></TEL><TEL><HOME/><NUMBER/></TEL></vCard>"
)
PETER = VCard.from_element(Element.fromstring(XML))


async def a_world() -> World:
    world = World(vcard.ext, services=[Quota(5000)])
    for name in ("peter", "jer"):
        await world.account(f"{name}@plant.example")
    return world


def test_fields_are_found_and_kept_in_order() -> None:
    assert PETER.to_element() == Element.fromstring(XML)
    assert PETER.text("FN") == "Peter Saint-Andre"
    assert PETER.text("N", "FAMILY") == "Saint-Andre"
    assert PETER.text("N", "MIDDLE") == ""
    assert PETER.text("N", "SUFFIX") is None
    assert PETER.text("NICKNAME") is None
    assert VCard.of(FN="Juliet", NICKNAME="jules").text("NICKNAME") == "jules"


async def test_vcard_is_published_and_seen_by_others_as_a_whole() -> None:
    world = await a_world()
    peter, jer = world.session("peter@plant.example/a"), world.session("jer@plant.example/b")
    assert await vcard.fetch(peter) is None
    await vcard.publish(peter, PETER)
    assert await vcard.fetch(peter) == PETER
    assert await vcard.fetch(jer, "peter@plant.example") == PETER
    await vcard.publish(peter, VCard.of(FN="P"))
    assert await vcard.fetch(jer, "peter@plant.example") == VCard.of(FN="P")


async def test_empty_vcard_is_none() -> None:
    world = await a_world()
    peter = world.session("peter@plant.example/a")
    await vcard.publish(peter, PETER)
    await vcard.publish(peter, VCard())
    assert await vcard.fetch(peter) is None


async def test_account_without_vcard_looks_like_no_account() -> None:
    jer = (await a_world()).session("jer@plant.example/b")
    with pytest.raises(StanzaError, match="item-not-found"):
        await jer.request("get", VCard())
    for other in ("peter@plant.example", "nobody@plant.example"):
        with pytest.raises(StanzaError, match="service-unavailable"):
            await jer.request("get", VCard(), to=other)


async def test_vcard_of_another_is_not_to_be_changed() -> None:
    jer = (await a_world()).session("jer@plant.example/b")
    with pytest.raises(StanzaError, match="forbidden"):
        await jer.request("set", PETER, to="peter@plant.example")


async def test_big_picture_is_refused() -> None:
    peter = (await a_world()).session("peter@plant.example/a")
    with pytest.raises(StanzaError, match="resource-constraint"):
        await vcard.publish(peter, VCard.of(DESC="x" * 5000))
    assert await vcard.fetch(peter) is None
