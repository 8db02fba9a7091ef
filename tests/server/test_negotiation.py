# SPDX-License-Identifier: Apache-2.0
"""What is on offer and what is not, and what becomes of addresses that are none, over real streams."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import trio

from .actors import stage
from .attacks import Peer, Site
from .serving import HOST, serving

COMPRESS = b"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"


@pytest.mark.security(row=16)
async def test_no_stream_is_compressed(tmp_path: Path) -> None:
    """EXI is offered as a method of compression, but nothing is deflated."""
    async with serving(tmp_path, starttls="optional", plain=True) as running:
        await running.account("mallory")
        site = Site(running, "tls", 5)
        for login, condition in ((None, "not-authorized"), ("mallory", "unsupported-stanza-type")):
            peer = await site.peer(login, header=True)
            assert re.findall(rb"<method>(.*?)</method>", peer.received) in ([], [b"exi"])
            assert await peer.condition(COMPRESS) == condition
        await site.aclose()


@pytest.mark.security(row=(17, 30, 36), statement=(34, 36, 44, 45))
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_direct_tls_speaks_xmpp_uncompressed_and_binds_to_the_certificate(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    async with serving(tmp_path) as running:
        context = running.tls
        context.minimum_version = context.maximum_version = version
        context.options &= ~ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1", "xmpp-client"])
        stream = trio.SSLStream(await running.raw_tls(), context, server_hostname=HOST)
        peer = Peer(stream, 5)
        await peer.open()
        assert stream.selected_alpn_protocol() == "xmpp-client"
        assert stream.compression() is None
        types = peer.received.partition(b"<sasl-channel-binding")[2].partition(b"</sasl-channel-binding>")[0]
        assert types.count(b"<channel-binding ") == 1
        assert b"type='tls-server-end-point'" in types
        await trio.aclose_forcefully(stream)


NO_ADDRESSES = (
    "@localhost", "romeo@", "romeo@localhost/", "a" * 1024 + "@localhost", "romeo@localhost/" + "r" * 1024, "x" * 1024,
    "ro meo@localhost", "a&lt;b@localhost", "\u2163@localhost", "romeo@localhost/\u200b", "\u00ad@localhost",
)  # fmt: skip


@pytest.mark.security(row=(64, 65), statement=60)
async def test_no_stanza_goes_to_an_address_that_is_none(tmp_path: Path) -> None:
    async with stage(tmp_path, "romeo") as play:
        romeo = await play.enter("romeo", roster=False)
        for to in NO_ADDRESSES:
            for stanza in (
                "<message to='{}'/>",
                "<presence to='{}'/>",
                "<iq id='i' type='get' to='{}'><x xmlns='u'/></iq>",
            ):
                (answer,) = await romeo.says(stanza.format(to))
                assert answer.split()[-1] == "jid-malformed", to


@pytest.mark.security(row=(64, 65))
async def test_addresses_that_are_prepared_alike_are_one_and_long_ones_are_whole(tmp_path: Path) -> None:
    async with stage(tmp_path, "jos\u00e9", "jose", "romeo") as play:
        romeo, jose = await play.enter("romeo"), await play.enter("jos\u00e9")
        await romeo.send("<message to='JOSE\u0301@LOCALHOST'><body>hi</body></message>")
        await romeo.send("<message to='jose@localhost'><body>somebody else</body></message>")
        await romeo.stanzas()
        said = " ".join(await jose.says())
        assert "hi" in said
        assert "somebody" not in said
        for end in ("1", "2"):
            await romeo.stanzas(
                f"<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='{'x' * 1022}{end}@localhost'/></query></iq>"
            )
        assert len(await romeo.fetch_roster()) == 2


@pytest.mark.security(statement=76)
async def test_requests_for_acknowledgement_are_answered_while_the_server_is_busy(tmp_path: Path) -> None:
    async with serving(tmp_path, starttls="optional", plain=True) as running:
        await running.account("romeo", "mallory", "deaf")
        site = Site(running, "tcp", 20)
        romeo, mallory = await site.peer("romeo"), await site.peer("mallory")
        deaf = await site.peer("deaf")

        async def listen() -> None:
            while await deaf.receive():
                deaf.received = b""

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(mallory.send, b"<message to='%s'><body>x</body></message>" % deaf.jid.encode() * 200_000)
            await romeo.send(b"<enable xmlns='urn:xmpp:sm:3'/>")
            for n in range(20):
                await romeo.send(b"<message to='nobody@localhost'/><r xmlns='urn:xmpp:sm:3'/>")
                await romeo.until(b"h='%d'" % (n + 1))
            nursery.cancel_scope.cancel()
        await site.aclose()
