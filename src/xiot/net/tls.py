# SPDX-License-Identifier: Apache-2.0
"""The client's TLS contexts, which verify and are made off the loop, and what channel binding takes from a certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio.to_thread
from cryptography import x509
from cryptography.hazmat.primitives import hashes


def client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """A context that verifies the server's chain and name against `ca_file`, or the system's CAs. Raises OSError (RFC 7590, RFC 6125)."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["xmpp-client"])
    return context


async def make_client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """`client_context`, in a worker thread: reading the system's CA files takes tens of milliseconds."""
    return await anyio.to_thread.run_sync(client_context, ca_file)


def end_point(certificate: x509.Certificate) -> bytes:
    """Channel binding data of the type ``tls-server-end-point``: the certificate's hash (RFC 5929 section 4.1)."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)
