# SPDX-License-Identifier: Apache-2.0
"""The client's TLS side: contexts that verify, made off the loop (reading the system's CA files takes tens of milliseconds)."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio.to_thread


def client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """A context that verifies the server's chain and name against `ca_file`, or the system's CAs. Raises OSError (RFC 7590, RFC 6125)."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["xmpp-client"])
    return context


async def make_client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """`client_context`, in a worker thread."""
    return await anyio.to_thread.run_sync(client_context, ca_file)
