# SPDX-License-Identifier: Apache-2.0
"""XEP-0203: Delayed Delivery."""

from datetime import datetime

from xiot.ext import Extension
from xiot.schema import Payload, attr

NS = "urn:xmpp:delay"
ext = Extension("delay", spec="XEP-0203", version="2.0", features=[NS])


class Delay(Payload, tag=(NS, "delay")):
    """When a stanza was first sent, and who kept it since (section 4)."""

    from_: str | None = attr(default=None)
    stamp: datetime = attr()
