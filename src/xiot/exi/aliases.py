# SPDX-License-Identifier: Apache-2.0
"""The schemas by which other programs know ours: namespace, size and MD5 as XEP-0322 lists them.

A triple stands here only where a test has proved that the schema with that MD5 and ours give the same bits. EXI has no checksum: a guess
would be silent corruption, so all others are missing (`missingSchema`). Not here: urn:xmpp:delay, whose stamp is a string in the
listed version and a dateTime in today's, which is ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from xiot.exi import Grammar, compile_schemas

SCHEMAS = Path(__file__).parent / "schemas"

Triple = tuple[str, int, str]

# (namespace, bytes, MD5) of a schema that is listed: our file in `schemas`
ALIASES: dict[Triple, str] = {
    ("http://etherx.jabber.org/streams", 3450, "68719b98725477c46a70958d1ea7c781"): "streams.xsd",
    ("http://jabber.org/features/compress", 670, "8ff631b7aaf9a196470ec57897251f7c"): "compress-feature.xsd",
    ("http://jabber.org/protocol/caps", 1072, "ed68bc908f301556d1cf9ad111c34184"): "caps.xsd",
    ("http://jabber.org/protocol/chatstates", 827, "c00838d97b9c2a37ac098130a27b1b4c"): "chatstates.xsd",
    ("http://jabber.org/protocol/compress", 1505, "7ac2a9dc7472af2796be239dbc7097ac"): "compress.xsd",
    ("http://jabber.org/protocol/disco#items", 1482, "6010e2e5dafd587fc1609987805c7295"): "disco-items.xsd",
    ("http://jabber.org/protocol/rsm", 1379, "340cfcdf0827a12f8ba0fbca6b28aa37"): "rsm.xsd",
    ("http://jabber.org/protocol/xdata-layout", 2021, "c74f116543466f6a39352a2f95bc5e2d"): "xdata-layout.xsd",
    ("http://jabber.org/protocol/xdata-validate", 1874, "0ace852dda1d5e9a72427515e934b342"): "xdata-validate.xsd",
    ("http://www.w3.org/XML/1998/namespace", 4726, "2e2cf9072dc058dcda41b7ee77a5cb54"): "xml.xsd",
    ("jabber:client", 6968, "5e2d5cbf0506e3f16336d295093d66c4"): "jabber-client.xsd",
    ("jabber:iq:last", 700, "93a08299e6a987209704502256b21721"): "iq-last.xsd",
    ("jabber:iq:roster", 1898, "936bbba0ef836bc173735c3b416ff553"): "roster.xsd",
    ("jabber:iq:version", 763, "22a89a8dcf2fb54710b534b85333f5a7"): "iq-version.xsd",
    ("jabber:server", 6948, "dd95bd3055dfdd69984ed427cd6356e0"): "jabber-server.xsd",
    ("jabber:x:data", 3562, "ed9ac8c241c7f6503887c86b3d9ef2f1"): "x-data.xsd",
    ("urn:ietf:params:xml:ns:xmpp-bind", 852, "ef4bc7405e969b05e1df4c0f8fbb5e71"): "bind.xsd",
    ("urn:ietf:params:xml:ns:xmpp-sasl", 2769, "fd9a83f5c75628486ce18c0eb3a35995"): "sasl.xsd",
    ("urn:ietf:params:xml:ns:xmpp-session", 444, "cc1dad32ba05d18407579b7a1c98c64b"): "session.xsd",
    ("urn:ietf:params:xml:ns:xmpp-stanzas", 3133, "1a8d21588424f9134dc497de64b10c3f"): "stanzaerror.xsd",
    ("urn:ietf:params:xml:ns:xmpp-streams", 3315, "75cd95aecb9f1fd66110c3ddcf00c9b8"): "streamerror.xsd",
    ("urn:ietf:params:xml:ns:xmpp-tls", 688, "dc18bc4da35bc1be7a6c52aa43330825"): "tls.xsd",
    ("urn:xmpp:attention:0", 621, "42f9232182d298aa92f29d300d4087c5"): "attention.xsd",
    ("urn:xmpp:ping", 602, "a2a720f5ee6da310e3a05ba89b89eb20"): "ping.xsd",
    ("urn:xmpp:time", 658, "001c5347c00da7aad231504ec706fbb3"): "time.xsd",
}


def triple(data: bytes) -> Triple:
    """How XEP-0322 names a schema file: its target namespace, its size and its MD5 in hexadecimal."""
    namespace = ElementTree.fromstring(data).get("targetNamespace", "")
    return namespace, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()


@cache
def _own() -> dict[Triple, Path]:
    return {triple(path.read_bytes()): path for path in sorted(SCHEMAS.rglob("*.xsd"))}


def known(namespace: str, size: int, md5: str) -> Path | None:
    """Our schema file that gives the same bits as the one of `size` bytes with that MD5, in hexadecimal; None if none does.

    Our files are known by their own size and MD5 too. `grammar` compiles what both ends know.
    """
    name = ALIASES.get((namespace, size, md5.lower()))
    return SCHEMAS / name if name is not None else _own().get((namespace, size, md5.lower()))


def grammar(files: Iterable[Path]) -> Grammar:
    """The grammar of the schemas that two ends agreed on, as one canonical schema (XEP-0322).

    Needs lxml (``xiot[exi]``) and some tenths of a second. Raises `xiot.exi.compiler.xsd.SchemaError`.
    """
    return compile_schemas(*files, SCHEMAS / "canonical.xsd", fragments=False)
