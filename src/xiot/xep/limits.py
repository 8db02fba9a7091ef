# SPDX-License-Identifier: Apache-2.0
"""XEP-0478: Stream Limits Advertisement: what a server takes on a stream, in its features."""

from _xmppcore import Element
from xiot.ext import Extension
from xiot.schema import Payload, PayloadError, child

NS = "urn:xmpp:stream-limits:0"
ext = Extension("limits", spec="XEP-0478", version="0.2.0")


class Limits(Payload, tag=(NS, "limits")):
    """What the sender of stream features takes (section 4.1); None: it does not tell."""

    max_bytes: int | None = child(name="max-bytes", default=None)
    """Of one stanza, or other element below the stream's."""
    idle_seconds: int | None = child(name="idle-seconds", default=None)
    """After so long without any octet the stream counts as idle, and may be ended."""


def limits(features: Element) -> Limits:
    """Return the limits in ``<stream:features/>``; those that are absent or not understood are None."""
    try:
        return Limits.from_element(features.find(Limits.TAG))
    except PayloadError:
        return Limits()
