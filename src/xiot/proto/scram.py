# SPDX-License-Identifier: Apache-2.0
"""SCRAM-SHA-1 and SCRAM-SHA-256, with and without channel binding, both ends (RFC 5802, RFC 7677).

Theory of operation::

    client                                              server
    first()       --- gs2-header n=user,r=nonce --->    first()       who is it? the shell looks the keys up
    challenge()   <-- r=nonce..,s=salt,i=count ----     challenge()
      the shell runs salted_password(), off the loop
    final()       --- c=binding,r=nonce..,p=proof ->    final()       the proof is checked, and only here
    verify()      <-- v=signature ------------------

The server's first message also carries ``h=..``, a hash over all that it offered (XEP-0474): what both ends then prove
to each other covers it, so nobody on the way can have shortened the offer.

The machines compute nothing that is slow: PBKDF2 (`salted_password`) is the caller's to run where it may block.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from precis_i18n import get_profile

from xiot.errors import AuthError

HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
"""Mechanism (without ``-PLUS``) to the name of its hash."""

_DIGEST = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}  # by name it takes twice as long

MIN_ITERATIONS = 4096
"""RFC 7677 section 4; with fewer, a hostile server could guess the password from one answer of ours."""
MAX_ITERATIONS = 1_000_000
"""About a second of a desktop's CPU: with more, a hostile server could keep a device busy for ever."""
SALT_BYTES = 16
"""Length of every salt we make. The salts of accounts that do not exist must not stand out."""

_EXTENSIONS = r"(?:,[A-Za-z]=[^,\0]+)*"
_CLIENT_FIRST = re.compile(
    r"(?P<gs2>(?P<flag>[ny]|p=(?P<binding>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,\0]+))?,)"
    r"(?P<bare>(?P<mandatory>m=[^,\0]*,)?n=(?P<username>[^,\0]+),r=(?P<nonce>[!-+\--~]+)" + _EXTENSIONS + ")"
)
_SERVER_FIRST = re.compile(
    r"(?P<mandatory>m=[^,\0]*,)?r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[^,]+),i=(?P<iterations>[1-9][0-9]{0,9})"
    rf"(?P<extensions>{_EXTENSIONS})"
)
_CLIENT_FINAL = re.compile(
    r"(?P<bare>c=(?P<binding>[^,]+),r=(?P<nonce>[!-+\--~]+)" + _EXTENSIONS + r"),p=(?P<proof>[^,]+)"
)
_SERVER_FINAL = re.compile(r"(?:e=(?P<error>[^,\0]+)|v=(?P<signature>[^,]+))" + _EXTENSIONS)


class ScramError(AuthError):
    """The server refuses; `value` is the server-error-value of RFC 5802 section 7."""

    def __init__(self, value: str, condition: str = "not-authorized") -> None:
        super().__init__(condition, value)
        self.value = value


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps instead of the password (RFC 5802 section 3)."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def secrets_equal(a: bytes, b: bytes) -> bool:
    """Return whether `a` equals `b`, in a time that does not tell where they differ: the one compare of secrets."""
    return hmac.compare_digest(a, b)


def offer_hash(mechanism: str, mechanisms: Iterable[str], binding_types: Iterable[str] | None) -> str:
    """Return the attribute ``h`` of XEP-0474 section 5.1 over what a server offers, for a login by `mechanism`.

    `mechanisms` are those of the SASL profile in use; `binding_types` None if the server does not tell them (XEP-0440).
    """
    lists = [mechanisms] if binding_types is None else [mechanisms, binding_types]
    text = b"\x1f".join(b"\x1e".join(sorted(name.encode() for name in names)) for names in lists)
    return _base64(hashlib.new(_hash(mechanism), text).digest())


def decode_base64(text: str) -> bytes:
    """Return the octets of `text`. Raises ValueError on all but the one canonical form (RFC 4648 section 3)."""
    data = a2b_base64(text)
    if b2a_base64(data, newline=False) != text.encode("ascii"):
        raise ValueError("not canonical base64")
    return data


def prepare_password(password: str) -> str:
    """Return `password` prepared by the OpaqueString profile (RFC 8265 section 4.2). Raises ValueError."""
    if password and password.isascii() and password.isprintable():
        return password
    try:
        return get_profile("OpaqueString").enforce(password)
    except UnicodeError:  # its text quotes the password
        raise ValueError("the password is empty or has characters that RFC 8265 section 4.2 forbids") from None


def salted_password(mechanism: str, password: str, salt: bytes, iterations: int) -> bytes:
    """Return the SaltedPassword of RFC 5802 section 3. Slow by design: up to a second of CPU. Raises ValueError."""
    return hashlib.pbkdf2_hmac(_hash(mechanism), prepare_password(password).encode(), salt, iterations)


