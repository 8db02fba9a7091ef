# SPDX-License-Identifier: Apache-2.0
"""One file by HTTPS, for a client that asks for it: only from hosts that the operator has named.

A server that fetches what strangers name can be made to reach where they cannot (SSRF). So: HTTPS at port 443, the host is on the list by
its name, its certificate is verified, no redirects, one request, and bounds on size and time.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import h11
import trio

FETCH_S = 10.0
PORT = 443


class FetchError(Exception):
    """It cannot be fetched: `what` and `words` are the element of XEP-0322, section 3.2.5, and its attributes."""

    def __init__(self, what: str, words: Mapping[str, str]) -> None:
        super().__init__(what)
        self.what = what
        self.words = words


async def fetch(
    url: str, hosts: Collection[str], most_bytes: int, *, context: ssl.SSLContext | None = None, port: int = PORT
) -> bytes:
    """The file at `url`, of at most `most_bytes`. Raises FetchError. `context`, `port`: for tests."""
    host, target = _allowed(url, hosts)
    try:
        with trio.fail_after(FETCH_S):
            stream = await trio.open_ssl_over_tcp_stream(
                host, port, https_compatible=True, ssl_context=context or ssl.create_default_context()
            )
            try:
                return await _get(stream, host, target, most_bytes)
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise FetchError("timeout", {"message": f"no answer within {FETCH_S:g} s"}) from None
    except (OSError, trio.BrokenResourceError, h11.ProtocolError):
        raise FetchError("error", {"message": "the host cannot be reached"}) from None


def _allowed(url: str, hosts: Collection[str]) -> tuple[str, str]:
    """Host and target of a URL that may be fetched. Raises FetchError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and parts.port in (None, PORT) and not (parts.username or parts.password)
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise FetchError("invalidUrl", {"message": "only https, without a port"})
    host = parts.hostname or ""
    if host not in hosts:
        raise FetchError("invalidUrl", {"message": "nothing is fetched from this host"})
    return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


async def _get(stream: trio.abc.Stream, host: str, target: str, most_bytes: int) -> bytes:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=16_384)
    request = h11.Request(method="GET", target=target, headers=[("Host", host), ("Connection", "close")])
    await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    data = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(16_384)))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            reason = event.reason.decode("ascii", "replace") or "no reason"
            raise FetchError("httpError", {"code": str(event.status_code), "message": reason})
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > most_bytes:
                raise FetchError("error", {"message": "it is too large"})
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return bytes(data)
