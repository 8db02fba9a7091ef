# SPDX-License-Identifier: Apache-2.0
"""SCRAM against the vectors of its RFCs, against scramp as oracle, and against peers that do not play by the rules."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st

from xiot.errors import AuthError
from xiot.proto.scram import (
    SALT_BYTES,
    ScramClient,
    ScramError,
    ScramKeys,
    ScramServer,
    check_password,
    decode_base64,
    derive_keys,
    fake_keys,
    prepare_password,
    salted_password,
    secrets_equal,
)

MECHANISMS = ("SCRAM-SHA-1", "SCRAM-SHA-256")
BINDING = ("tls-server-end-point", b"\x00digest,of=the certificate\xff")

# RFC 5802 section 5, RFC 7677 section 3: user "user", password "pencil".
VECTORS = {
    "SCRAM-SHA-1": (
        "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}

any_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS)


def keys_of(mechanism: str, password: str = "pencil", salt: bytes = b"0123456789abcdef") -> ScramKeys:
    return derive_keys(mechanism, password, salt, 4096)


def run(
    mechanism: str,
    client: ScramClient,
    server: ScramServer,
    keys: ScramKeys,
    password: str = "pencil",
    spoil: Callable[[bytes], bytes] = bytes,
) -> None:
    """A whole exchange; `spoil` changes the client's last message."""
    server.first(client.first())
    salt, iterations = client.challenge(server.challenge(keys))
    final = client.final(salted_password(mechanism, password, salt, iterations))
    client.verify(server.final(spoil(final)))


@any_mechanism
def test_client_matches_the_vectors_of_the_rfc(mechanism: str) -> None:
    first, challenge, final, signature = (message.encode() for message in VECTORS[mechanism])
    client = ScramClient(mechanism, "user", nonce=first.rpartition(b"r=")[2].decode())
    assert client.first() == first
    salt, iterations = client.challenge(challenge)
    assert client.final(salted_password(mechanism, "pencil", salt, iterations)) == final
    client.verify(signature)


@any_mechanism
@pytest.mark.security(statement=37)
def test_server_matches_the_vectors_of_the_rfc(mechanism: str) -> None:
    first, challenge, final, signature = (message.encode() for message in VECTORS[mechanism])
    client_nonce = first.decode().rpartition("r=")[2]
    nonce, salt = challenge.decode().split(",")[:2]
    server = ScramServer(mechanism, nonce=nonce.removeprefix("r=" + client_nonce))
    assert server.first(first) == "user"
    assert server.challenge(derive_keys(mechanism, "pencil", base64.b64decode(salt[2:]), 4096)) == challenge
    assert server.final(final) == signature


names = st.text(st.characters(codec="utf-8", categories=("Ll", "Lu", "Nd", "Lo")) | st.sampled_from("=,.@"), min_size=1)
passwords = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


@pytest.mark.parametrize("mechanism", [*MECHANISMS, *(f"{name}-PLUS" for name in MECHANISMS)])
@settings(max_examples=20, deadline=None)
@given(name=st.from_regex(r"[a-z0-9=,.@]{1,20}", fullmatch=True), password=passwords)
def test_our_client_logs_in_to_scramp(mechanism: str, name: str, password: str) -> None:
    binding = BINDING if mechanism.endswith("-PLUS") else None
    oracle = scramp.ScramMechanism(mechanism)
    info = oracle.make_auth_info(password, iteration_count=4096)
    server = oracle.make_server({name: info}.__getitem__, channel_binding=binding)
    client = ScramClient(mechanism, name, binding=binding)
    server.set_client_first(client.first().decode())
    salt, iterations = client.challenge(server.get_server_first().encode())
    server.set_client_final(client.final(salted_password(mechanism, password, salt, iterations)).decode())
    client.verify(server.get_server_final().encode())


@pytest.mark.parametrize("mechanism", [*MECHANISMS, *(f"{name}-PLUS" for name in MECHANISMS)])
@settings(max_examples=20, deadline=None)
@given(name=st.from_regex(r"[a-z0-9=,.@]{1,20}", fullmatch=True), password=passwords)
def test_scramp_logs_in_to_our_server(mechanism: str, name: str, password: str) -> None:
    binding = BINDING if mechanism.endswith("-PLUS") else None
    client = scramp.ScramClient([mechanism], name, password, channel_binding=binding)
    server = ScramServer(mechanism, bindings=dict([BINDING]), offers_plus=binding is not None)
    assert server.first(client.get_client_first().encode()) == name
    client.set_server_first(server.challenge(keys_of(mechanism, password)).decode())
    client.set_server_final(server.final(client.get_client_final().encode()).decode())


