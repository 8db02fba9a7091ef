# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: accept, in fair turns, and hand over to the pump."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import IPv6Address

import trio

from xiot.net.sockets import has_options, set_options

ACCEPTS_PER_TURN = 64  # a storm of connections must not keep the established ones waiting
BACKLOG = 1024
USER_TIMEOUT_S = 120
OUT_OF_DESCRIPTORS_S = 0.2  # pause after accept() failed for want of descriptors or memory


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 picks a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_options(sock, user_timeout_s=USER_TIMEOUT_S)  # which Linux gives to those that are accepted
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def peer_name(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """An address for logs and for counting: "192.0.2.1:5222", "[::1]:5222"."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def source_of(peer: str) -> str:
    """What limits on an address count by, of a `peer_name`: the IPv4 address, or the IPv6 network of 64 bits, which is what one customer has."""
    host = peer.rpartition(":")[0]
    if not host.startswith("["):
        return host
    prefix = int(IPv6Address(host[1:-1].partition("%")[0])) >> 64 << 64
    return f"{IPv6Address(prefix)}/64"


async def accept(listener: socket.socket, serve: Callable[[socket.socket, str], None]) -> None:
    """Accept for ever; `serve(socket, peer)` owns the connected socket."""
    family = listener.family
    inherits: bool | None = None  # until there is one to be asked
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(ACCEPTS_PER_TURN):
            try:
                descriptor, address = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                break
            except OSError as error:
                if listener.fileno() < 0:  # closed: the server stops
                    return
                if not is_passing(error):
                    raise
                await trio.sleep(OUT_OF_DESCRIPTORS_S)
                break
            # As `socket.accept` does, but for asking the listener each time what it is by way of three enums.
            sock = socket.socket(family, socket.SOCK_STREAM, 0, descriptor)
            if inherits is None:
                inherits = has_options(sock)
            if not inherits:
                set_options(sock, user_timeout_s=USER_TIMEOUT_S)
            serve(sock, peer_name(address))


def is_passing(error: OSError) -> bool:
    """True for errors of accept() that concern one connection or the moment, not the listener (accept(2))."""
    return error.errno in (
        errno.ECONNABORTED,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
        errno.EPROTO,
        errno.EINTR,
        errno.EAGAIN,
    )
