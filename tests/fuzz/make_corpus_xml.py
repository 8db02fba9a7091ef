# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpus of fuzz_xml.c to corpus/xml: streams that use each token and each error once."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='en'>"
BODIES = [
    "<message to='a@b/c' from='d@e' id='1' type='chat'><body>hi</body></message></stream:stream>",
    "<iq type='get'><query xmlns='jabber:iq:roster'/></iq> <presence/>",
    "<m a=\"x'y\" b='&lt;&#x41;&#66;&quot;&apos;&gt;&amp;'>]] > ]&#13;\r\n\t</m>",
    "<m><![CDATA[<a>]]]]><![CDATA[>&]]></m><![CDATA[between]]>text &#33;",
    "<p:m xmlns:p='u' p:a='1' q:a='2' xmlns:q='v'><p:x xmlns:p='w'/><x xmlns=''/></p:m>",
    "<m p:a='1' q:a='2' xmlns:p='u' xmlns:q='u'/>",
    "<m p:a='1' q:a='2' xmlns:p='ué' xmlns:q='&#117;&#xE9;'/>",
    "<m p:a='1' q:a='2' xmlns:p='u\r\n1' xmlns:q='u&#32;1'/>",
    "<m stream:a='1' p:a='2' xmlns:p='http://etherx.jabber.org/streams'/>",
    "<m p:a='1' xml:a='2' q:b='3' p:b='4' xmlns:p='u' xmlns:q='&#118;'/>",
    "<m a='1' a='2'/>",
    "<unbound:m/>",
    "<m xml:lang='de' xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
    "<m xmlns:p='http://www.w3.org/2000/xmlns/'/>",
    "<m xmlns:p=''/>",
    "<m>é<é ü='ñ'>日本語\U0001f600</é></m >",
    "<m><a><b><c><d><e/></d></c></b></a></m>",
    "<m a='1' b='2' c='3' d='4'/>",
    "<m xmlns:a='1' xmlns:b='2' xmlns:c='3'/>",
    "<m>" + "long text " * 12 + "</m>",
    "<m a='" + "v" * 90 + "'/>",
    "<m>&" + "n" * 80 + ";</m>",
    "<m>&#" + "0" * 80 + "65;</m>",
    "<m>&undefined;</m>",
    "<m>&#0;</m>",
    "<!-- comment -->",
    "<m><?target data?></m>",
    "<!DOCTYPE x>",
    "<?xml version='1.0'?>",
    "<m>]]></m>",
    "<m></n>",
    "<m a='<'/>",
    "<m a=1/>",
    "<1/>",
    "</stream:stream> <!-- after -->",
    "</stream:stream      >\n",
    "<m/></m>",
]
PROLOGS = [
    "",
    "<?xml version='1.0'?>",
    "\ufeff<?xml version=\"1.0\" encoding='utf-8' standalone='yes' ?>\n",
    "<?xml version='1.0' encoding='ISO-8859-1'?>",
    "<!DOCTYPE stream>",
    " ",
]
BYTES = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbf\xbf", b"\xe2\x82", b"\0", b"\x1f"]
# Limits and the way to split; fuzz_xml.c tells which byte chooses what.
WIDE = b"\x0f\x11\x00\x00"
NARROW = [b"\x00\x2a\x00\x01", b"\x91\x07\x01\x02", b"\x7e\x50\x00\x06"]


def inputs() -> list[bytes]:
    streams = [(PROLOGS[1] + ROOT + body).encode() for body in BODIES]
    streams += [(prolog + ROOT).encode() for prolog in PROLOGS]
    streams += [(ROOT + "<m>").encode() + bad + b"</m>" for bad in BYTES]
    streams += [b"<s/>", b"<s xmlns='" + b"u" * 70 + b"'></s>", (ROOT + "".join(BODIES[:5])).encode()]
    narrow = [NARROW[i % len(NARROW)] + stream for i, stream in enumerate(streams)]
    return narrow + [WIDE + stream for stream in streams]


def main() -> None:
    folder = Path(__file__).parent / "corpus" / "xml"
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs():
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