def derive_keys(mechanism: str, password: str, salt: bytes, iterations: int) -> ScramKeys:
    """Return the keys to keep for `password`. As slow as `salted_password`. Raises ValueError if it is not allowed."""
    name = _hash(mechanism)
    salted = salted_password(mechanism, password, salt, iterations)
    stored_key = hashlib.new(name, hmac.digest(salted, b"Client Key", name)).digest()
    return ScramKeys(salt, iterations, stored_key, hmac.digest(salted, b"Server Key", name))


def check_password(mechanism: str, password: str, keys: ScramKeys) -> bool:
    """Return whether `keys` were derived from `password` (SASL PLAIN). As slow as `salted_password`."""
    try:
        stored_key = derive_keys(mechanism, password, keys.salt, keys.iterations).stored_key
    except ValueError:
        return False
    return secrets_equal(stored_key, keys.stored_key)


def fake_keys(mechanism: str, username: str, secret: bytes, iterations: int) -> ScramKeys:
    """Return keys for a user that does not exist: stable as a real user's are, and that no password fits.

    So that nobody learns who has an account, `secret` has to outlive restarts, and `iterations` be those of accounts.
    """
    salt, stored_key, server_key = (
        hmac.digest(secret, f"{label}\0{_hash(mechanism)}\0{username}".encode(), _hash(mechanism))
        for label in ("salt", "stored", "server")
    )
    return ScramKeys(salt[:SALT_BYTES], iterations, stored_key, server_key)


class ScramClient:
    """The client's side of one exchange.

    `binding` is type and data of a channel binding that we could use. A ``-PLUS`` mechanism uses it; any other tells
    the server that it offered none (gs2 flag ``y``): one that did then sees that somebody cut it out. `offered` is the
    `offer_hash` of what reached us; a server that sends another one ends the login, and so does one that sends none
    if `must_prove`.
    """

    def __init__(
        self,
        mechanism: str,
        username: str,
        *,
        authzid: str | None = None,
        binding: tuple[str, bytes] | None = None,
        offered: str | None = None,
        must_prove: bool = False,
        nonce: str | None = None,
    ) -> None:
        self._hash = _hash(mechanism)
        self._offered = offered
        self._must_prove = must_prove
        flag, self._binding_data = "n" if binding is None else "y", b""
        if mechanism.endswith("-PLUS"):
            if binding is None:
                raise ValueError(f"{mechanism} needs a channel binding")
            flag, self._binding_data = f"p={binding[0]}", binding[1]
        self._gs2 = f"{flag},{'' if authzid is None else 'a=' + _escape(authzid)},"
        self._nonce = nonce or secrets.token_urlsafe(24)
        self._first_bare = f"n={_escape(username)},r={self._nonce}"
        self._server_first = ""
        self._signature = b""

    def first(self) -> bytes:
        """Return the client-first-message."""
        return (self._gs2 + self._first_bare).encode()

    def challenge(self, data: bytes) -> tuple[bytes, int]:
        """Take the server-first-message; return salt and iteration count for `salted_password`. Raises AuthError."""
        self._server_first = data.decode(errors="replace")
        match = _SERVER_FIRST.fullmatch(self._server_first)
        if match is None:
            raise AuthError("malformed-challenge")
        if match["mandatory"]:
            raise AuthError("malformed-challenge", "an extension is mandatory that we do not know")
        if not match["nonce"].startswith(self._nonce) or match["nonce"] == self._nonce:
            raise AuthError("malformed-challenge", "the server did not add to our nonce")
        self._check_offer(match["extensions"])
        self._nonce = match["nonce"]
        iterations = int(match["iterations"])
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise AuthError("iterations-out-of-range", f"{iterations} is not in {MIN_ITERATIONS} to {MAX_ITERATIONS}")
        try:
            return decode_base64(match["salt"]), iterations
        except ValueError:
            raise AuthError("malformed-challenge", "the salt is not base64") from None

    def _check_offer(self, extensions: str) -> None:
        """XEP-0474 section 5.2."""
        hashes = {text[2:] for text in extensions.split(",") if text.startswith("h=")}
        if self._offered is not None and hashes - {self._offered}:
            raise AuthError("downgrade", "what the server offers was changed on the way: its hash does not fit")
        if self._must_prove and not hashes:
            raise AuthError("downgrade", "the server offers no channel binding that we have, and does not prove it")

    def final(self, salted: bytes) -> bytes:
        """Return the client-final-message, `salted` being the SaltedPassword."""
        bare = f"c={_base64(self._gs2.encode() + self._binding_data)},r={self._nonce}"
        auth_message = f"{self._first_bare},{self._server_first},{bare}".encode()
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        stored_key = hashlib.new(self._hash, client_key).digest()
        proof = _xor(client_key, hmac.digest(stored_key, auth_message, self._hash))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._hash), auth_message, self._hash)
        return f"{bare},p={_base64(proof)}".encode()

    def verify(self, data: bytes) -> None:
        """Take the server-final-message. Raises AuthError unless it proves that the server knows our keys."""
        match = _SERVER_FINAL.fullmatch(data.decode(errors="replace"))
        if match is None:
            raise AuthError("malformed-challenge")
        if match["error"]:
            raise AuthError("not-authorized", match["error"])
        try:
            signature = decode_base64(match["signature"])
        except ValueError:
            signature = b""
        if not self._signature or not secrets_equal(signature, self._signature):
            raise AuthError("bad-server-signature", "the server does not know the password")


