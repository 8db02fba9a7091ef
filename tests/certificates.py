# SPDX-License-Identifier: Apache-2.0
"""Certificates made on the fly, good ones and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")
DAY = timedelta(days=1)


@dataclass
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...] = ()

    def write(self, path: Path) -> Path:
        """Write key, certificate and chain into one PEM file."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for certificate in (self.certificate, *self.chain):
            pem += certificate.public_bytes(Encoding.PEM)
        path.write_bytes(pem)
        return path


def utf8_string(text: str, tag: int = 0x0C) -> bytes:
    """A DER string."""
    data = text.encode()
    assert len(data) < 128
    return bytes([tag, len(data)]) + data


def xmpp_addr(jid: str, tag: int = 0x0C, type: str = XMPP_ADDR.dotted_string) -> x509.OtherName:
    """A name as RFC 6120 section 13.7.1.4 has it."""
    return x509.OtherName(x509.ObjectIdentifier(type), utf8_string(jid, tag))


def make(
    issuer: Pair | None,
    *names: x509.GeneralName,
    cn: str = "test",
    ca: bool = False,
    usage: Sequence[x509.ObjectIdentifier] | None = (SERVER, CLIENT),
    begins: timedelta = -DAY,
    ends: timedelta = DAY,
    key: Any = None,
    chain: bool = True,
) -> Pair:
    """Sign a certificate by `issuer` (None: by itself); it begins and ends so long from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca:
        signs = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(signs, critical=True)
    elif usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    above = (issuer.certificate, *issuer.chain) if issuer is not None and chain else ()
    return Pair(builder.sign(signer, hashes.SHA256()), key, above)


def weak_key() -> Any:
    """An RSA key that nobody should trust any more."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)
