# SPDX-License-Identifier: Apache-2.0
"""XEP-0092: Software Version."""

import pytest

from _xmppcore import Element
from xiot.xep import version
from xiot.xep.version import Version

from .world import World

NAMED = "<query xmlns='jabber:iq:version'><name>xiot</name><version>0.1</version></query>"


@pytest.mark.parametrize(
    ("payload", "xml"),
    [
        (Version(), "<query xmlns='jabber:iq:version'/>"),
        (Version(name="xiot", version="0.1"), NAMED),
        (Version(name="xiot", version="0.1", os="Linux"), NAMED.replace("</query>", "<os>Linux</os></query>")),
    ],
)
def test_version_both_ways(payload: Version, xml: str) -> None:
    assert payload.to_element() == Element.fromstring(xml)
    assert Version.from_element(Element.fromstring(xml)) == payload


@pytest.mark.parametrize("to", ["plant.example", "romeo@plant.example/x"])
async def test_version_is_the_one_the_host_or_client_was_built_with(to: str) -> None:
    world = World(version.ext, services=[Version(name="xiot", version="0.1")])
    assert await version.version(world.session("juliet@plant.example/a"), to) == Version(name="xiot", version="0.1")
