# SPDX-License-Identifier: Apache-2.0
"""XEP-0386: Bind 2, both ends. The stream machines do it: `xiot.proto.bind2`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("bind2", spec="XEP-0386", version="1.1.0")
