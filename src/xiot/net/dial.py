# SPDX-License-Identifier: Apache-2.0
"""Connecting to a server, in clear or in TLS, on anyio.

Of several places those of the best priority are tried first, each begun a moment after the one before or as soon as that
has failed, each with a time limit; and so are the addresses of one place (RFC 8305). The first that succeeds is taken.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, zip_longest
from typing import TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream
from cryptography import x509

from xiot.errors import LinkError
from xiot.net.dns import CLIENT_PORT, Dns, Resolver, Target, ascii_domain
from xiot.net.sockets import set_options
from xiot.net.tls import end_point

T = TypeVar("T")

STAGGER_S = 0.25  # RFC 8305 section 8
ATTEMPT_S = 10.0  # for a place: its address, the connection, and TLS if that comes first


def parse_address(text: str, default_port: int = CLIENT_PORT) -> tuple[str, int]:
    """Host and port of "example.org", "192.0.2.1:5222", "[::1]:5222" or "::1". Raises ValueError."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"not an address: {text!r}")
        port = port[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"not an address: {text!r}")
    return host, int(port) if port else default_port


async def reach(
    targets: Sequence[Target], domain: str, context: ssl.SSLContext | None, resolver: Resolver
) -> tuple[ByteStream, Target]:
    """A connection to the first of `targets` that can be reached, and which it was; with direct TLS it is a `TLSStream`.

    The next priority is tried when all of the one before have failed (RFC 2782). Raises LinkError, with why each failed.
    """
    problems: list[str] = []
    for _, equals in groupby(targets, key=lambda target: target.priority):
        try:
            return await _first([partial(_reach, target, domain, context, resolver) for target in equals])
        except LinkError as problem:
            problems.append(str(problem))
    raise LinkError("; ".join(dict.fromkeys(problems)))


async def _reach(
    target: Target, domain: str, context: ssl.SSLContext | None, resolver: Resolver
) -> tuple[ByteStream, Target]:
    stream: ByteStream = await dial(target.host, target.port, resolver)
    if target.direct_tls:
        assert context is not None
        stream = await secure(stream, domain, context)
    return stream, target


async def dial(host: str, port: int, resolver: Resolver | None = None) -> ByteStream:
    """A TCP connection, whose peer's vanishing is noticed within two minutes. Raises LinkError."""
    addresses = await (resolver or Dns()).addresses(host)
    if not addresses:
        raise LinkError(f"{host} has no address")
    families = [[a for a in addresses if (":" in a) is v6] for v6 in (":" in addresses[0], ":" not in addresses[0])]
    taking_turns = [a for a in chain.from_iterable(zip_longest(*families)) if a is not None]
    stream, _ = await _first([partial(_connect, address, host, port) for address in taking_turns])
    return stream


async def _connect(address: str, host: str, port: int) -> tuple[ByteStream, None]:
    try:
        stream = await anyio.connect_tcp(address, port)
    except OSError as error:
        raise LinkError(f"cannot connect to {host}:{port}: {_reason(error.__cause__ or error)}") from error
    set_options(stream.extra(SocketAttribute.raw_socket), user_timeout_s=60)
    return stream, None


async def _first(attempts: Sequence[Callable[[], Awaitable[tuple[ByteStream, T]]]]) -> tuple[ByteStream, T]:
    """What the first attempt that succeeds gives; the others end, and are closed. Raises LinkError if there is none."""
    won: list[tuple[ByteStream, T]] = []
    problems: list[str] = []

    async def run(attempt: Callable[[], Awaitable[tuple[ByteStream, T]]], failed: anyio.Event) -> None:
        try:
            with anyio.fail_after(ATTEMPT_S):
                found = await attempt()
        except LinkError as problem:
            problems.append(str(problem))
        except TimeoutError:
            problems.append(f"no connection within {ATTEMPT_S:g} s")
        else:
            won.append(found)
            running.cancel_scope.cancel()
        failed.set()

    try:
        async with anyio.create_task_group() as running:
            for attempt in attempts:
                failed = anyio.Event()
                running.start_soon(run, attempt, failed)
                with anyio.move_on_after(STAGGER_S):
                    await failed.wait()
    except BaseException:
        for stream, _ in won:
            await abandon(stream)
        raise
    for stream, _ in won[1:]:
        await abandon(stream)
    if not won:
        raise LinkError("; ".join(dict.fromkeys(problems)))
    return won[0]


async def abandon(stream: ByteStream) -> None:
    """Close `stream` at once, also while being cancelled."""
    with anyio.CancelScope(shield=True):
        await anyio.aclose_forcefully(stream)


async def secure(stream: ByteStream, domain: str, context: ssl.SSLContext) -> TLSStream:
    """TLS as the client over `stream`; the server proves to be `domain` as `context` demands. Raises LinkError, with what was wrong.

    If it fails the stream is closed.
    """
    try:
        return await TLSStream.wrap(
            stream, server_side=False, hostname=ascii_domain(domain), ssl_context=context, standard_compatible=False
        )
    except BaseException as error:
        await abandon(stream)
        if isinstance(error, ssl.SSLCertVerificationError):
            raise LinkError(f"the certificate of {domain} is refused: {error.verify_message}") from error
        if isinstance(error, (ssl.SSLError, OSError, anyio.BrokenResourceError, anyio.EndOfStream)):
            raise LinkError(f"no TLS with {domain}: {_reason(error)}") from error
        raise


def bindings(stream: TLSStream) -> Mapping[str, bytes]:
    """Channel binding data of a TLS connection by type: ``tls-server-end-point`` (RFC 5929 section 4)."""
    der = stream.extra(TLSAttribute.peer_certificate_binary, None)
    if not der:
        return {}
    return {"tls-server-end-point": end_point(x509.load_der_x509_certificate(der))}


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # asyncio has a text of its own
    return str(error) or type(error).__name__
