# SPDX-License-Identifier: Apache-2.0
"""XEP-0198: Stream Management, both ends.

The elements are in `xiot.proto.sm`; counting and keeping are the core's (`xiot.core.Link`); sessions that wait to be resumed are in
`xiot.server.resumption`.
"""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("sm", spec="XEP-0198", version="1.6.3")
