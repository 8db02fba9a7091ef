# SPDX-License-Identifier: Apache-2.0
"""The server's TLS side: one context per host, chosen by SNI, and a development CA where no certificate is configured."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from xiot.core import JID
from xiot.net.tls import addresses, end_point
from xiot.server.config import Config, ConfigError, Host

# RFC 7590, RFC 9325: forward secrecy and AEAD only; TLS 1.3 brings its own.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
DEVELOPMENT_DAYS = 365


class Certificates:
    """The TLS contexts of all hosts of a configuration."""

    def __init__(self, config: Config) -> None:
        """Read the certificates, or make development ones. Raises ConfigError."""
        self.development_ca: Path | None = None
        """The CA file that clients have to trust, if any certificate is a development one."""
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._by_sni: dict[str, ssl.SSLContext] = {}  # SNI is of A-labels (RFC 6066 section 3)
        self._bindings: dict[str, dict[str, bytes]] = {}
        self._client_cas = {host.name: ca for host in config.hosts if (ca := config.client_ca(host)) is not None}
        self.expiry: dict[str, datetime.datetime] = {}
        """When the certificate of each host runs out."""
        for host in config.hosts:
            pair = config.key_pair(host)
            if pair is None:
                self.development_ca, certificate, key = development_certificate(config.data_dir / "tls", host.name)
                pair = certificate, key
            self._add(host, *pair)
        self.any_host = self.context(config.hosts[0].name)
        """For a direct TLS listener: begins as the first host's, and SNI switches to the one asked for."""
        self.any_host.sni_callback = self._on_sni
        if self._client_cas:  # whether a certificate is asked for is not what SNI can switch; by whom it must be, is
            self.any_host.verify_mode = ssl.CERT_OPTIONAL

    def context(self, host: str) -> ssl.SSLContext:
        """The context of a host."""
        return self._contexts[host]

    def bindings(self, host: str) -> Mapping[str, bytes]:
        """Channel binding data of a host by type (RFC 5929 section 4: ``tls-server-end-point``)."""
        return self._bindings[host]

    def adopt(self, former: Certificates, host: str) -> None:
        """Go on with what `former` has for `host`, which is not in the new configuration."""
        self._contexts[host] = self._by_sni[a_labels(host)] = former._contexts[host]
        self._bindings[host], self.expiry[host] = former._bindings[host], former.expiry[host]

    def host_of(self, tls: ssl.SSLObject) -> str:
        """The host whose certificate this handshake used."""
        return next(host for host, context in self._contexts.items() if context is tls.context)

    def certified(self, tls: ssl.SSLObject) -> list[JID]:
        """The accounts that the client's certificate names, if their host lets it log in: TLS has verified it, by that host's CAs."""
        host = self.host_of(tls)
        der = tls.getpeercert(binary_form=True) if host in self._client_cas else None
        return [jid for jid in addresses(der) if jid.domain == host] if der else []

    def _add(self, host: Host, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_SINGLE_ECDH_USE
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["xmpp-client"])
        # To resume with: a client comes back by one connection, and each ticket costs it and us a record.
        context.num_tickets = 1
        try:
            context.load_cert_chain(certificate, key)
            served = x509.load_pem_x509_certificate(certificate.read_bytes())  # the first one of the file
            self._bindings[host.name] = {"tls-server-end-point": end_point(served)}
            self.expiry[host.name] = served.not_valid_after_utc
        except OSError as error:  # ssl.SSLError is one too
            raise ConfigError(f"certificate of {host.name}: {certificate}, {key}: {error.strerror or error}") from None
        except ValueError as error:
            raise ConfigError(f"certificate of {host.name}: {certificate}: {error}") from None
        self._trust(context, host)
        self._contexts[host.name] = context
        self._by_sni[a_labels(host.name)] = context

    def _trust(self, context: ssl.SSLContext, host: Host) -> None:
        """Ask clients for a certificate, if the host lets them log in by it; one that is not good ends the handshake."""
        own = self._client_cas.get(host.name)
        # Without one of its own a host may still see one, by way of `any_host`, and does not use it.
        for file in [own] if own is not None else self._client_cas.values():
            try:
                context.load_verify_locations(file)
            except OSError as error:  # ssl.SSLError is one too
                raise ConfigError(f"client_ca of {host.name}: {file}: {error.strerror or error}") from None
        if own is not None:
            context.verify_mode = ssl.CERT_OPTIONAL

    def _on_sni(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        context = self._by_sni.get(name.lower()) if name else None
        if context is not None and context is not tls.context:  # to set it costs a copy of all that is in it
            tls.context = context
        return None  # an unknown name goes on: the stream header says host-unknown, which is clearer than an alert


def a_labels(host: str) -> str:
    """The domain as DNS and certificates know it (RFC 5891)."""
    return host if host.isascii() else idna.encode(host).decode()


def development_certificate(folder: Path, host: str) -> tuple[Path, Path, Path]:
    """A CA file, and a certificate and key for `host` that it signed; made once, made anew when they run out.

    For trying things out: nobody trusts this CA unless told to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_path, ca_key_path = folder / "ca.pem", folder / "ca.key"
    path, key_path = folder / f"{host}.pem", folder / f"{host}.key"
    if not (_fresh(ca_path) and ca_key_path.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "xiot development CA")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        ca = (
            _builder(name, name, key.public_key(), 10 * DEVELOPMENT_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(ca_key_path, _pem(key))
        _write(ca_path, ca.public_bytes(serialization.Encoding.PEM))
        path.unlink(missing_ok=True)
    ca = x509.load_pem_x509_certificate(ca_path.read_bytes())
    if not (
        _fresh(path) and key_path.exists() and x509.load_pem_x509_certificate(path.read_bytes()).issuer == ca.subject
    ):
        ca_key = serialization.load_pem_private_key(ca_key_path.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        names = x509.SubjectAlternativeName([x509.DNSName(a_labels(host))])
        certificate = (
            _builder(name, ca.subject, key.public_key(), DEVELOPMENT_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _write(key_path, _pem(key))
        _write(path, certificate.public_bytes(serialization.Encoding.PEM))
    return ca_path, path, key_path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _fresh(path: Path) -> bool:
    """True if the certificate at `path` is there and good for another week."""
    try:
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (FileNotFoundError, ValueError):
        return False
    return end - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=7)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, no = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no)


def _write(path: Path, data: bytes) -> None:
    """Replace the file, readable by the owner only."""
    new = path.with_suffix(path.suffix + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
