# SPDX-License-Identifier: Apache-2.0
"""XEP-0322: Efficient XML Interchange (EXI) Format, both ends: streams of XMPP as compact bits.

Octets to XML and back are `_xmppcore.exi_stream`; the negotiation, on that of XEP-0138, is `xiot.proto.exi`; which setups a server has
is `xiot.server.exi`. Where the XEP can be read in several ways: bodies have no header, unless the peer's first one has the octet 0x80 in
front; the default schema is that of the XEP's own dumps, in which no element of TLS has a code; compression, comments, processing
instructions and self-contained elements are not agreed to; a stanza that a strict stream cannot carry is answered by ``not-acceptable``
and not dropped.
"""

from __future__ import annotations

from xiot.ext import Extension

ext = Extension("exi", spec="XEP-0322", version="0.6.0")
