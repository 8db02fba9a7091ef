# SPDX-License-Identifier: Apache-2.0
"""XEP-0198: Stream Management, both ends.

The elements are in `xiot.proto.sm`; counting and keeping are the core's (`xiot.core.Link`); sessions that wait to be resumed are in
`xiot.server.resumption`.

An attribute of our own, ``durable`` of ``urn:xiot:durable:0``, asks on ``<enable/>`` for a link whose every stanza is on disk before it is
acknowledged, and is granted on ``<enabled/>``: see `xiot.server.durable`. Who does not know it ignores it, as any attribute of a
foreign namespace.
"""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("sm", spec="XEP-0198", version="1.6.3")
