# SPDX-License-Identifier: Apache-2.0
"""The client against our server, and against servers that lie."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketStream

import xiot
from tests.client.both import listening, next_of, on_both, served
from tests.server.serving import PASSWORD
from xiot.client import inbox
from xiot.core import Element
from xiot.ext import Extension
from xiot.schema import Payload, attr
from xiot.stanzas import iq
from xiot.xep import standard
from xiot.xep.ping import Ping

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    b" from='localhost' id='1' version='1.0'>"
)


@asynccontextmanager
async def liar(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives one answer to each thing it receives, whatever it is; its address, and what it received."""
    heard: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        for answer in answers:
            heard.append(await stream.receive())
            await stream.send(answer)
        while True:
            heard.append(await stream.receive())

    async with listening(serve) as address:
        yield address, heard


MECHANISMS = b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</mechanisms></stream:features>"
PLAIN = MECHANISMS % b"<mechanism>PLAIN</mechanism>"
SCRAM = MECHANISMS % b"<mechanism>SCRAM-SHA-256</mechanism><mechanism>PLAIN</mechanism>"


async def log_in(address: str, **options: object) -> None:
    with anyio.fail_after(5):
        async with xiot.connect("romeo@localhost", PASSWORD, address=address, **options):  # type: ignore[arg-type]
            raise AssertionError("logged in")


@on_both
@pytest.mark.security(row=25)
async def test_a_server_without_starttls_gets_no_credentials() -> None:
    async with liar(HEADER + SCRAM) as (address, heard):
        with pytest.raises(xiot.LinkError, match="TLS is required, but the server does not offer it"):
            await log_in(address)
        assert b"<auth" not in b"".join(heard)


@on_both
@pytest.mark.security(row=25, statement=29)
async def test_plain_is_not_sent_without_tls_unless_told_so() -> None:
    async with liar(HEADER + PLAIN) as (address, heard):
        with pytest.raises(xiot.AuthError):
            await log_in(address, tls="off")
        assert b"<auth" not in b"".join(heard)
    async with liar(HEADER + PLAIN, b"</stream:stream>") as (address, heard):
        with pytest.raises(xiot.XiotError):
            await log_in(address, tls="off", plain_without_tls=True)
        assert base64.b64encode(b"\0romeo\0" + PASSWORD.encode()) in b"".join(heard)


@on_both
@pytest.mark.security(statement=43)
async def test_a_server_that_cannot_prove_that_it_knows_us_is_refused() -> None:
    success = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64.b64encode(b"v=AAAA") + b"</success>"
    async with liar(HEADER + SCRAM, success) as (address, _):
        with pytest.raises(xiot.AuthError):
            await log_in(address, tls="off")


@on_both
@pytest.mark.security(row=24, statement=30)
async def test_what_comes_behind_proceed_in_clear_is_refused() -> None:
    offer = b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
    proceed = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    for injected in (b"<stream:features/>", b"<!-- -->", b"x"):
        async with liar(HEADER + offer, proceed + injected) as (address, _):
            with pytest.raises(xiot.XiotError):
                await log_in(address)


@on_both
async def test_a_server_that_says_nothing_times_out() -> None:
    async with liar() as (address, _):
        with pytest.raises(TimeoutError):
            await log_in(address, timeout=0.3)


@on_both
async def test_nobody_listens() -> None:
    with pytest.raises(xiot.LinkError, match=r"cannot connect to 127.0.0.1:9"):
        await log_in("127.0.0.1:9")


