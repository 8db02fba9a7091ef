# SPDX-License-Identifier: Apache-2.0
"""Connecting to a server, in clear or in TLS, on anyio."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream
from cryptography import x509

from xiot.errors import LinkError
from xiot.net.sockets import set_options
from xiot.net.tls import end_point

CLIENT_PORT = 5222


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


async def dial(host: str, port: int) -> ByteStream:
    """A TCP connection, whose peer's vanishing is noticed within two minutes. Raises LinkError."""
    try:
        stream = await anyio.connect_tcp(host, port)
    except OSError as error:
        raise LinkError(f"cannot connect to {host}:{port}: {_reason(error)}") from error
    set_options(stream.extra(SocketAttribute.raw_socket), user_timeout_s=60)
    return stream


async def secure(stream: ByteStream, domain: str, context: ssl.SSLContext) -> TLSStream:
    """TLS as the client over `stream`; the server proves to be `domain` as `context` demands. Raises LinkError, with what was wrong."""
    try:
        return await TLSStream.wrap(
            stream, server_side=False, hostname=domain, ssl_context=context, standard_compatible=False
        )
    except ssl.SSLCertVerificationError as error:
        raise LinkError(f"the certificate of {domain} is refused: {error.verify_message}") from error
    except (ssl.SSLError, OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise LinkError(f"no TLS with {domain}: {_reason(error)}") from error


def bindings(stream: TLSStream) -> Mapping[str, bytes]:
    """Channel binding data of a TLS connection by type: ``tls-server-end-point`` (RFC 5929 section 4)."""
    der = stream.extra(TLSAttribute.peer_certificate_binary, None)
    if not der:
        return {}
    return {"tls-server-end-point": end_point(x509.load_der_x509_certificate(der))}


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
