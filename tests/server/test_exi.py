# SPDX-License-Identifier: Apache-2.0
"""Streams in EXI (XEP-0322)."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import xiot
from xiot.client import Client
from xiot.core import Element, parse_element
from xiot.errors import StanzaError, XiotError
from xiot.exi import Options
from xiot.exi.aliases import grammar, known
from xiot.exi.configurations import ExiStream, Kind, Setup
from xiot.proto import exi
from xiot.server.fetch import FetchError, fetch

from .attacks import HEADER, SASL, Peer
from .serving import HOST, PASSWORD, Running, next_of, serving, settings

LISTEN = 'listen = ["127.0.0.1:0"]\nlisten_tls = ["127.0.0.1:0"]'


async def chat(romeo: Client, juliet: Client) -> None:
    for sender, recipient, text in (
        (romeo, juliet, "art thou not Romeo & a <Montague>?"),
        (juliet, romeo, "neither, fair saint \N{ROSE}"),
        (romeo, juliet, "how cam'st thou hither, tell me, and wherefore?"),
    ):
        await sender.send_message(recipient.jid, text)
        got = await next_of(recipient.messages())
        assert (got.sender, got.type, got.body) == (sender.jid, "chat", text)
    assert await romeo.ping() > 0


async def test_a_client_in_exi_and_one_in_xml_hold_a_chat(tmp_path: Path) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding="exi", exi_address=running.exi_address) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            assert [c.over_exi for c in running.server.pump.connections()] == [True, False]
            await chat(romeo, juliet)


@pytest.mark.parametrize("encoding", ["exi", "exi-session"])
async def test_a_client_changes_to_exi_after_its_login(tmp_path: Path, encoding: Any) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding=encoding) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
            assert connection.exi is not None
            assert connection.exi.setup.keep is (encoding == "exi-session")
            await chat(romeo, juliet)
            assert connection.exi.octets_in < connection.exi.xml_in / 2


def coding(running: Running) -> Setup:
    """How the only client in EXI is coded."""
    (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
    assert connection.exi is not None
    assert connection.exi.setup is not None
    return connection.exi.setup


@pytest.mark.parametrize("chosen", ["xmpp", "xiot", "file"])
async def test_a_client_proposes_the_schemas_it_is_told(
    tmp_path: Path, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XEPs' own also to a server that has not got our set, and a file of the user's to one that takes it; what is missing is left out."""
    pytest.importorskip("lxml")
    (tmp_path / "odd.xsd").write_bytes(XSD)
    schemas: Any = chosen if chosen != "file" else [tmp_path / "odd.xsd"]
    if chosen == "xiot":
        monkeypatch.setattr("xiot.server.exi.named", lambda *_, **__: None)
    sizes = {}
    for upload in (False, True) if chosen == "file" else (False,):
        async with serving(tmp_path, exi="upload = true\nvalue_max_length = 30") as running:
            with suppress(XiotError):
                await running.account("romeo", "juliet")
            async with (
                running.connect(
                    "juliet@localhost/balcony", encoding="exi", exi_schemas=schemas, exi_upload=upload
                ) as juliet,
                running.connect("romeo@localhost/orchard") as romeo,
            ):
                await chat(romeo, juliet)
                setup = coding(running)
                assert (setup.options.value_max_length, setup.options.strict) == (30, False)
                sizes[upload] = len(setup.coders()[0].encode(b"<odd xmlns='urn:odd' n='7'/>")[0])
                first = setup.id
                next(c for c in running.server.pump.connections() if c.over_exi).drop("test")
                with trio.fail_after(20):
                    await chat(romeo, juliet)
                assert coding(running).id == first  # named by its id
    if chosen == "file":
        assert sizes[True] < sizes[False] / 2


