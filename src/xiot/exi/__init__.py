# SPDX-License-Identifier: Apache-2.0
"""EXI 1.0: XML to compact bits and back (W3C recommendation, second edition). The codec is `_xmppcore.exi`; here schemas come to it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from _xmppcore.errors import ExiError
from _xmppcore.exi import (
    ALIGNMENTS,
    Event,
    Options,
    Session,
    builtin_types,
    decode,
    decode_events,
    encode,
    encode_events,
    read_header,
    xmpp_schemas,
)
from _xmppcore.exi_codec import Decoder, Encoder, Grammar

__all__ = [
    "ALIGNMENTS",
    "Decoder",
    "Encoder",
    "Event",
    "ExiError",
    "Grammar",
    "Options",
    "Session",
    "builtin_types",
    "compile_schemas",
    "decode",
    "decode_events",
    "encode",
    "encode_events",
    "read_header",
    "xiot_schemas",
    "xmpp_schemas",
]


@cache
def xiot_schemas() -> Grammar:
    """The grammar of the xiot set, version 1: smaller than `xmpp_schemas`, for peers that have it too (`xiot.exi.sets`); no fragments."""
    return Grammar((files("_xmppcore") / "exi_xiot_1.xeg").read_bytes())


def compile_schemas(*paths: str | Path, fragments: bool = True) -> Grammar:
    """Compile XML Schema files, and all that they import from their folder, to a grammar. Needs lxml (``xiot[exi]``).

    `fragments`: also what fragments need. Raises `xiot.exi.compiler.xsd.SchemaError`.
    """
    from xiot.exi.compiler.tables import compile_files

    return Grammar(compile_files([Path(path) for path in paths], fragments=fragments))