@on_both
@pytest.mark.security(row=54)
async def test_iq_reply_from_other_jid_is_ignored(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet", "tybalt")
        silent = [extension for extension in standard() if extension.name != "ping"]
        async with (
            running.connect("romeo") as romeo,
            running.connect("juliet", extensions=silent) as juliet,
            running.connect("tybalt") as tybalt,
        ):

            async def silence(*_: object) -> None:
                await anyio.lowlevel.checkpoint()

            juliet._handlers.request = silence  # juliet does not answer at all

            async def forge() -> None:
                while not romeo._requests._waiting:
                    await anyio.lowlevel.checkpoint()
                await tybalt.send(iq("result", id=next(iter(romeo._requests._waiting)), to=romeo.jid))

            async with anyio.create_task_group() as nursery:
                nursery.start_soon(forge)
                with pytest.raises(TimeoutError):
                    await romeo.request("get", Ping(), to=juliet.jid, timeout=0.5)


@on_both
async def test_a_request_of_another_client_is_answered_by_the_extensions(tmp_path: Path) -> None:
    class Sum(Payload, tag=("urn:test:sum", "sum")):
        """A number asked for, and answered by one more."""

        n: int = attr()

    ext = Extension("sum", spec="test", features=["urn:test:sum"])
    from xiot.ext import SESSION, Inbound

    @ext.iq_get(Sum, at=SESSION)
    async def on_sum(query: Sum, ctx: Inbound) -> Sum:
        await anyio.lowlevel.checkpoint()
        return Sum(n=query.n + 1)

    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with (
            running.connect("romeo") as romeo,
            running.connect("juliet", extensions=[*standard(), ext]) as juliet,
        ):
            assert Sum.from_element(await romeo.request("get", Sum(n=1), to=juliet.jid)) == Sum(n=2)
            assert await romeo.ping(juliet.jid) > 0
            with pytest.raises(xiot.StanzaError, match="service-unavailable"):
                await juliet.request("get", Sum(n=1), to=romeo.jid)


@on_both
async def test_a_lost_connection_ends_requests_and_iteration(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo", reconnect=False) as romeo:

            async def cut() -> None:
                await anyio.sleep(0.1)
                await running.cut()

            async with anyio.create_task_group() as nursery:
                nursery.start_soon(cut)
                with pytest.raises(xiot.LinkError):
                    await next_of(romeo.messages())
            with pytest.raises(xiot.LinkError):
                await romeo.request("get", Ping())


@on_both
async def test_an_exception_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        with pytest.raises(ZeroDivisionError):
            async with running.connect("romeo"):
                raise ZeroDivisionError


@on_both
async def test_a_slow_application_holds_a_bounded_number_of_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SOFT", 16)
    async with served(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app") as app:
            await boiler.publish("n", Element("{urn:x}x", None, "first"))
            async with app.subscribe("n") as items:
                for number in range(90):
                    await boiler.publish("n", Element("{urn:x}x", None, str(number)))
                await anyio.sleep(0.1)
                assert len(items._items) <= 16 + 40  # what one read may bring more
                texts = [(await next_of(items)).payload.text for _ in range(91)]
                assert texts == ["first", *map(str, range(90))]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("example.org", ("example.org", 5222)),
        ("example.org:15222", ("example.org", 15222)),
        ("[::1]:5", ("::1", 5)),
        ("::1", ("::1", 5222)),
        ("192.0.2.1", ("192.0.2.1", 5222)),
    ],
)
def test_addresses(text: str, wanted: tuple[str, int]) -> None:
    from xiot.net.dial import parse_address

    assert parse_address(text) == wanted


@pytest.mark.parametrize("text", ["", ":5222", "x:0", "x:65536", "x:y", "[::1", "[::1]5"])
def test_what_is_no_address(text: str) -> None:
    from xiot.net.dial import parse_address

    with pytest.raises(ValueError, match="not an address"):
        parse_address(text)


def test_importing_the_client_loads_no_server_and_no_trio() -> None:
    import subprocess
    import sys

    code = (
        "import sys, xiot.core, xiot.model, xiot.client\n"
        "bad = {'trio', 'sqlalchemy', 'xiot.server', 'structlog', 'msgspec'} & set(sys.modules)\n"
        "sys.exit(' '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_client_under_asyncio_loads_no_trio() -> None:
    import subprocess
    import sys

    code = (
        "import asyncio, sys, xiot\n"
        "async def main():\n"
        "    try:\n"
        "        async with xiot.connect('a@localhost', 'x', address='127.0.0.1:9'): pass\n"
        "    except xiot.LinkError: pass\n"
        "asyncio.run(main())\n"
        "sys.exit('trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
