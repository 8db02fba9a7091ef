# SPDX-License-Identifier: Apache-2.0
"""XEP-0474: SASL SCRAM Downgrade Protection, both ends. SCRAM does it: `xiot.proto.scram.offer_hash`."""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("downgrade", spec="XEP-0474", version="0.5.0")
