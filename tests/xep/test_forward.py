# SPDX-License-Identifier: Apache-2.0
"""XEP-0297: Stanza Forwarding."""

from datetime import UTC, datetime

import pytest

from _xmppcore import JID, Element
from xiot.schema import PayloadError
from xiot.xep.forward import Forwarded

XML = (
    "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>"
    "<message from='juliet@capulet.lit/orchard' id='0202197' to='romeo@montague.lit' type='chat' xmlns='jabber:client'>"
    "<body>Yet I should kill thee with much cherishing.</body></message></forwarded>"
)


def test_example_both_ways() -> None:
    forwarded = Forwarded.from_element(Element.fromstring(XML))
    assert forwarded.to_element() == Element.fromstring(XML)
    assert forwarded.stanza.get("id") == "0202197"
    assert Forwarded.of(forwarded.stanza, datetime(2010, 7, 10, 23, 8, 25, tzinfo=UTC)) == forwarded


def test_who_forwarded_is_told() -> None:
    stanza = Element("{jabber:client}message")
    forwarded = Forwarded.of(stanza, datetime(2010, 7, 10, tzinfo=UTC), JID("room@muc"))
    assert forwarded.delay is not None
    assert forwarded.delay.from_ == "room@muc"
    assert Forwarded.of(stanza).delay is None


@pytest.mark.parametrize("child", ["", "<body xmlns='jabber:client'/>", "<message xmlns='other'/>"])
def test_what_is_no_stanza_is_refused(child: str) -> None:
    forwarded = Forwarded.from_element(Element.fromstring(f"<forwarded xmlns='urn:xmpp:forward:0'>{child}</forwarded>"))
    with pytest.raises(PayloadError, match="no stanza"):
        _ = forwarded.stanza