@any_mechanism
def test_stored_keys_are_those_of_scramp(mechanism: str) -> None:
    salt, stored_key, server_key, iterations = scramp.ScramMechanism(mechanism).make_auth_info("pencil", 5000)
    assert derive_keys(mechanism, "pencil", salt, iterations) == ScramKeys(salt, iterations, stored_key, server_key)


@settings(max_examples=50, deadline=None)
@given(name=names, authzid=names)
def test_any_name_survives_its_escaping(name: str, authzid: str) -> None:
    server = ScramServer("SCRAM-SHA-1")
    assert server.first(ScramClient("SCRAM-SHA-1", name, authzid=authzid).first()) == name
    assert server.authzid == authzid


@any_mechanism
def test_wrong_password_is_an_invalid_proof(mechanism: str) -> None:
    with pytest.raises(ScramError) as caught:
        run(mechanism, ScramClient(mechanism, "user"), ScramServer(mechanism), keys_of(mechanism), "pen")
    assert (caught.value.value, caught.value.condition) == ("invalid-proof", "not-authorized")


@any_mechanism
@pytest.mark.security(row=40)
def test_unknown_user_fails_only_at_the_proof_and_like_a_wrong_password(mechanism: str) -> None:
    fake = fake_keys(mechanism, "nobody", b"server secret", 4096)
    assert fake == fake_keys(mechanism, "nobody", b"server secret", 4096)
    assert len(fake.salt) == SALT_BYTES
    assert fake.salt != fake_keys(mechanism, "another", b"server secret", 4096).salt
    assert fake.salt != fake_keys(mechanism, "nobody", b"other secret", 4096).salt
    with pytest.raises(ScramError) as caught:
        run(mechanism, ScramClient(mechanism, "nobody"), ScramServer(mechanism), fake)
    assert (caught.value.value, caught.value.condition) == ("invalid-proof", "not-authorized")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_changed_octet_of_the_last_message_gets_in(data: st.DataObject) -> None:
    def spoil(message: bytes) -> bytes:
        at = data.draw(st.integers(0, len(message) - 1))
        octet = data.draw(st.integers(0, 255).filter(lambda value: value != message[at]))
        return message[:at] + bytes([octet]) + message[at + 1 :]

    client, server = ScramClient("SCRAM-SHA-1", "user"), ScramServer("SCRAM-SHA-1")
    with pytest.raises(ScramError):
        run("SCRAM-SHA-1", client, server, keys_of("SCRAM-SHA-1"), spoil=spoil)


@pytest.mark.parametrize(
    "change", [lambda p: b"\0", lambda p: p[:4], lambda p: p[:8], lambda p: p + b"\0", lambda p: p * 2]
)
def test_proof_of_another_length_is_an_invalid_proof(change: Callable[[bytes], bytes]) -> None:
    def spoil(message: bytes) -> bytes:
        head, proof = message.split(b",p=")
        return head + b",p=" + base64.b64encode(change(base64.b64decode(proof)))

    with pytest.raises(ScramError) as caught:
        run(
            "SCRAM-SHA-1",
            ScramClient("SCRAM-SHA-1", "user"),
            ScramServer("SCRAM-SHA-1"),
            keys_of("SCRAM-SHA-1"),
            spoil=spoil,
        )
    assert caught.value.value == "invalid-proof"


@pytest.mark.parametrize(
    ("message", "value", "condition"),
    [
        (b"", "other-error", "malformed-request"),
        (b"n,,", "other-error", "malformed-request"),
        (b"n,,n=,r=abc", "other-error", "malformed-request"),
        (b"n,,n=user,r=", "other-error", "malformed-request"),
        (b"n,,n=user,r=a b", "other-error", "malformed-request"),
        (b"n,,n=us\0er,r=abc", "other-error", "malformed-request"),
        (b"x,,n=user,r=abc", "other-error", "malformed-request"),
        (b"n,b=x,n=user,r=abc", "other-error", "malformed-request"),
        (b"n,,r=abc,n=user", "other-error", "malformed-request"),
        (b"n,,n=\xff,r=abc", "invalid-encoding", "malformed-request"),
        (b"n,,n=us=er,r=abc", "invalid-username-encoding", "malformed-request"),
        (b"n,,n=us=2cer,r=abc", "invalid-username-encoding", "malformed-request"),
        (b"n,,m=x,n=user,r=abc", "extensions-not-supported", "malformed-request"),
        (b"p=tls-unique,,n=user,r=abc", "channel-binding-not-supported", "malformed-request"),
    ],
)
def test_bad_first_message_gets_the_error_of_the_rfc(message: bytes, value: str, condition: str) -> None:
    with pytest.raises(ScramError) as caught:
        ScramServer("SCRAM-SHA-256", bindings=dict([BINDING])).first(message)
    assert (caught.value.value, caught.value.condition) == (value, condition)


