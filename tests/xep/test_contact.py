# SPDX-License-Identifier: Apache-2.0
"""XEP-0157: Contact Addresses for XMPP Services."""

from _xmppcore import Element
from xiot.xep import contact, disco, forms, rsm
from xiot.xep.disco import Directory

from .world import World


async def test_addresses_are_told_by_purpose() -> None:
    told = {
        "abuse": ("mailto:abuse@shakespeare.lit", "xmpp:abuse@shakespeare.lit"),
        "sales": ("xmpp:bard@shakespeare.lit",),
    }
    form = contact.form({**told, "admin": ()})
    assert form is not None
    world = World(disco.ext, forms.ext, rsm.ext, contact.ext, services=[Directory([disco.ext], forms=[form])])
    juliet = world.session("juliet@plant.example/a")
    assert await contact.addresses(juliet, "plant.example") == told
    assert (await disco.info(juliet)).forms == ()


def test_form_is_that_of_the_registry() -> None:
    form = contact.form({"abuse": ["mailto:abuse@shakespeare.lit"]})
    assert form is not None
    assert form.to_element() == Element.fromstring(
        "<x xmlns='jabber:x:data' type='result'>"
        "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>"
        "<field var='abuse-addresses' type='list-multi'><value>mailto:abuse@shakespeare.lit</value></field></x>"
    )
    assert contact.form({"abuse": ()}) is None


async def test_host_that_tells_none_has_none() -> None:
    world = World(disco.ext, forms.ext, rsm.ext, services=[Directory([disco.ext])])
    assert await contact.addresses(world.session("juliet@plant.example/a"), "plant.example") == {}
