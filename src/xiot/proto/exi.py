# SPDX-License-Identifier: Apache-2.0
"""How two ends of a stream agree on EXI, and what goes wrong with it (XEP-0322 on XEP-0138); sans-IO."""

from __future__ import annotations

from xiot.core import Element
from xiot.errors import StreamError
from xiot.exi import ExiError

NS_COMPRESS = "http://jabber.org/protocol/compress"


def failure(error: ExiError) -> StreamError:
    """The stream error for octets that are no EXI of this stream (XEP-0138 section 2)."""
    if error.condition == "limit":
        return StreamError("policy-violation", error.reason)
    failed = Element(f"{{{NS_COMPRESS}}}processing-failed")
    return StreamError("undefined-condition", error.reason, Element(f"{{{NS_COMPRESS}}}failure", None, None, failed))
