# SPDX-License-Identifier: Apache-2.0
"""XEP-0440: SASL Channel-Binding Type Capability, both ends. See `xiot.proto.features` and `xiot.proto.sasl.choose`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("binding", spec="XEP-0440", version="1.0.0")
