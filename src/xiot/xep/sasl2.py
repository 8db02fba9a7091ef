# SPDX-License-Identifier: Apache-2.0
"""XEP-0388: Extensible SASL Profile, both ends. The stream machines do it: `xiot.proto.sasl2`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("sasl2", spec="XEP-0388", version="1.0.4")
