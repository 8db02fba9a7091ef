# SPDX-License-Identifier: Apache-2.0
"""XEP-0178: SASL EXTERNAL with certificates, client to server, both ends. See `xiot.net.tls.addresses`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("external", spec="XEP-0178", version="1.2")
