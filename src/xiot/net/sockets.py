# SPDX-License-Identifier: Apache-2.0
"""What both ends set on their TCP sockets."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress


def set_options(sock: socket.socket, *, user_timeout_s: int) -> None:
    """Send at once, and find out that a silent peer is gone, though it never said so.

    With nothing to send after 60 s and four probes 15 s apart; with something, when it was not acknowledged for `user_timeout_s`.
    """
    options = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": 60,
        "TCP_KEEPINTVL": 15,
        "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": user_timeout_s * 1000,
    }
    with suppress(OSError):  # not every kind of socket, nor every system, has them
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def has_options(sock: socket.socket) -> bool:
    """Return whether `sock`, which was accepted, has the options of its listener: so it is on Linux, but not on all that call themselves so."""
    return sys.platform == "linux" and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
