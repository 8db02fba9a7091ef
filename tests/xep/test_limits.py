# SPDX-License-Identifier: Apache-2.0
"""XEP-0478: Stream Limits Advertisement."""

import pytest

from _xmppcore import Element
from xiot.xep.limits import NS, Limits, limits

XML = f"<limits xmlns='{NS}'><max-bytes>10000</max-bytes><idle-seconds>1800</idle-seconds></limits>"


def features(*children: str) -> Element:
    return Element.fromstring(f"<features xmlns='http://etherx.jabber.org/streams'>{''.join(children)}</features>")


def test_example_both_ways() -> None:
    assert limits(features("<x xmlns='y'/>", XML)) == Limits(max_bytes=10_000, idle_seconds=1800)
    assert Limits(max_bytes=10_000, idle_seconds=1800).to_element() == Element.fromstring(XML)


@pytest.mark.parametrize(
    "xml", ["", f"<limits xmlns='{NS}'/>", f"<limits xmlns='{NS}'><max-bytes>many</max-bytes></limits>"]
)
def test_what_is_not_told_is_none(xml: str) -> None:
    assert limits(features(xml)) == Limits()
