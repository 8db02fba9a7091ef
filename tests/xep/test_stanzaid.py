# SPDX-License-Identifier: Apache-2.0
"""XEP-0359: Unique and Stable Stanza IDs."""

from _xmppcore import JID, Element
from xiot.xep import stanzaid
from xiot.xep.stanzaid import NS, OriginId, StanzaId

ME = JID("juliet@plant.example")


def a_message(*by: str) -> Element:
    ids = "".join(f"<stanza-id xmlns='{NS}' id='{n}' by='{jid}'/>" for n, jid in enumerate(by))
    return Element.fromstring(
        f"<message xmlns='jabber:client'><body>Hi</body>{ids}<origin-id xmlns='{NS}' id='o'/></message>"
    )


def test_payloads_both_ways() -> None:
    xml = f"<stanza-id xmlns='{NS}' id='5f3d' by='room@muc.example.com'/>"
    assert StanzaId.from_element(Element.fromstring(xml)).to_element() == Element.fromstring(xml)
    assert OriginId(id="1").to_element() == Element.fromstring(f"<origin-id xmlns='{NS}' id='1'/>")


def test_forged_ids_are_removed_however_they_are_written_and_others_stay() -> None:
    message = a_message("juliet@plant.example", "room@muc", "JULIET@Plant.Example", "@@", "juliet@plant.example/x")
    stanzaid.strip(message, ME)
    assert [child.get("by") for child in message.findall(StanzaId.TAG)] == ["room@muc", "@@", "juliet@plant.example/x"]
    assert message.find(OriginId.TAG) is not None


def test_our_id_stands_in_place_of_a_forged_one() -> None:
    message = a_message("juliet@plant.example")
    stanzaid.stamp(message, "mine", ME)
    assert [child.get("id") for child in message.findall(StanzaId.TAG)] == ["mine"]
    assert stanzaid.stanza_id(message, ME) == "mine"
    assert stanzaid.stanza_id(message, JID("room@muc")) is None


def test_two_ids_of_one_entity_are_none() -> None:
    assert stanzaid.stanza_id(a_message("room@muc", "room@muc"), JID("room@muc")) is None


def test_origin_id_is_the_id_and_given_once() -> None:
    message = Element("{jabber:client}message")
    id = stanzaid.add_origin_id(message)
    assert stanzaid.add_origin_id(message) == id == message.get("id")
    assert len(message.findall(OriginId.TAG)) == 1
    named = Element("{jabber:client}message", {"id": "7"})
    assert stanzaid.add_origin_id(named) == "7"
