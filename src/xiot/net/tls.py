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

from xiot.core import JID


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
    our own, for EXTERNAL; the key may be in the certificate's file. Raises OSError, ValueError (not a fingerprint, no certificate).
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"{ca_file} holds no certificate in PEM form") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["xmpp-client"])
    if pins:
        context.sslobject_class = type("Pinned", (_Pinned,), {"pins": frozenset(map(_fingerprint, pins))})
        if ca_file is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError:
            raise ValueError(f"{key or certificate} holds no certificate with its key in PEM form") from None
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


ID_ON_XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")


def addresses(der: bytes) -> list[JID]:
    """The accounts that a certificate names, in otherNames of the type id-on-xmppAddr and nowhere else (RFC 6120 section 13.7.1.4).

    A name that is no bare JID with a local part, or not a UTF8String, is passed over.
    """
    try:
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    found: dict[JID, None] = {}
    for name in names.value.get_values_for_type(x509.OtherName):
        if name.type_id == ID_ON_XMPP_ADDR:
            try:
                jid = JID(_utf8_string(name.value))
            except ValueError:  # JidError is one
                continue
            if jid.local is not None and jid.is_bare:
                found[jid] = None
    return list(found)


def _utf8_string(der: bytes) -> str:
    """The text of a DER UTF8String. Raises ValueError."""
    if len(der) < 2 or der[0] != 0x0C:
        raise ValueError("not a UTF8String")
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start], "big")
    if len(der) != start + size:
        raise ValueError("not one UTF8String")
    return der[start:].decode()


def own_addresses(certificate: str | Path) -> list[JID]:
    """`addresses` of the first certificate in a PEM file. Raises OSError, ValueError."""
    return addresses(x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_bytes(Encoding.DER))


def end_point(certificate: x509.Certificate) -> bytes:
    """Channel binding data of the type ``tls-server-end-point``: the certificate's hash (RFC 5929 section 4.1)."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)