async def test_schemas_that_cannot_be_used_are_refused_before_anybody_is_called(tmp_path: Path) -> None:
    pytest.importorskip("lxml")
    bad = tmp_path / "bad.xsd"
    for data in b"<", XSD.replace(b"xs:int", b"nowhere"):
        bad.write_bytes(data)
        with pytest.raises(ValueError):
            async with xiot.connect("a@localhost", "b", address="127.0.0.1:1", encoding="exi", exi_schemas=[bad]):
                pass


async def test_a_thing_in_exi_is_read_by_a_client_in_xml(tmp_path: Path) -> None:
    boiler = xiot.Thing("boiler", allow=lambda *_: True)

    @boiler.field("temperature", unit="Cel")
    def temperature() -> float:
        return 23.5

    async with serving(tmp_path) as running:
        await running.account("boiler", "app")
        async with (
            running.connect("boiler@localhost/x", encoding="exi-session") as device,
            running.connect("app@localhost/y") as app,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(device.serve, boiler)
            for _ in range(3):
                reading = await app.things.read("boiler@localhost/x")
                assert reading["temperature"].value == 23.5
            nursery.cancel_scope.cancel()


async def test_a_stream_in_exi_is_resumed(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding="exi-session") as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            await chat(romeo, juliet)
            (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
            connection.drop("cut")
            for number in range(20):
                await juliet.send_message(romeo.jid, str(number))
            messages = romeo.messages()
            assert [(await next_of(messages)).body for _ in range(20)] == [str(number) for number in range(20)]
            (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
            await chat(romeo, juliet)


async def test_what_a_strict_stream_cannot_carry_comes_back_as_not_acceptable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiot.server.exi.named", lambda *_, **__: None)  # as another server: the default setup is left
    async with serving(tmp_path, exi=LISTEN) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding="exi", exi_address=running.exi_address) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            odd = Element(
                "{jabber:client}message", {"to": str(romeo.jid), "id": "odd", "type": "chat", "{urn:x}y": "1"}
            )
            await juliet.send(odd)
            got = await next_of(juliet.messages())
            error = got.element.find("{jabber:client}error")
            assert (got.type, got.id, error[0].name) == ("error", "odd", "not-acceptable")
            odd.set("to", str(juliet.jid))
            with pytest.raises(StanzaError, match="not-acceptable"):
                await romeo.send(odd)
            await chat(romeo, juliet)


async def test_xml_at_the_port_for_exi_is_answered_in_xml(tmp_path: Path) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        await running.account("romeo", "juliet")
        assert running.exi_address is not None
        async with (
            xiot.connect(
                "romeo@localhost/orchard", PASSWORD, address=running.exi_address, ca_file=running.ca_file
            ) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            assert not any(c.over_exi for c in running.server.pump.connections())
            await chat(romeo, juliet)


async def test_a_client_falls_back_to_xml_if_the_server_has_no_exi(tmp_path: Path) -> None:
    async with serving(tmp_path, exi="in_band = false") as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo@localhost/orchard", encoding="exi") as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            assert not any(c.over_exi for c in running.server.pump.connections())
            await chat(romeo, juliet)


async def test_a_configuration_named_in_the_first_octets_is_used(tmp_path: Path) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect(
                "romeo@localhost/orchard", encoding="exi-session", exi_address=running.exi_address
            ) as romeo,
            running.connect("juliet@localhost/balcony") as juliet,
        ):
            (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
            assert connection.exi is not None
            assert connection.exi.setup is not None
            assert (connection.exi.setup.keep, connection.exi.setup.options.strict) == (True, False)
            await chat(romeo, juliet)


# ---- other clients: what they propose


PING = exi.Schema("urn:xmpp:ping", 602, "a2a720f5ee6da310e3a05ba89b89eb20")
LISTED = (  # as XEP-0322 lists them
    exi.Schema("http://etherx.jabber.org/streams", 3450, "68719b98725477c46a70958d1ea7c781"),
    exi.Schema("http://www.w3.org/XML/1998/namespace", 4726, "2e2cf9072dc058dcda41b7ee77a5cb54"),
    exi.Schema("jabber:client", 6968, "5e2d5cbf0506e3f16336d295093d66c4"),
    exi.Schema("urn:ietf:params:xml:ns:xmpp-stanzas", 3133, "1a8d21588424f9134dc497de64b10c3f"),
    PING,
)
LOW = Options(value_max_length=64, value_partition_capacity=64)
XSD = (
    b"<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema' targetNamespace='urn:odd' elementFormDefault='qualified'>"
    b"<xs:element name='odd'><xs:complexType><xs:attribute name='n' type='xs:int'/></xs:complexType></xs:element></xs:schema>"
)
ODD = exi.Schema("urn:odd", len(XSD), hashlib.md5(XSD, usedforsecurity=False).hexdigest())
UPLOAD = f"<uploadSchema xmlns='{exi.NS}'>{base64.b64encode(XSD).decode()}</uploadSchema>".encode()


@asynccontextmanager
async def logged_in(running: Running) -> AsyncIterator[Peer]:
    """A client of its own making, under TLS, logged in as romeo and not bound."""
    stream = trio.SSLStream(await running.raw_tls(), running.tls, server_hostname=HOST)
    peer = Peer(stream, 10)
    await peer.send(HEADER)
    await peer.until(b"</stream:features>")
    secret = base64.b64encode(f"\0romeo\0{PASSWORD}".encode()).decode()
    await peer.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{secret}</auth>".encode())
    await peer.until(b"<success")
    peer.received = b""
    await peer.send(HEADER)
    await peer.until(b"</stream:features>")
    yield peer
    await trio.aclose_forcefully(stream)


async def setup(peer: Peer, request: exi.Request) -> exi.Answer:
    peer.received = b""
    await peer.send(exi.build_request(request).tobytes())
    while True:
        assert await peer.receive(), "closed"
        if peer.received.endswith((b"</setupResponse>", b"/>")):
            return exi.parse_answer(parse_element(peer.received))


async def ends_of_exi(peer: Peer, coded: Setup) -> list[bytes]:
    """Change to EXI, bind, and return what came."""
    peer.received = b""
    await peer.send(exi.COMPRESS)
    await peer.until(exi.COMPRESSED)
    stream = ExiStream(Kind.BOUND, coded)
    found: list[bytes] = []
    for octets in (HEADER, b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"):
        await peer.send(stream.send(octets))
        with trio.fail_after(10):
            while not found or b"features" not in b"".join(found) or (b"<iq" in octets and b"<jid>" not in found[-1]):
                octets_in = await peer.receive()
                assert octets_in, found
                stream.receive(octets_in)
                while (piece := stream.next()) is not None:
                    found.append(piece)
    return found


def coded(schemas: Iterable[exi.Schema], options: Options = LOW) -> Setup:
    files = [known(schema.namespace, schema.bytes, schema.md5) for schema in schemas]
    return Setup(replace(options, plain_numbers=True), grammar([file for file in files if file is not None]))


async def test_a_client_with_the_schemas_that_the_xep_lists_is_agreed_with_and_comes_back_by_the_id(
    tmp_path: Path,
) -> None:
    pytest.importorskip("lxml")
    request = exi.Request(LOW, False, LISTED)
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with logged_in(running) as peer:
            missing = exi.Schema("urn:nobody", 100, "0" * 32)
            told = await setup(peer, exi.Request(Options(), False, (*LISTED, missing)))
            assert (told.agreement, told.missing, told.request.schemas) == (False, (missing,), LISTED)
            assert told.request.options == LOW
            agreed = await setup(peer, request)
            assert agreed.agreement
            id = agreed.request.configuration
            assert id is not None
            found = await ends_of_exi(peer, coded(LISTED))
            assert b"romeo@localhost/" in found[-1]
    async with serving(tmp_path) as running, logged_in(running) as peer:  # after a restart
        told = await setup(peer, exi.Request(configuration=id))
        assert (told.agreement, told.request.configuration) == (True, id)
        found = await ends_of_exi(peer, coded(LISTED))
        assert b"romeo@localhost/" in found[-1]
        assert not (await Once(running).ask(exi.Request(configuration="0" * 32))).agreement


class Once:
    """One question on a stream of its own."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def ask(self, request: exi.Request) -> exi.Answer:
        async with logged_in(self._running) as peer:
            return await setup(peer, request)


@pytest.mark.security(row=20)
async def test_a_schema_is_taken_from_a_client_only_if_the_operator_lets_it(tmp_path: Path) -> None:
    pytest.importorskip("lxml")
    request = exi.Request(LOW, False, (*LISTED, ODD))
    for text, agreement in (("", False), ("upload = true\nschema_bytes = 1024", True)):
        async with serving(tmp_path, exi=text) as running:
            with suppress(XiotError):
                await running.account("romeo")
            async with logged_in(running) as peer:
                for data in UPLOAD, UPLOAD[:100] + b"!" + UPLOAD[100:], UPLOAD.replace(b"</", b"A" * 4000 + b"</"):
                    await peer.send(data)
                told = await setup(peer, request)
                assert told.missing == (() if agreement else (ODD,))
                assert told.agreement is agreement
    async with serving(tmp_path) as running:  # of the store, though no further ones are taken
        assert (await Once(running).ask(request)).agreement


def alias(schema: exi.Schema, file: str = "") -> str:
    named = f'[[exi.aliases]]\nnamespace = "{schema.namespace}"\nbytes = {schema.bytes}\nmd5 = "{schema.md5}"\n'
    return named + (f'file = "{file}"\n' if file else "")


async def test_a_schema_that_the_operator_has_named_is_known(tmp_path: Path) -> None:
    """His own, or one of ours under another name; also after a reload."""
    pytest.importorskip("lxml")
    (tmp_path / "odd.xsd").write_bytes(XSD)
    other = exi.Schema("urn:xmpp:ping", 1, "1" * 32)
    request = exi.Request(LOW, False, (*LISTED[:-1], other, ODD))
    async with serving(tmp_path, exi="\n" + alias(ODD, "odd.xsd")) as running:
        await running.account("romeo")
        assert (await Once(running).ask(request)).missing == (other,)
        running.config.write_text(settings(exi="\n" + alias(ODD, "odd.xsd") + alias(other)))
        await running.server.reload()
        agreed = await Once(running).ask(request)
        assert agreed.agreement
        assert (await Once(running).ask(exi.Request(configuration=agreed.request.configuration))).agreement
        running.config.write_text(settings(exi=""))
        await running.server.reload()
        assert (await Once(running).ask(request)).missing == (other, ODD)
        assert not (await Once(running).ask(exi.Request(configuration=agreed.request.configuration))).agreement
        (tmp_path / "odd.xsd").write_bytes(XSD + b" ")
        running.config.write_text(settings(exi="\n" + alias(ODD, "odd.xsd")))
        with pytest.raises(XiotError, match=f"bytes = {len(XSD) + 1}"):
            await running.server.reload()


@pytest.mark.parametrize(
    "url",
    [
        "http://schemas.plant.example/a.xsd",
        "https://evil.example/a.xsd",
        "https://schemas.plant.example:8443/a.xsd",
        "https://me@schemas.plant.example/a.xsd",
        "https://schemas.plant.example@evil.example/a.xsd",
        "https://schemas.plant.example.evil.example/a.xsd",
        "https://127.0.0.1/a.xsd",
        "https://[::1]/a.xsd",
        "file:///etc/passwd",
        "https://schemas.plant.example/a b",
        "https://[bad",
        "",
    ],
)
@pytest.mark.security(row=20)
async def test_nothing_is_fetched_but_by_https_from_hosts_that_are_named(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch(url, ["schemas.plant.example"], 1000)
    assert caught.value.what == "invalidUrl"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, "error"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "httpError"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n", "httpError"),
        (b"garbage\r\n\r\n", "error"),
        (b"", "error"),
    ],
    ids=["good", "large", "missing", "elsewhere", "garbage", "nothing"],
)
async def test_a_schema_is_fetched_within_bounds(tmp_path: Path, answer: bytes, what: str | None) -> None:
    authority, server_context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def serve(stream: trio.SocketStream) -> None:
        over_tls = trio.SSLStream(stream, server_context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            await over_tls.receive_some()
            await over_tls.send_all(answer)
            await over_tls.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        fetching = partial(fetch, "https://localhost/a.xsd", ["localhost"], 1000, context=context, port=port)
        if what is None:
            assert await fetching() == b"<a/>"
        else:
            with pytest.raises(FetchError) as caught:
                await fetching()
            assert caught.value.what == what
        nursery.cancel_scope.cancel()


async def test_a_download_that_is_not_allowed_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with logged_in(running) as peer:
            peer.received = b""
            await peer.send(f"<downloadSchema xmlns='{exi.NS}' url='https://127.0.0.1/'/>".encode())
            await peer.until(b"</downloadSchemaResponse>")
            assert b"result='false'" in peer.received
            assert b"<invalidUrl" in peer.received


# ---- what is no EXI


@pytest.mark.parametrize(
    ("octets", "condition"),
    [
        (b"$EXX\x80\x00\x00\x00", "undefined-condition"),
        (b"$EXI\x80" + b"\xff" * 40, "undefined-condition"),
        (b"$EXI\x9f\x00", "undefined-condition"),
        (b"<?xml version='1.0'?><a>\xff", "invalid-namespace"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "not-well-formed"),
    ],
    ids=["cookie", "garbage", "version", "xml", "http"],
)
async def test_garbage_at_the_port_for_exi_is_answered_in_its_own_syntax(
    tmp_path: Path, octets: bytes, condition: str
) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        assert running.exi_address is not None
        host, _, port = running.exi_address.rpartition(":")
        peer = Peer(await trio.open_tcp_stream(host, int(port)), 10)
        await peer.ending(octets)
        await peer.stream.aclose()
        if octets.startswith(b"$"):
            stream = ExiStream(Kind.BOUND, Setup())
            stream.receive(peer.received)
            found = b""
            while (piece := stream.next()) is not None:
                found += piece
            assert b"processing-failed" in found
            assert found.endswith(b"</stream:stream>")
        else:
            found = peer.received
        assert condition.encode() in found


async def test_exi_at_the_port_for_xml_is_answered_in_xml(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        peer = Peer(await running.raw(), 10)
        assert await peer.condition(b"$EXI\x80\x8a\x40") == "not-well-formed"
        await peer.stream.aclose()


async def test_a_configuration_that_nobody_knows_is_refused_by_streamend(tmp_path: Path) -> None:
    async with serving(tmp_path, exi=LISTEN) as running:
        assert running.exi_address is not None
        host, _, port = running.exi_address.rpartition(":")
        peer = Peer(await trio.open_tcp_stream(host, int(port)), 10)
        stream = ExiStream(Kind.INITIATING, Setup(id="nobody"))
        await peer.ending(stream.send(HEADER))
        await peer.stream.aclose()
        assert peer.received == b"$EXI\x80\x88"


async def test_a_silent_stream_in_exi_is_watched_by_two_octets(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/x", encoding="exi", ping_after_s=0.1, ping_timeout_s=5) as romeo:
            (connection,) = [c for c in running.server.pump.connections() if c.over_exi]
            assert connection.exi is not None
            await romeo.ping()
            counts = connection.exi.octets_in, connection.exi.octets_out
            with trio.fail_after(10):
                while connection.exi.octets_in < counts[0] + 4:
                    await trio.sleep(0.05)
            sent, got = connection.exi.octets_in - counts[0], connection.exi.octets_out - counts[1]
            assert sent % 2 == 0
            assert got <= sent // 2 * 3 + 2
