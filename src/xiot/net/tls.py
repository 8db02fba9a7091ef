# SPDX-License-Identifier: Apache-2.0
"""The client's TLS contexts, which verify and are made off the loop, and what channel binding takes from a certificate."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Any

import anyio.to_thread
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def client_context(
    ca_file: str | Path | None = None,
    *,
    pins: Collection[str] = (),
    certificate: str | Path | None = None,
    key: str | Path | None = None,
) -> ssl.SSLContext:
    """A context that verifies the server's chain and name against `ca_file`, or the system's CAs (RFC 7590, RFC 6125).

    `pins`: the server's certificate or its public key (SubjectPublicKeyInfo) must have one of these SHA-256 fingerprints, in hex, with
    or without colons. They come on top of `ca_file`; without one they replace CAs, name and dates. `certificate`, `key`: PEM files of
    our own, for EXTERNAL; the key may be in the certificate's file. Raises OSError, ValueError (not a fingerprint).
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["xmpp-client"])
    if pins:
        context.sslobject_class = type("Pinned", (_Pinned,), {"pins": frozenset(map(_fingerprint, pins))})
        if ca_file is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class _Pinned(ssl.SSLObject):
    """TLS whose handshake fails unless the server is one that we know."""

    pins: frozenset[str]

    def do_handshake(self) -> None:
        super().do_handshake()
        if self.pins.isdisjoint(fingerprints(self.getpeercert(binary_form=True) or b"")):
            error = ssl.SSLCertVerificationError(1, "the certificate is none of those that are pinned")
            error.verify_message = error.strerror or ""
            raise error


def fingerprints(der: bytes) -> set[str]:
    """The SHA-256 of a certificate and of its public key, in hex: what `client_context` takes as `pins`."""
    if not der:
        return set()
    key = x509.load_der_x509_certificate(der).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {hashlib.sha256(octets).hexdigest() for octets in (der, key)}


def _fingerprint(text: str) -> str:
    digest = text.replace(":", "").lower()
    if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise ValueError(f"not the SHA-256 of a certificate or key: {text!r}")
    return digest


def verifies(context: ssl.SSLContext) -> bool:
    """Whether a server gets through this context only if it proves who it is."""
    if issubclass(context.sslobject_class, _Pinned):
        return True
    return context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


async def make_client_context(ca_file: str | Path | None = None, **options: Any) -> ssl.SSLContext:
    """`client_context`, in a worker thread: reading the system's CA files takes tens of milliseconds."""
    return await anyio.to_thread.run_sync(lambda: client_context(ca_file, **options))


def end_point(certificate: x509.Certificate) -> bytes:
    """Channel binding data of the type ``tls-server-end-point``: the certificate's hash (RFC 5929 section 4.1)."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)
