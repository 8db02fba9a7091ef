# SPDX-License-Identifier: Apache-2.0
"""How streams of XMPP are coded in EXI: the setups that have a name (XEP-0322 section 4.8, "quick setup")."""

from __future__ import annotations

import hashlib
from functools import cache

from _xmppcore.exi_stream import DEFAULT_OPTIONS, NS, ExiStream, Kind, Setup
from xiot.exi import Grammar, Options, xiot_schemas

__all__ = ["DEFAULT_OPTIONS", "NS", "OPTIONS", "SESSION", "ExiStream", "Kind", "Setup", "named", "set_id"]

OPTIONS = Options(value_max_length=64, value_partition_capacity=64, plain_numbers=True)
"""Of our setups: not strict, so that each stanza can be carried; with tables of the size that the XEP has by default."""

SESSION = "-session"
"""At the end of a configuration id of ours: tables are kept from one stanza to the next."""


@cache
def _schemas() -> Grammar:
    return xiot_schemas()


@cache
def set_id() -> str:
    """The configuration id of our schemas (the set xiot 1) with `OPTIONS`: who has other tables has another one."""
    return f"xiot-1-{hashlib.sha256(_schemas().tables()).hexdigest()[:16]}"


def named(id: str, **limits: int) -> Setup | None:
    """The setup of ours with this configuration id; None if it is none of ours. `limits`: those of `Setup`."""
    if id.removesuffix(SESSION) != set_id():
        return None
    return Setup(OPTIONS, _schemas(), keep=id.endswith(SESSION), id=id, **limits)