@pytest.mark.parametrize(
    ("spoil", "value"),
    [
        (lambda message: b"", "other-error"),
        (lambda message: message.replace(b",p=", b",q="), "other-error"),
        (lambda message: b"\xff" + message, "invalid-encoding"),
        (lambda message: message.replace(b"c=biws", b"c=biw"), "invalid-encoding"),
        (lambda message: message.replace(b"c=biws", b"c=biwt"), "channel-bindings-dont-match"),
        (lambda message: message.replace(b"c=biws", b"c=eSws"), "channel-bindings-dont-match"),
        (lambda message: message.replace(b",p=", b"x,p="), "other-error"),
        (lambda message: message + b"=", "invalid-encoding"),
    ],
)
def test_bad_last_message_gets_the_error_of_the_rfc(spoil: Callable[[bytes], bytes], value: str) -> None:
    mechanism = "SCRAM-SHA-1"
    with pytest.raises(ScramError) as caught:
        run(mechanism, ScramClient(mechanism, "user"), ScramServer(mechanism), keys_of(mechanism), spoil=spoil)
    assert caught.value.value == value


def test_optional_extensions_are_ignored() -> None:
    server = ScramServer("SCRAM-SHA-1")
    assert server.first(b"n,,n=user,r=abc,z=later") == "user"
    client = ScramClient("SCRAM-SHA-1", "user", nonce="abc")
    assert client.challenge(b"r=abcd,s=AAAA,i=4096,h=later") == (b"\0\0\0", 4096)


# Channel binding.


@any_mechanism
@pytest.mark.security(row=35)
def test_binding_to_another_certificate_is_refused(mechanism: str) -> None:
    mechanism += "-PLUS"
    client = ScramClient(mechanism, "user", binding=BINDING)
    server = ScramServer(mechanism, bindings={BINDING[0]: b"of the real server"}, offers_plus=True)
    with pytest.raises(ScramError) as caught:
        run(mechanism, client, server, keys_of(mechanism))
    assert caught.value.value == "channel-bindings-dont-match"


@pytest.mark.security(row=36)
def test_binding_of_a_type_not_offered_is_refused() -> None:
    client = ScramClient("SCRAM-SHA-1-PLUS", "user", binding=("tls-unique", b"x"))
    with pytest.raises(ScramError) as caught:
        ScramServer("SCRAM-SHA-1-PLUS", bindings=dict([BINDING]), offers_plus=True).first(client.first())
    assert caught.value.value == "unsupported-channel-binding-type"


@pytest.mark.security(row=37)
def test_client_that_saw_no_plus_mechanism_shows_that_somebody_cut_it_out() -> None:
    client = ScramClient("SCRAM-SHA-1", "user", binding=BINDING)
    assert client.first().startswith(b"y,,")
    with pytest.raises(ScramError) as caught:
        ScramServer("SCRAM-SHA-1", bindings=dict([BINDING]), offers_plus=True).first(client.first())
    assert caught.value.value == "server-does-support-channel-binding"


def test_flag_y_is_fine_where_the_server_offers_no_binding() -> None:
    run(
        "SCRAM-SHA-1",
        ScramClient("SCRAM-SHA-1", "user", binding=BINDING),
        ScramServer("SCRAM-SHA-1"),
        keys_of("SCRAM-SHA-1"),
    )


@pytest.mark.parametrize("flag", ["n", "y"])
def test_plus_mechanism_without_binding_is_refused(flag: str) -> None:
    with pytest.raises(ScramError):
        ScramServer("SCRAM-SHA-1-PLUS", bindings=dict([BINDING]), offers_plus=True).first(f"{flag},,n=u,r=r".encode())


def test_client_of_a_plus_mechanism_needs_a_binding() -> None:
    with pytest.raises(ValueError, match="binding"):
        ScramClient("SCRAM-SHA-1-PLUS", "user")


# What a client must not take from a server.


