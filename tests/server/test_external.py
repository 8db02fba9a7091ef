# SPDX-License-Identifier: Apache-2.0
"""Logging in by a certificate (XEP-0178), and the certificates that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from cryptography import x509

import xiot
from tests.certificates import CLIENT, DAY, SERVER, Pair, make, xmpp_addr
from xiot.core import JID
from xiot.errors import AuthError, LinkError
from xiot.net.tls import client_context

from .serving import HOST, PASSWORD, Running, serving

pytestmark = pytest.mark.security(row=34)

ROMEO = xmpp_addr(f"romeo@{HOST}")


@asynccontextmanager
async def trusting(folder: Path, ca: Pair) -> AsyncIterator[Running]:
    """A server that lets certificates of `ca` log in at its first host."""
    ca.write(folder / "clients.pem")
    async with serving(folder, host='client_ca = "clients.pem"') as running:
        await running.account("romeo", "juliet")
        yield running


def root() -> Pair:
    return make(None, cn="clients", ca=True)


async def mechanism_of(running: Running, certificate: Path, name: str = "romeo", **options: Any) -> str:
    """Log in by a certificate, and by the password if that is not offered; return how."""
    settings = {"address": running.address, "ca_file": running.ca_file, "certificate": certificate, **options}
    with structlog.testing.capture_logs() as logs:
        async with xiot.connect(f"{name}@{HOST}", settings.pop("password", PASSWORD), **settings) as client:
            await client.ping()
            assert client.jid.bare == JID(f"{name}@{HOST}")
    return next(str(entry["mechanism"]) for entry in logs if entry["event"] == "c2s bound")


@pytest.mark.parametrize("tls", ["required", "direct"])
async def test_certificate_logs_in_without_a_password(tmp_path: Path, tls: str) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, ROMEO, usage=[CLIENT]).write(tmp_path / "romeo.pem")
        address = running.tls_address if tls == "direct" else running.address
        assert await mechanism_of(running, mine, password=None, tls=tls, address=address) == "EXTERNAL"


async def test_certificate_through_an_intermediate_logs_in(tmp_path: Path) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(make(ca, cn="factory", ca=True), ROMEO).write(tmp_path / "romeo.pem")
        assert await mechanism_of(running, mine) == "EXTERNAL"


async def test_certificate_of_several_accounts_logs_in_each(tmp_path: Path) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, ROMEO, xmpp_addr(f"juliet@{HOST}")).write(tmp_path / "both.pem")
        for name in ("romeo", "juliet"):
            assert await mechanism_of(running, mine, name) == "EXTERNAL"
        with pytest.raises(AuthError, match="invalid-authzid"):
            await mechanism_of(running, mine, "nobody")


async def test_certificate_of_another_account_is_not_mine(tmp_path: Path) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, ROMEO).write(tmp_path / "romeo.pem")
        with pytest.raises(AuthError, match="invalid-authzid"):
            await mechanism_of(running, mine, "juliet")


async def test_certificate_of_an_account_that_is_gone_logs_nobody_in(tmp_path: Path) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, xmpp_addr(f"nobody@{HOST}")).write(tmp_path / "nobody.pem")
        with pytest.raises(AuthError, match="not-authorized"):
            await mechanism_of(running, mine, "nobody")


async def test_without_a_certificate_nothing_changes(tmp_path: Path) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running, running.connect("romeo") as client:
        await client.ping()


async def test_host_without_a_ca_of_its_own_uses_no_certificate(tmp_path: Path) -> None:
    """The direct TLS listener asks before it knows for which host."""
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, xmpp_addr("romeo@anon.localhost")).write(tmp_path / "romeo.pem")
        async with xiot.connect(
            "anon.localhost", address=running.tls_address, ca_file=running.ca_file, certificate=mine, tls="direct"
        ) as client:
            assert client.jid.local != "romeo"


async def test_ca_of_one_host_vouches_for_nobody_of_another(tmp_path: Path) -> None:
    """TLS with the one, the stream with the other."""
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, xmpp_addr("romeo@anon.localhost"), ROMEO).write(tmp_path / "romeo.pem")
        context = client_context(running.ca_file, certificate=mine)
        stream = trio.SSLStream(await running.raw_tls(), context, server_hostname=HOST)
        async with stream.transport_stream:
            await stream.send_all(
                b"<stream:stream to='anon.localhost' version='1.0' xmlns='jabber:client' "
                b"xmlns:stream='http://etherx.jabber.org/streams'>"
            )
            received = b""
            while b"</stream:features>" not in received:
                received += await stream.receive_some()
            assert b"ANONYMOUS" in received
            assert b"EXTERNAL" not in received


# No address in it that counts: EXTERNAL is not offered.
SILENT: dict[str, tuple[x509.GeneralName, ...]] = {
    "common name alone": (),
    "mail address": (x509.RFC822Name(f"romeo@{HOST}"),),
    "DNS name": (x509.DNSName(f"romeo.{HOST}"),),
    "URI": (x509.UniformResourceIdentifier(f"xmpp:romeo@{HOST}"),),
    "account elsewhere": (xmpp_addr("romeo@elsewhere.example"),),
    "domain alone": (xmpp_addr(HOST),),
    "full JID": (xmpp_addr(f"romeo@{HOST}/r"),),
    "NUL": (xmpp_addr(f"romeo@{HOST}\0.evil.example"),),
    "wildcard": (xmpp_addr(f"*@{HOST}.*"),),
    "string of another kind": (xmpp_addr(f"romeo@{HOST}", tag=0x16),),
    "name of another kind": (xmpp_addr(f"romeo@{HOST}", type="1.3.6.1.4.1.311.20.2.3"),),
}


@pytest.mark.parametrize("wrong", SILENT)
async def test_certificate_that_names_no_account_of_ours_is_not_asked(tmp_path: Path, wrong: str) -> None:
    ca = root()
    async with trusting(tmp_path, ca) as running:
        mine = make(ca, *SILENT[wrong], cn=f"romeo@{HOST}").write(tmp_path / "romeo.pem")
        assert await mechanism_of(running, mine) == "SCRAM-SHA-256-PLUS"


# Not verified: no TLS.
REFUSED: dict[str, Callable[[Pair], Pair]] = {
    "self-signed": lambda ca: make(None, ROMEO),
    "another CA of the same name": lambda ca: make(root(), ROMEO),
    "expired": lambda ca: make(ca, ROMEO, begins=-3 * DAY, ends=-DAY),
    "not yet valid": lambda ca: make(ca, ROMEO, begins=DAY, ends=3 * DAY),
    "key for servers": lambda ca: make(ca, ROMEO, usage=[SERVER]),
    "intermediate is no CA": lambda ca: make(make(ca, x509.DNSName("x.example")), ROMEO),
    "intermediate is missing": lambda ca: make(make(ca, cn="factory", ca=True), ROMEO, chain=False),
}


@pytest.mark.parametrize("wrong", REFUSED)
async def test_certificate_that_cannot_be_verified_ends_the_connection(tmp_path: Path, wrong: str) -> None:
    ca = root()
    mine = REFUSED[wrong](ca).write(tmp_path / "romeo.pem")
    with structlog.testing.capture_logs() as logs:
        async with trusting(tmp_path, ca) as running:
            with pytest.raises(LinkError, match="closed the connection during login"):
                async with running.connect("romeo", certificate=mine):
                    pass
    ended = [entry["reason"] for entry in logs if entry["event"] == "c2s ended"]
    assert ended == ["TLS: CERTIFICATE_VERIFY_FAILED"]
