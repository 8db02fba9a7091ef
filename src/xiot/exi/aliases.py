# SPDX-License-Identifier: Apache-2.0
"""The schemas by which other programs know ours: namespace, size and MD5 as XEP-0322 lists them.

A triple stands here only where a test has proved that the schema with that MD5 and ours give the same bits. EXI has no checksum: a guess
would be silent corruption, so all others are missing (`missingSchema`): of the 124 that are listed, those 41 whose text is not known any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from xiot.exi import Grammar, compile_schemas, xiot_schemas, xmpp_schemas
from xiot.exi.sets import XIOT_1, XMPP

if TYPE_CHECKING:
    from xiot.exi.compiler.xsd import Limits

SCHEMAS = Path(__file__).parent / "schemas"
NS_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
CANONICAL = "canonical"  # the schema that imports those that two ends agree on

Triple = tuple[str, int, str]

# (namespace, bytes, MD5) of a schema that is listed: our file in `schemas`
ALIASES: dict[Triple, str] = {
    ("http://etherx.jabber.org/streams", 3450, "68719b98725477c46a70958d1ea7c781"): "streams.xsd",
    ("http://jabber.org/features/amp", 635, "cb4f48c999c1cce15df4f3129e55f381"): "amp-feature.xsd",
    ("http://jabber.org/features/compress", 670, "8ff631b7aaf9a196470ec57897251f7c"): "compress-feature.xsd",
    ("http://jabber.org/protocol/activity", 5043, "b6168aac76260aed41071fbe5c930279"): "activity.xsd",
    ("http://jabber.org/protocol/address", 1915, "8770419083d7f4044ee4b55e39e3c6e3"): "address.xsd",
    ("http://jabber.org/protocol/amp", 1858, "b929b5024af92ccb2f21af944e1caa6b"): "amp.xsd",
    ("http://jabber.org/protocol/amp#errors", 963, "7a366c21bbf2060f2658e9118bfc32e9"): "amp-errors.xsd",
    ("http://jabber.org/protocol/bytestreams", 2343, "83211fe7c25510d9254a9aa6cf31b1e0"): "bytestreams.xsd",
    ("http://jabber.org/protocol/caps", 1072, "ed68bc908f301556d1cf9ad111c34184"): "caps.xsd",
    ("http://jabber.org/protocol/chatstates", 827, "c00838d97b9c2a37ac098130a27b1b4c"): "chatstates.xsd",
    ("http://jabber.org/protocol/compress", 1505, "7ac2a9dc7472af2796be239dbc7097ac"): "compress.xsd",
    ("http://jabber.org/protocol/disco#items", 1482, "6010e2e5dafd587fc1609987805c7295"): "disco-items.xsd",
    ("http://jabber.org/protocol/http-auth", 1020, "fdd34da7014b044fd659091843d802cd"): "http-auth.xsd",
    ("http://jabber.org/protocol/ibb", 1557, "45bac4486abb974f0d92ee98d8e356de"): "ibb.xsd",
    ("http://jabber.org/protocol/mood", 3994, "93bb8be5dab135b7189c475f3d80a03a"): "mood.xsd",
    ("http://jabber.org/protocol/muc", 1322, "853ad555f102bb2b71da9a2f2787f4f9"): "muc.xsd",
    ("http://jabber.org/protocol/muc#admin", 2260, "627d39d09e18208f0b068ff3ee1e4dc2"): "muc-admin.xsd",
    ("http://jabber.org/protocol/muc#owner", 1284, "6e4e2257c1a4ba937fbdf71664a7e793"): "muc-owner.xsd",
    ("http://jabber.org/protocol/muc#unique", 512, "43f77e28d5574453f1208c653a4eb710"): "muc-unique.xsd",
    ("http://jabber.org/protocol/nick", 498, "280d55dac18c98559ea514e822d692d1"): "nick.xsd",
    ("http://jabber.org/protocol/offline", 1157, "e0c329c185c3339480a78b8662be92a0"): "offline.xsd",
    ("http://jabber.org/protocol/rosterx", 1338, "97bfd4958edef7fb962eba8fe38ce810"): "rosterx.xsd",
    ("http://jabber.org/protocol/rsm", 1379, "340cfcdf0827a12f8ba0fbca6b28aa37"): "rsm.xsd",
    ("http://jabber.org/protocol/shim", 911, "989fc4e6a95c1e763ec17245ac622c1a"): "shim.xsd",
    (
        "http://jabber.org/protocol/si/profile/file-transfer",
        1479,
        "8fbc4d2d7972696b30132a4092336122",
    ): "file-transfer.xsd",
    ("http://jabber.org/protocol/sipub", 1655, "3eafe26f5ade2fbbf0cc9d354051ead7"): "sipub.xsd",
    ("http://jabber.org/protocol/soap#fault", 856, "df3517931ab9dcc747f89e7c84851d8e"): "soap-fault.xsd",
    ("http://jabber.org/protocol/tune", 1237, "d5ba7c1a0e061e7c2c1ec325f583edfb"): "tune.xsd",
    ("http://jabber.org/protocol/xdata-layout", 2021, "c74f116543466f6a39352a2f95bc5e2d"): "xdata-layout.xsd",
    ("http://jabber.org/protocol/xdata-validate", 1874, "0ace852dda1d5e9a72427515e934b342"): "xdata-validate.xsd",
    ("http://www.w3.org/XML/1998/namespace", 4726, "2e2cf9072dc058dcda41b7ee77a5cb54"): "xml.xsd",
    ("jabber:client", 6968, "5e2d5cbf0506e3f16336d295093d66c4"): "jabber-client.xsd",
    ("jabber:iq:auth", 1075, "524d617af8f30feae26b92cd83a21d7f"): "iq-auth.xsd",
    ("jabber:iq:gateway", 766, "736df8b8976add34b6065512dad8352f"): "iq-gateway.xsd",
    ("jabber:iq:last", 700, "93a08299e6a987209704502256b21721"): "iq-last.xsd",
    ("jabber:iq:oob", 739, "556fa1cd4d36ae1780ed2e0c1053c296"): "iq-oob.xsd",
    ("jabber:iq:pass", 1274, "4cf2bab840ce9d592f573db2d1dde1ef"): "iq-pass.xsd",
    ("jabber:iq:privacy", 3116, "1dfec6d0dbd1f625f46fb3f68c188338"): "iq-privacy.xsd",
    ("jabber:iq:private", 605, "b8d0aebb2370a2f8658304ba57677623"): "iq-private.xsd",
    ("jabber:iq:roster", 1898, "936bbba0ef836bc173735c3b416ff553"): "roster.xsd",
    ("jabber:iq:time", 933, "dde555d546b4f460ba3abb9848acc2aa"): "iq-time.xsd",
    ("jabber:iq:version", 763, "22a89a8dcf2fb54710b534b85333f5a7"): "iq-version.xsd",
    ("jabber:server", 6948, "dd95bd3055dfdd69984ed427cd6356e0"): "jabber-server.xsd",
    ("jabber:server:dialback", 1606, "ddb71d38501ceea6dbf04b96aeabd6fc"): "dialback.xsd",
    ("jabber:x:conference", 1339, "d06113e71790a8b4f92fe38d0e76dda6"): "x-conference.xsd",
    ("jabber:x:data", 3562, "ed9ac8c241c7f6503887c86b3d9ef2f1"): "x-data.xsd",
    ("jabber:x:delay", 940, "60cbc644095747e5f5e987845ce3a233"): "x-delay.xsd",
    ("jabber:x:encrypted", 469, "95816171d561dad6d412112bb698aed4"): "x-encrypted.xsd",
    ("jabber:x:event", 1013, "305f4bef3c118b9d3d11d96aea753026"): "x-event.xsd",
    ("jabber:x:expire", 916, "2c4f88b96a5ba140532788ca47c6216e"): "x-expire.xsd",
    ("jabber:x:oob", 668, "d85e431c630889f65e3139d947be1cca"): "x-oob.xsd",
    ("jabber:x:roster", 1077, "00cb233dee83919067559c5dcee04f3d"): "x-roster.xsd",
    ("jabber:x:signed", 463, "979b382c4f4b0d9278f184f078e291c3"): "x-signed.xsd",
    ("storage:bookmarks", 1588, "a500b821a46a4dece20671abe259c4fd"): "bookmarks.xsd",
    ("storage:rosternotes", 1045, "2d5a4c3e97af7650a941b74473b18903"): "rosternotes.xsd",
    ("urn:ietf:params:xml:ns:xmpp-bind", 852, "ef4bc7405e969b05e1df4c0f8fbb5e71"): "bind.xsd",
    ("urn:ietf:params:xml:ns:xmpp-e2e", 598, "da2132f0a69fc389685a7c8fe7f66e92"): "e2e.xsd",
    ("urn:ietf:params:xml:ns:xmpp-sasl", 2769, "fd9a83f5c75628486ce18c0eb3a35995"): "sasl.xsd",
    ("urn:ietf:params:xml:ns:xmpp-session", 444, "cc1dad32ba05d18407579b7a1c98c64b"): "session.xsd",
    ("urn:ietf:params:xml:ns:xmpp-stanzas", 3133, "1a8d21588424f9134dc497de64b10c3f"): "stanzaerror.xsd",
    ("urn:ietf:params:xml:ns:xmpp-streams", 3315, "75cd95aecb9f1fd66110c3ddcf00c9b8"): "streamerror.xsd",
    ("urn:ietf:params:xml:ns:xmpp-tls", 688, "dc18bc4da35bc1be7a6c52aa43330825"): "tls.xsd",
    ("urn:xmpp:archive", 10355, "379f31dbd639e577cc3671989f89eac7"): "archive.xsd",
    ("urn:xmpp:attention:0", 621, "42f9232182d298aa92f29d300d4087c5"): "attention.xsd",
    ("urn:xmpp:avatar:data", 482, "d705ada4740d78c5d404f470e61ea06c"): "avatar-data.xsd",
    ("urn:xmpp:avatar:metadata", 1782, "d8cb3ff5805145161c81f73dc4f1d5dc"): "avatar-metadata.xsd",
    ("urn:xmpp:blocking", 1437, "f9540f863f741e300e4706c8f773d02d"): "blocking.xsd",
    ("urn:xmpp:blocking:errors", 627, "28eb443b113cbe7147cfed90834a68fd"): "blocking-errors.xsd",
    ("urn:xmpp:bob", 846, "990e71ba1e657f3a587cd6f0e758c69b"): "bob.xsd",
    ("urn:xmpp:captcha", 752, "2128162d221b39d19530769ccdedd01b"): "captcha.xsd",
    ("urn:xmpp:delay", 762, "34283385814c8db0dc3ad874ae57e9ab"): "delay-listed.xsd",
    ("urn:xmpp:features:rosterver", 619, "089d67a345ba701d21c1d3316a03c7e6"): "versioning-feature.xsd",
    ("urn:xmpp:jingle:1", 4926, "29d29c6f994ce1b1cc3d5da8c1b54d80"): "jingle.xsd",
    ("urn:xmpp:jingle:apps:rtp:1", 3481, "3f1d6e7fc12ebddd3c196fb44dc0912b"): "jingle-apps-rtp.xsd",
    ("urn:xmpp:jingle:apps:rtp:errors:1", 705, "bb476ac38da026742ddb94862f8d3e1f"): "jingle-apps-rtp-errors.xsd",
    ("urn:xmpp:jingle:errors:1", 783, "fa8cefea805ce412615a0e19fcc90f29"): "jingle-errors.xsd",
    ("urn:xmpp:jingle:transports:ice-udp:1", 3103, "03a3be93d48a393e5756717d74b27efc"): "jingle-transports-ice-udp.xsd",
    ("urn:xmpp:media-element", 1051, "0d4c292aa81f6eb1ad3f8b06421e1cee"): "media-element.xsd",
    ("urn:xmpp:pie:0", 1590, "a1a80b05609760cc0bf73c81c48a8ab6"): "pie.xsd",
    ("urn:xmpp:ping", 602, "a2a720f5ee6da310e3a05ba89b89eb20"): "ping.xsd",
    ("urn:xmpp:sec-label:0", 3865, "9e98b80af0f6376c24a678d14a9a642f"): "sec-label.xsd",
    ("urn:xmpp:time", 658, "001c5347c00da7aad231504ec706fbb3"): "time.xsd",
    ("vcard-temp:x:update", 625, "edaf52356eb306390849641bdc33fdc9"): "vcard-avatar.xsd",
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


@cache
def _by_namespace() -> dict[str, Path]:
    return {triple(path.read_bytes())[0]: path for path in files(XMPP)}


def ours(namespace: str) -> Path | None:
    """Our schema file for a namespace, grammar-equal to the specification's; None if there is none."""
    return _by_namespace().get(namespace)