@pytest.mark.parametrize("iterations", [1, 4095, 1_000_001, 2**31, 9_999_999_999])
@pytest.mark.security(row=39)
def test_client_refuses_too_few_or_too_many_iterations(iterations: int) -> None:
    with pytest.raises(AuthError) as caught:
        ScramClient("SCRAM-SHA-1", "user", nonce="abc").challenge(f"r=abcd,s=AAAA,i={iterations}".encode())
    assert caught.value.condition == "iterations-out-of-range"


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=abcd,s=AAAA",
        b"r=abcd,s=AAAA,i=",
        b"r=abcd,s=AAAA,i=04096",
        b"r=abcd,s=AAAA,i=99999999999999999999999",
        b"r=abcd,s=AAA,i=4096",
        b"r=abcd,s=,i=4096",
        b"r=abc,s=AAAA,i=4096",  # nothing added to our nonce
        b"r=xabcd,s=AAAA,i=4096",
        b"m=x,r=abcd,s=AAAA,i=4096",
        b"\xff\xff",
        b"e=other-error",
    ],
)
def test_client_refuses_a_malformed_challenge(challenge: bytes) -> None:
    with pytest.raises(AuthError) as caught:
        ScramClient("SCRAM-SHA-1", "user", nonce="abc").challenge(challenge)
    assert caught.value.condition == "malformed-challenge"


@pytest.mark.parametrize("signature", [b"v=AAAA", b"v=!", b"v=rmF9pqV8S7suAoZWja4dJRkFsKR="])
@pytest.mark.security(statement=43)
def test_client_refuses_a_server_that_does_not_know_the_password(signature: bytes) -> None:
    client = ScramClient("SCRAM-SHA-1", "user", nonce="abc")
    client.challenge(b"r=abcd,s=AAAA,i=4096")
    client.final(salted_password("SCRAM-SHA-1", "pencil", b"\0\0\0", 4096))
    with pytest.raises(AuthError) as caught:
        client.verify(signature)
    assert caught.value.condition == "bad-server-signature"


def test_client_reports_the_error_in_the_last_message() -> None:
    client = ScramClient("SCRAM-SHA-1", "user")
    with pytest.raises(AuthError) as caught:
        client.verify(b"e=invalid-proof")
    assert (caught.value.condition, caught.value.text) == ("not-authorized", "invalid-proof")


# Passwords, base64, secrecy.


@any_mechanism
def test_check_password(mechanism: str) -> None:
    keys = keys_of(mechanism)
    assert check_password(mechanism, "pencil", keys)
    assert not check_password(mechanism, "Pencil", keys)
    assert not check_password(mechanism, "", keys)
    assert not check_password(mechanism, "a\0b", keys)
    assert not check_password(mechanism, "pencil", fake_keys(mechanism, "user", b"secret", 4096))


@pytest.mark.parametrize(
    ("password", "prepared"),
    [  # RFC 8265 section 4.3
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("πßå", "πßå"),
        ("Jack of ♦s", "Jack of ♦s"),
        ("foo\u1680bar", "foo bar"),
        ("e\u0301", "é"),
    ],
)
def test_passwords_are_prepared_by_the_opaque_string_profile(password: str, prepared: str) -> None:
    assert prepare_password(password) == prepared


@pytest.mark.parametrize("password", ["", "my cat is a \tby", "geheim\0", "geheim\u200b\ue000\uffff"])
def test_forbidden_password_is_refused_and_not_quoted(password: str) -> None:
    with pytest.raises(ValueError) as caught:
        prepare_password(password)
    assert "geheim" not in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)


@given(data=st.binary(max_size=30))
def test_canonical_base64_is_decoded(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text", ["A", "AA", "AAA", "AA=", "AA==A", "AB==", "AAB=", " AA==", "AA==\n", "A-_A", "ÄA==", "AA==AA=="]
)
def test_any_other_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)


def test_keys_do_not_show_in_a_repr() -> None:
    keys = keys_of("SCRAM-SHA-1")
    assert repr(keys) == "ScramKeys(iterations=4096)"


@pytest.mark.security(row=38)
def test_one_function_compares_secrets() -> None:
    assert secrets_equal(b"abc", b"abc")
    assert not secrets_equal(b"abc", b"abd")
    assert not secrets_equal(b"abc", b"ab")


def test_nonces_are_new_each_time() -> None:
    assert len({ScramClient("SCRAM-SHA-1", "user").first() for _ in range(100)}) == 100
