# SPDX-License-Identifier: Apache-2.0
"""What operators and monitoring may ask of a running server, and how the command asks.

Two doors. The listeners of ``[http]`` answer figures and health to whoever gets there, and change nothing. The control socket, a unix socket in
the data directory that only its owner may open, also answers what names accounts, and takes orders. There is no password: who may open the
socket may read the database too.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from xiot.core import JID
from xiot.errors import StreamError, XiotError
from xiot.server.http import Answer, BadRequest, Route

if TYPE_CHECKING:
    from xiot.server.server import Server

SOCKET = "control.sock"
READY_S = 2.0  # for the store to answer, whose slowest commit is far below
ANSWER_S = 15.0  # for the command to wait: a reload reads files

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class NotRunning(XiotError):
    """No server answers on the control socket."""


class Control:
    """The routes of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.figures: Mapping[tuple[str, str], Route] = {
            ("GET", "/metrics"): self._metrics,
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
        }
        """For anybody on this host."""
        self.orders: Mapping[tuple[str, str], Route] = {
            **self.figures,
            ("GET", "/status"): self._status,
            ("POST", "/reload"): self._reload,
            ("POST", "/sessions/end"): self._end_sessions,
        }
        """For the owner."""

    async def _metrics(self, _: bytes) -> Answer:
        return Answer(await self._server.metrics.text(), type=METRICS_TYPE)

    async def _healthz(self, _: bytes) -> Answer:
        return Answer(b"ok\n", type="text/plain")  # who can say so has a loop that runs

    async def _readyz(self, _: bytes) -> Answer:
        problem: object = "the store does not answer"
        with trio.move_on_after(READY_S):
            try:
                await self._server.store.run(lambda tx: None)
                problem = None
            except XiotError as error:
                problem = error
        if problem is None:
            return Answer(b"ready\n", type="text/plain")
        return Answer(f"{problem}\n".encode(), 503, "text/plain")

    async def _status(self, _: bytes) -> Answer:
        server, tally = self._server, await self._server.metrics.tally()
        now = datetime.now(UTC)
        return _json(
            {
                "version": server.version,
                "pid": os.getpid(),
                "started": _time(server.started_at),
                "uptime_s": round((now - server.started_at).total_seconds()),
                "configuration": {
                    "loaded": _time(server.loaded_at),
                    "error": server.reload_error,
                    "waits_for_restart": server.waiting,
                },
                "listen": [
                    {"address": address, "tls": "direct" if tls else server.config.c2s.starttls}
                    for address, tls in server.addresses
                ],
                "http": server.http_addresses,
                "hosts": [
                    {
                        "name": host.domain,
                        "accounts_online": len(host.online),
                        "certificate_expires": _time(server.certificates.expiry[host.domain]),
                    }
                    for host in server.hosts.values()
                ],
                "connections": tally.connections,
                "sessions": tally.sessions.total(),
                "sessions_tls": tally.sessions[True, False] + tally.sessions[True, True],
                "sessions_exi": tally.sessions[False, True] + tally.sessions[True, True],
                "exi": dict(tally.exi),
                "sessions_detached": len(server.resumptions),
                "waiting": {
                    "paused": tally.paused,
                    "choked": tally.choked,
                    "held": server.watch.held,
                    "stalled": tally.stalled,
                },
                "stanzas": {
                    **{kind: server.metrics.stanzas[kind] for kind in ("message", "presence", "iq")},
                    "routed": server.router.routed,
                },
                "bytes_in": tally.bytes_in,
                "bytes_out": tally.bytes_out,
                "queued_bytes": tally.queued_bytes,
            }
        )

    async def _reload(self, _: bytes) -> Answer:
        try:
            return _json({"waits_for_restart": await self._server.reload()})
        except XiotError as error:
            return _json({"error": str(error)}, 409)

    async def _end_sessions(self, body: bytes) -> Answer:
        try:
            jid = JID(json.loads(body)["jid"])
        except (ValueError, KeyError, TypeError):
            raise BadRequest('the body is not like {"jid": "juliet@example.org"}') from None
        error = StreamError("not-authorized", "the account was removed")
        return _json({"sessions": self._server.end_sessions(jid, error)})


def _json(value: object, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode() + b"\n", status)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


# ---- the socket ----


def listen(folder: Path) -> socket.socket:
    """The control socket in `folder`, for its owner only. Raises XiotError if another server runs there, OSError."""
    with suppress(NotRunning):
        ask(folder, "GET", "/healthz")
        raise XiotError(f"{folder}: another server runs with this data directory")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(folder) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)
            mask = os.umask(0o177)
            try:
                sock.bind(path)
            finally:
                os.umask(mask)
        sock.listen(16)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A name of the socket that fits into the 108 octets of sockaddr_un, however long that of the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{descriptor}"
        yield f"{short if os.path.exists(short) else folder}/{SOCKET}"
    finally:
        os.close(descriptor)


class _Connection(http.client.HTTPConnection):
    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with _short(self._folder) as path:
            self.sock.connect(path)


def ask(folder: Path, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask the server whose data is in `folder`. Returns the HTTP status and the answer. Raises NotRunning, XiotError."""
    connection = _Connection(folder)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text.decode().strip()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            raise NotRunning(f"no server runs with the data directory {folder}") from None
        raise XiotError(f"{folder / SOCKET}: {error.strerror or 'no answer in time'}") from None
    except (http.client.HTTPException, ValueError) as error:
        raise XiotError(f"{folder / SOCKET}: {type(error).__name__}") from None
    finally:
        connection.close()
