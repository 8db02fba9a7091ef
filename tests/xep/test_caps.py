# SPDX-License-Identifier: Apache-2.0
"""XEP-0115: Entity Capabilities."""

from dataclasses import replace

import pytest

from _xmppcore import JID, Element
from xiot.errors import StanzaError
from xiot.ext import SESSION
from xiot.xep import caps, disco, forms, ping, rsm
from xiot.xep.caps import C, Cache, verification_string
from xiot.xep.disco import Directory, Feature, Identity, Info
from xiot.xep.forms import Field, Form

from .world import World

FEATURES = tuple(
    Feature(var=f"http://jabber.org/protocol/{name}") for name in ("muc", "disco#info", "caps", "disco#items")
)
EXODUS = Info(identities=(Identity(category="client", type="pc", name="Exodus 0.9.1"),), features=FEATURES)
SOFTWARE = Form(
    type="result",
    fields=(
        Field(var="FORM_TYPE", type="hidden", values=("urn:xmpp:dataforms:softwareinfo",)),
        Field(var="os_version", values=("10.5.1",)),
        Field(var="ip_version", type="text-multi", values=("ipv6", "ipv4")),
        Field(var="os", values=("Mac",)),
        Field(var="software", values=("Psi",)),
        Field(var="software_version", values=("0.11",)),
    ),
)
PSI = Info(
    identities=(
        Identity(category="client", type="pc", name="Psi 0.11", lang="en"),
        Identity(category="client", type="pc", name="Ψ 0.11", lang="el"),
    ),
    features=FEATURES,
    forms=(SOFTWARE,),
)
EXODUS_C = C(hash="sha-1", node="http://code.google.com/p/exodus", ver="QgayPKawpkPSDYmwT/WM94uAlu0=")


def test_examples_have_their_hashes() -> None:
    assert verification_string(EXODUS) == EXODUS_C.ver
    assert verification_string(PSI) == "q07IKJEyjvHSyhy//CH0CxmKi8w="


def test_example_both_ways() -> None:
    xml = Element.fromstring(
        "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://code.google.com/p/exodus' "
        "ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>"
    )
    assert C.from_element(xml) == EXODUS_C
    assert EXODUS_C.to_element() == xml


def form(form_type: str, *fields: Field, kind: str | None = "hidden") -> Form:
    return Form(type="result", fields=(Field(var="FORM_TYPE", type=kind, values=(form_type,)), *fields))


@pytest.mark.parametrize(
    "info",
    [
        replace(EXODUS, identities=EXODUS.identities * 2),
        replace(EXODUS, features=(*FEATURES, FEATURES[0])),
        replace(EXODUS, forms=(form("a"), form("a"))),
        replace(
            EXODUS, forms=(Form(type="result", fields=(Field(var="FORM_TYPE", type="hidden", values=("a", "b")),)),)
        ),
        replace(EXODUS, forms=(form("a", Field(var="x"), Field(var="x", values=("1",))),)),
        replace(EXODUS, features=(Feature(var="a<b"),)),
        replace(EXODUS, identities=(Identity(category="client", type="pc", name="Ex<odus"),)),
    ],
)
def test_ill_formed_answer_has_no_hash_and_is_not_kept(info: Info) -> None:
    with pytest.raises(ValueError, match=r"twice|two|in a name"):
        verification_string(info)
    assert not Cache().add(EXODUS_C, info)


@pytest.mark.parametrize("ignored", [form("a", kind="text-single"), Form(type="result"), form("a", kind=None)])
def test_form_without_a_hidden_type_does_not_count(ignored: Form) -> None:
    assert verification_string(replace(EXODUS, forms=(ignored,))) == EXODUS_C.ver


@pytest.mark.security(row=61)
def test_only_what_has_the_hash_is_kept() -> None:
    cache = Cache()
    assert not cache.add(EXODUS_C, PSI)
    assert not cache.add(replace(EXODUS_C, hash="md5"), EXODUS)
    assert not cache.add(replace(EXODUS_C, hash=None), EXODUS)
    assert len(cache) == 0
    assert cache.add(EXODUS_C, EXODUS)
    assert cache.get(replace(EXODUS_C, node="other")) == EXODUS
    assert cache.get(replace(EXODUS_C, hash="sha-256")) is None
    assert cache.add(replace(EXODUS_C, hash="sha-256", ver=verification_string(EXODUS, "sha-256")), EXODUS)


@pytest.mark.security(row=61)
def test_cache_forgets_what_was_not_used_for_longest() -> None:
    cache, kept = Cache(most=2), []
    for name in "abc":
        info = Info(features=(Feature(var=name),))
        kept.append(C(hash="sha-1", node="n", ver=verification_string(info)))
        assert cache.add(kept[-1], info)
        cache.get(kept[0])
    assert [cache.get(c) is not None for c in kept] == [True, False, True]
    assert len(cache) == 2


async def test_capabilities_are_asked_for_once_and_verified() -> None:
    directory = Directory([disco.ext, ping.ext], identities=[Identity(category="client", type="bot")])
    world = World(disco.ext, forms.ext, rsm.ext, caps.ext, services=[directory])
    romeo, asked = world.session("romeo@plant.example/a"), JID("juliet@plant.example/b")
    c, cache = caps.announce(directory), Cache()
    found = await caps.capabilities(romeo, asked, c, cache)
    assert found.can("urn:xmpp:ping")
    assert found.node == c.full_node
    world.table.clear()  # now nobody answers
    assert await caps.capabilities(romeo, JID("nurse@plant.example/x"), c, cache) == found
    with pytest.raises(StanzaError):
        await caps.capabilities(romeo, asked, replace(c, ver="other"), cache)


@pytest.mark.security(row=61)
async def test_poisoned_hash_is_believed_of_nobody_else() -> None:
    directory = Directory([disco.ext], identities=[Identity(category="client", type="bot")])
    world = World(disco.ext, forms.ext, rsm.ext, caps.ext, services=[directory])
    directory.node, cache = EXODUS_C.full_node, Cache()
    told = await caps.capabilities(world.session("romeo@plant.example/a"), JID("tybalt@c.lit/x"), EXODUS_C, cache)
    assert told.identities == (Identity(category="client", type="bot"),)
    assert cache.get(EXODUS_C) is None


async def test_what_an_application_does_changes_the_hash_and_the_node() -> None:
    directory = Directory([disco.ext])
    before = caps.announce(directory)
    directory.features.add("urn:xmpp:receipts")
    after = caps.announce(directory)
    assert directory.info(SESSION).can("urn:xmpp:receipts")
    assert before.ver != after.ver
    world = World(disco.ext, forms.ext, rsm.ext, caps.ext, services=[directory])
    romeo = world.session("romeo@plant.example/a")
    assert (await disco.info(romeo, "juliet@plant.example/b", after.full_node)).node == after.full_node
    with pytest.raises(StanzaError, match="item-not-found"):
        await disco.info(romeo, "juliet@plant.example/b", before.full_node)
