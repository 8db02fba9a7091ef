# SPDX-License-Identifier: Apache-2.0
"""What the service manager is told: sd_notify(3) of systemd. Without NOTIFY_SOCKET in the environment nothing happens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import trio


class Notifier:
    """Says how the server is doing to the socket that `environ` names."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract socket.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        for_us = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._alive_s = int(microseconds) / 2e6 if for_us and microseconds.isdecimal() else None

    def ready(self) -> None:
        """Started, or done with a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; the time lets the manager tell it from an older one."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    async def watchdog(self) -> None:
        """Say twice in each period of the manager's watchdog that the loop runs."""
        while self._alive_s:
            self._send("WATCHDOG=1")
            await trio.sleep(self._alive_s)

    def _send(self, state: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), self._address)
