# SPDX-License-Identifier: Apache-2.0
"""XEP-0199: XMPP Ping."""

import pytest

from _xmppcore import Element
from xiot.errors import StanzaError
from xiot.xep import ping

from .world import World


def test_ping_is_an_empty_element() -> None:
    xml = Element.fromstring("<ping xmlns='urn:xmpp:ping'/>")
    assert ping.Ping().to_element() == xml
    assert ping.Ping.from_element(xml) == ping.Ping()


@pytest.mark.parametrize("to", [None, "plant.example", "juliet@plant.example", "romeo@plant.example/x"])
async def test_ping_measures_the_round_trip(to: str | None) -> None:
    juliet = World(ping.ext).session("juliet@plant.example/a")
    assert await ping.ping(juliet, to) == 0.25


async def test_peer_that_does_not_know_pings_has_answered() -> None:
    assert await ping.ping(World().session("juliet@plant.example/a"), "plant.example") == 0.25


async def test_other_error_is_raised() -> None:
    class Blocked(World):
        async def request(self, sender: object, stanza: Element) -> Element:
            raise StanzaError("not-acceptable")

    with pytest.raises(StanzaError, match="not-acceptable"):
        await ping.ping(Blocked().session("juliet@plant.example/a"))