def files(names: Iterable[str]) -> list[Path]:
    """The schema files of a set, `xiot.exi.sets.XIOT_1` or `XMPP`."""
    return [SCHEMAS / f"{name}.xsd" for name in names]


def triples(names: Iterable[str]) -> list[Triple]:
    """What to propose to a peer that may have that set, in the order of namespaces."""
    return sorted(triple(path.read_bytes()) for path in files(names) if path.stem != CANONICAL)


def proposal(names: Iterable[str]) -> dict[Triple, Path]:
    """As `triples`, for peers that may have the documents which XEP-0322 lists instead; and the files of ours that give the same bits."""
    listed = {name: key for key, name in ALIASES.items()}
    chosen = {
        listed.get(path.name) or triple(path.read_bytes()): path for path in files(names) if path.stem != CANONICAL
    }
    return dict(sorted(chosen.items()))


def canonical(schemas: Iterable[Path | bytes], *, within_exi: bool = False, limits: Limits | None = None) -> Grammar:
    """The grammar of what two ends agreed on: files of ours, with what they import, and documents, as one canonical schema (XEP-0322).

    within_exi: on top of the default one (section 3.4). Needs lxml (``xiot[exi]``), but for the whole set of the XEPs. Raises ValueError.
    """
    schemas = list(schemas)
    if not within_exi and set(schemas) == {path for path in files(XMPP) if path.stem != CANONICAL}:
        return xmpp_schemas()
    from xiot.exi.compiler.tables import compile_canonical
    from xiot.exi.compiler.xsd import Limits

    paths = [schema for schema in schemas if isinstance(schema, Path)]
    without: tuple[str, ...] = ()
    if within_exi:
        without = () if SCHEMAS / "tls.xsd" in paths else (NS_TLS,)
        paths = [SCHEMAS / "exi.xsd", SCHEMAS / "streams.xsd", *paths]
    documents = [schema for schema in schemas if isinstance(schema, bytes)]
    return Grammar(compile_canonical(paths, documents, without=without, limits=limits or Limits()))


def grammar(agreed: Iterable[Path]) -> Grammar:
    """The grammar of the schemas that two ends agreed on, and of what these import, as one canonical schema (XEP-0322).

    That of a whole set is there. Else this needs lxml (``xiot[exi]``) and some tenths of a second. Raises ValueError: files of both sets,
    or two of one namespace, do not go together.
    """
    chosen = set(agreed) - {SCHEMAS / f"{CANONICAL}.xsd"}
    if len({path.parent for path in chosen}) > 1:
        raise ValueError("schemas of two sets do not go together")
    wanted = {*chosen, *files([CANONICAL])}
    for names, tables in ((XIOT_1, xiot_schemas), (XMPP, xmpp_schemas)):
        if wanted == set(files(names)):
            return tables()
    return compile_schemas(*sorted(wanted), fragments=False)
