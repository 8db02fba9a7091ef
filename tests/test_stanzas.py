# SPDX-License-Identifier: Apache-2.0
"""Stanzas and their errors as Elements (RFC 6120 section 8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _xmppcore import JID, Element, Stanza, StreamParser
from xiot.errors import STANZA_ERROR_TYPES, StanzaError
from xiot.stanzas import NS_CLIENT, NS_ERRORS, error_element, error_to, iq, message, presence, read_error, reply_to

APP = Element("{http://jabber.org/protocol/pubsub#errors}closed-node")


def stanza(xml: str) -> Stanza:
    head = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    _, parsed = StreamParser().feed((head + xml).encode())
    assert isinstance(parsed, Stanza)
    return parsed


def client(xml: str) -> Element:
    return Element.fromstring(xml, NS_CLIENT)


TABLE = [
    (
        StanzaError("item-not-found"),
        "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
    ),
    (
        StanzaError("policy-violation", "wait", "slow down"),
        "<error type='wait'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>slow down</text></error>",
    ),
    (
        StanzaError("not-allowed", app=APP),
        "<error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<closed-node xmlns='http://jabber.org/protocol/pubsub#errors'/></error>",
    ),
]


def same(a: StanzaError, b: StanzaError) -> bool:
    return (a.condition, a.type, a.text, a.app) == (b.condition, b.type, b.text, b.app)


@pytest.mark.parametrize(("error", "xml"), TABLE)
def test_error_is_written_and_read(error: StanzaError, xml: str) -> None:
    assert error_element(error) == client(xml)
    assert same(read_error(client(xml)), error)
    assert same(read_error(client(f"<iq type='error'><ping xmlns='urn:xmpp:ping'/>{xml}</iq>")), error)


types = st.sampled_from(["auth", "cancel", "continue", "modify", "wait"])


@given(st.sampled_from(sorted(STANZA_ERROR_TYPES)), types, st.none() | st.text("ab <&", min_size=1))
def test_every_error_reads_back(condition: str, type: str, text: str | None) -> None:
    error = StanzaError(condition, type, text)
    assert same(read_error(error_element(error)), error)


@pytest.mark.parametrize(
    ("xml", "condition", "type"),
    [
        ("<error/>", "undefined-condition", "cancel"),
        ("<error type='odd'/>", "undefined-condition", "cancel"),
        (f"<error type='wait'><odd xmlns='{NS_ERRORS}'/></error>", "undefined-condition", "wait"),
        ("<error code='404' type='cancel'><conflict xmlns='urn:other'/></error>", "undefined-condition", "cancel"),
        ("<iq type='error'/>", "undefined-condition", "cancel"),
    ],
)
def test_error_that_nobody_defined_is_an_undefined_condition(xml: str, condition: str, type: str) -> None:
    error = read_error(client(xml))
    assert (error.condition, error.type) == (condition, type)


def test_stanzas_are_built() -> None:
    ping = Element("{urn:xmpp:ping}ping")
    assert iq("get", ping, id="1", to=JID("plant.example")) == client(
        "<iq to='plant.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    assert iq("result", id="1", from_="a@b.example") == client("<iq from='a@b.example' id='1' type='result'/>")
    assert message(APP, APP, type="headline", to="a@b.example", id="7") == client(
        "<message to='a@b.example' id='7' type='headline'>"
        "<closed-node xmlns='http://jabber.org/protocol/pubsub#errors'/>"
        "<closed-node xmlns='http://jabber.org/protocol/pubsub#errors'/></message>"
    )
    assert presence(type="unavailable", ns="jabber:server") == Element.fromstring(
        "<presence xmlns='jabber:server' type='unavailable'/>"
    )
    with pytest.raises(ValueError, match="an iq set has a child"):
        iq("set", id="1")


def test_reply_has_the_same_id_and_the_addresses_swapped() -> None:
    request = stanza("<iq from='a@b.example/x' to='b.example' id='7' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert reply_to(request) == client("<iq to='a@b.example/x' from='b.example' id='7' type='result'/>")
    error = error_to(request, StanzaError("service-unavailable"))
    assert error == client(
        "<iq to='a@b.example/x' from='b.example' id='7' type='error'><error type='cancel'>"
        "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )


@pytest.mark.parametrize("xml", ["<message type='error'/>", "<iq type='error' id='1'/>", "<iq type='result' id='1'/>"])
@pytest.mark.security(statement=54)
def test_error_and_result_are_never_answered_by_an_error(xml: str) -> None:
    assert error_to(stanza(xml), StanzaError("bad-request")) is None


def test_message_without_id_is_answered_without_id() -> None:
    assert error_to(stanza("<message to='x@b.example'/>"), StanzaError("service-unavailable")) == client(
        "<message from='x@b.example' type='error'><error type='cancel'>"
        "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
    )
