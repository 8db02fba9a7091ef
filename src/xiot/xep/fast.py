# SPDX-License-Identifier: Apache-2.0
"""XEP-0484: Fast Authentication Streamlining Tokens, both ends. See `xiot.proto.fast` and `xiot.model.tokens`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("fast", spec="XEP-0484", version="0.2.0")
