# SPDX-License-Identifier: Apache-2.0
"""What certificates of servers the client refuses, and that it says why."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import CLIENT, DAY, Pair, make, weak_key, xmpp_addr
from xiot.core import JID
from xiot.errors import LinkError
from xiot.net.dial import dial, secure
from xiot.net.tls import addresses, client_context

HOST = "plant.example"
NAME = x509.DNSName(HOST)


def root() -> Pair:
    return make(None, cn="root", ca=True)


WRONG: dict[str, tuple[Callable[[Pair], Pair], str]] = {
    "wrong name": (lambda ca: make(ca, x509.DNSName("other.example")), "not valid for 'plant.example'"),
    "self-signed": (lambda ca: make(None, NAME), "self.signed certificate"),
    "expired": (lambda ca: make(ca, NAME, begins=-3 * DAY, ends=-DAY), "has expired"),
    "not yet valid": (lambda ca: make(ca, NAME, begins=DAY, ends=3 * DAY), "not yet valid"),
    "intermediate is no CA": (lambda ca: make(make(ca, x509.DNSName("x.example")), NAME), "invalid CA certificate"),
    "common name only": (lambda ca: make(ca, cn=HOST), "not valid for 'plant.example'"),
    "wildcard for the whole name": (lambda ca: make(ca, x509.DNSName("*")), "not valid for 'plant.example'"),
    "wildcard for a top level": (lambda ca: make(ca, x509.DNSName("*.example")), "not valid for 'plant.example'"),
    "wildcard inside a label": (lambda ca: make(ca, x509.DNSName("pl*nt.example")), "not valid for 'plant.example'"),
    "NUL in the name": (lambda ca: make(ca, x509.DNSName(HOST + "\0.evil.example")), "not valid for 'plant.example'"),
    "key for clients": (lambda ca: make(ca, NAME, usage=[CLIENT]), "unsuitable certificate purpose|unsupported certificate purpose"),
    "unknown CA": (lambda ca: make(make(None, cn="other", ca=True), NAME, chain=False), "unable to get local issuer"),
    "intermediate is missing": (
        lambda ca: make(make(ca, cn="middle", ca=True), NAME, chain=False),
        "unable to get local issuer",
    ),
    "weak key": (lambda ca: make(ca, NAME, key=weak_key()), "EE certificate key too weak"),
    "address is no name": (lambda ca: make(ca, xmpp_addr("a@plant.example")), "not valid for 'plant.example'"),
}  # fmt: skip


async def handshake(folder: Path, ca: Pair, pair: Pair) -> str:
    """Connect our client to a server with this certificate; return why that fails, or nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(pair.write(folder / "server.pem"))
    ca_file = ca.write(folder / "ca.pem")
    problem = ""

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError, ssl.SSLError):
            await stream.do_handshake()
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1"))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with await dial("127.0.0.1", port) as stream:
            try:
                await secure(stream, HOST, client_context(ca_file))
            except LinkError as error:
                problem = str(error)
        nursery.cancel_scope.cancel()
    return problem


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.security(row=(31, 32))
async def test_wrong_certificate_is_refused_and_the_error_says_why(wrong: str, tmp_path: Path) -> None:
    build, why = WRONG[wrong]
    ca = root()
    problem = await handshake(tmp_path, ca, build(ca))
    assert problem.startswith(f"the certificate of {HOST} is refused: ")
    assert re.search(why, problem), problem


@pytest.mark.parametrize(
    "build",
    [
        lambda ca: make(ca, NAME),
        lambda ca: make(make(ca, cn="middle", ca=True), NAME),
        lambda ca: make(ca, x509.DNSName("other.example"), NAME),
    ],
)
async def test_right_certificate_is_accepted(build: Callable[[Pair], Pair], tmp_path: Path) -> None:
    ca = root()
    assert await handshake(tmp_path, ca, build(ca)) == ""


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((xmpp_addr("a@b"),), ["a@b"]),
        ((xmpp_addr("A@b"), xmpp_addr("a@b"), xmpp_addr("c@b")), ["a@b", "c@b"]),
        ((xmpp_addr("b"), xmpp_addr("a@b/r"), xmpp_addr("a@b\0"), xmpp_addr("@"), xmpp_addr("")), []),
        ((xmpp_addr("a@b", tag=0x16), xmpp_addr("a@b", type="1.3.6.1.4.1.311.20.2.3")), []),
        ((x509.RFC822Name("a@b"), x509.DNSName("a.b"), x509.UniformResourceIdentifier("xmpp:a@b")), []),
        ((), []),
    ],
)
@pytest.mark.security(row=34)
def test_accounts_a_certificate_names(names: tuple[x509.GeneralName, ...], found: list[str]) -> None:
    """From id-on-xmppAddr and nowhere else."""
    pair = make(None, *names, cn="cn@plant.example")
    assert addresses(pair.certificate.public_bytes(Encoding.DER)) == [JID(text) for text in found]


def test_what_is_no_certificate_names_nobody() -> None:
    assert addresses(b"") == []
    assert addresses(b"\x30\x00") == []
