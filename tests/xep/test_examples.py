# SPDX-License-Identifier: Apache-2.0
"""The examples that specifications print: what our declarations read of them, they write as valid as it was."""

import json
from importlib import import_module
from pkgutil import iter_modules

import pytest
from lxml import etree

from _xmppcore import Element, XmlError
from tests.shared import shared
from xiot import xep
from xiot.schema import Payload

MODULES = [import_module(f"xiot.xep.{found.name}") for found in iter_modules(xep.__path__)]
PAYLOADS = {
    payload.TAG: payload
    for module in MODULES
    for payload in vars(module).values()
    if isinstance(payload, type) and issubclass(payload, Payload) and payload.TAG
}
SCHEMAS = {
    "http://jabber.org/protocol/caps": "caps",
    "http://jabber.org/protocol/disco#info": "disco-info",
    "http://jabber.org/protocol/disco#items": "disco-items",
    "http://jabber.org/protocol/pubsub": "pubsub",
    "http://jabber.org/protocol/pubsub#event": "pubsub-event",
    "http://jabber.org/protocol/rsm": "rsm",
    "jabber:iq:last": "iq-last",
    "jabber:iq:private": "iq-private",
    "jabber:iq:register": "iq-register",
    "jabber:iq:roster": "roster",
    "jabber:iq:version": "iq-version",
    "jabber:x:data": "x-data",
    "urn:xmpp:chat-markers:0": "urn-xmpp-chat-markers-0",
    "urn:xmpp:delay": "delay",
    "urn:xmpp:forward:0": "urn-xmpp-forward-0",
    "urn:xmpp:message-correct:0": "urn-xmpp-message-correct-0",
    "urn:xmpp:ping": "ping",
    "urn:xmpp:receipts": "receipts",
    "urn:xmpp:sid:0": "urn-xmpp-sid-0",
    "urn:xmpp:stream-limits:0": "urn-xmpp-stream-limits-0",
    "urn:xmpp:time": "time",
}
SPECIFICATIONS = [
    *("0004", "0012", "0030", "0049", "0054", "0059", "0060", "0077", "0092", "0115", "0184", "0199", "0202", "0203"),
    *("0297", "0308", "0333", "0359", "0478"),
]


def examples(number: str) -> list[Element]:
    """All elements in the examples of a specification that we have a declaration for."""
    found: list[Element] = []
    for line in shared(f"data/stanzas/{number}.jsonl").read_text().splitlines():
        try:
            stanza = Element.fromstring(json.loads(line)["xml"])
        except XmlError:
            continue  # it needs the prefixes of a stream around it
        found += (el for el in stanza.iter() if el.tag in PAYLOADS)
    return found


@pytest.mark.parametrize("number", SPECIFICATIONS)
def test_every_example_is_read_and_written(number: str) -> None:
    found = examples(number)
    assert found
    for el in found:
        payload = PAYLOADS[el.tag].from_element(el)
        assert PAYLOADS[el.tag].from_element(payload.to_element()) == payload


@pytest.mark.parametrize("ns", SCHEMAS)
def test_what_is_written_of_a_valid_example_is_valid(ns: str) -> None:
    schema = etree.XMLSchema(etree.parse(shared(f"data/xsd/resolved/{SCHEMAS[ns]}.xsd")))
    valid = 0
    for number in (*SPECIFICATIONS, "0237"):
        for el in examples(number):
            if el.ns == ns and schema.validate(etree.fromstring(el.tobytes())):
                again = PAYLOADS[el.tag].from_element(el).to_element()
                schema.assertValid(etree.fromstring(again.tobytes()))
                valid += 1
    assert valid