class ScramServer:
    """The server's side of one exchange.

    `bindings` maps each type of channel binding of this connection to its data; `offers_plus` tells whether the client
    was offered a ``-PLUS`` mechanism, and `offered` is the `offer_hash` of it all. After `first`, `username` and `authzid` hold what the client claims.
    """

    def __init__(
        self,
        mechanism: str,
        *,
        bindings: Mapping[str, bytes] | None = None,
        offers_plus: bool = False,
        offered: str | None = None,
        nonce: str | None = None,
    ) -> None:
        self._hash = _hash(mechanism)
        self._offered = offered
        self._plus = mechanism.endswith("-PLUS")
        self._offers_plus = offers_plus
        self._bindings = bindings or {}
        self._nonce = nonce or os.urandom(24).hex()
        self._binding_input = b""
        self._client_first_bare = self._server_first = ""
        self._keys = ScramKeys(b"", 0, b"", b"")
        self.username = ""
        self.authzid: str | None = None

    def first(self, data: bytes) -> str:
        """Take the client-first-message; return the user name that it claims. Raises ScramError."""
        match = _CLIENT_FIRST.fullmatch(_decode(data))
        if match is None:
            raise ScramError("other-error", "malformed-request")
        if match["mandatory"]:
            raise ScramError("extensions-not-supported", "malformed-request")
        binding = match["binding"]
        if (binding is not None) != self._plus:  # RFC 5802 section 6: the flag must be p exactly if -PLUS was chosen
            raise ScramError("channel-binding-not-supported", "malformed-request")
        if match["flag"] == "y" and self._offers_plus:
            raise ScramError("server-does-support-channel-binding")
        if binding is not None and binding not in self._bindings:
            raise ScramError("unsupported-channel-binding-type")
        self._binding_input = match["gs2"].encode() + (self._bindings[binding] if binding else b"")
        self._client_first_bare = match["bare"]
        self._nonce = match["nonce"] + self._nonce
        self.username = _unescape(match["username"])
        self.authzid = _unescape(match["authzid"]) if match["authzid"] else None
        return self.username

    def challenge(self, keys: ScramKeys) -> bytes:
        """Return the server-first-message, `keys` being those of `username`, or fake ones."""
        self._keys = keys
        self._server_first = f"r={self._nonce},s={_base64(keys.salt)},i={keys.iterations}"
        if self._offered is not None:
            self._server_first += f",h={self._offered}"
        return self._server_first.encode()

    def final(self, data: bytes) -> bytes:
        """Take the client-final-message; return the server-final-message. Raises ScramError if the proof is wrong."""
        match = _CLIENT_FINAL.fullmatch(_decode(data))
        if match is None:
            raise ScramError("other-error", "malformed-request")
        try:
            binding_input, proof = decode_base64(match["binding"]), decode_base64(match["proof"])
        except ValueError:
            raise ScramError("invalid-encoding", "malformed-request") from None
        if not secrets_equal(binding_input, self._binding_input):
            raise ScramError("channel-bindings-dont-match")
        if match["nonce"] != self._nonce:
            raise ScramError("other-error")
        auth_message = f"{self._client_first_bare},{self._server_first},{match['bare']}".encode()
        signature = hmac.digest(self._keys.stored_key, auth_message, self._hash)
        if len(proof) != len(signature):  # a longer one could have the right proof in front
            raise ScramError("invalid-proof")
        client_key = _xor(proof, signature)
        if not secrets_equal(_DIGEST[self._hash](client_key).digest(), self._keys.stored_key):
            raise ScramError("invalid-proof")
        return b"v=" + b2a_base64(hmac.digest(self._keys.server_key, auth_message, self._hash), newline=False)


def _hash(mechanism: str) -> str:
    return HASHES[mechanism.removesuffix("-PLUS")]


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ScramError("invalid-encoding", "malformed-request") from None


def _escape(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")


def _unescape(name: str) -> str:
    if "=" not in name:
        return name
    if re.search("=(?!2C|3D)", name):
        raise ScramError("invalid-username-encoding", "malformed-request")
    return name.replace("=2C", ",").replace("=3D", "=")


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))
