# SPDX-License-Identifier: Apache-2.0
"""What somebody on the way may try so that a login proves less, and that it shows."""

from __future__ import annotations

import re

import pytest

from xiot.errors import AuthError
from xiot.proto.events import Ready
from xiot.proto.known import Known
from xiot.proto.scram import ScramClient, ScramServer, offer_hash

from .ends import BINDINGS, KEYS, End, client_end, policy, server_end, talk

SASL2 = {"sasl2_offered": True}
ADDED = rb"<mechanism>SCRAM-SHA-256-PLUS</mechanism>"


def test_hash_of_an_offer_is_that_of_the_specification() -> None:
    """XEP-0474 section 5.3."""
    mechanisms, types = ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"], ["tls-server-end-point", "tls-exporter"]
    assert offer_hash("SCRAM-SHA-1-PLUS", mechanisms, types) == "G6k/rBLDqgOhRRaCuuatSDFkJ08="


def test_hash_of_an_offer_without_types_has_one_list() -> None:
    assert offer_hash("SCRAM-SHA-1", ["B", "A"], None) == offer_hash("SCRAM-SHA-1", ["A", "B"], None)
    assert offer_hash("SCRAM-SHA-1", ["A"], None) != offer_hash("SCRAM-SHA-1", ["A"], [])


@pytest.mark.parametrize("sasl2", [False, True])
@pytest.mark.parametrize(
    "cut",
    [
        rb"<mechanism>SCRAM-SHA-256-PLUS</mechanism>",
        rb"<mechanism>SCRAM-SHA-256</mechanism>",
        rb"<mechanism>PLAIN</mechanism>",
    ],
)
@pytest.mark.security(row=37, statement=46)
def test_client_notices_each_mechanism_that_was_cut_out(cut: bytes, sasl2: bool) -> None:
    """Nothing is remembered, so only the hash tells."""
    client = client_end(secure=True, bindings=BINDINGS)
    server = server_end(policy(extra={"sasl2_offered": sasl2}), bindings=BINDINGS)
    login = client.feed(server.feed(client.stream.data_to_send()).replace(cut, b""))
    client.feed(server.feed(login))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"


@pytest.mark.security(row=37, statement=46)
def test_client_notices_an_added_type_of_binding() -> None:
    client, server = client_end(secure=True, bindings=BINDINGS), server_end(bindings=BINDINGS)
    offer = server.feed(client.stream.data_to_send())
    extra = b"<channel-binding type='tls-server-end-point'/>"
    assert extra in offer
    client.feed(server.feed(client.feed(offer.replace(extra, extra + b"<channel-binding type='made-up'/>"))))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"


@pytest.mark.security(row=37, statement=46)
def test_hash_that_was_cut_out_fails_at_the_server() -> None:
    """What the client signs is what it got."""
    client, server = client_end(secure=True), server_end()
    challenge = server.feed(client.feed(server.feed(client.stream.data_to_send())))

    import base64

    text = re.search(rb">([^<]*)</challenge>", challenge)
    assert text is not None
    shorter = re.sub(rb",h=.*", b"", base64.b64decode(text[1]))
    client.feed(server.feed(client.feed(challenge.replace(text[1], base64.b64encode(shorter)))))
    assert isinstance(client.error, AuthError)
    assert client.error.text == "invalid-proof"


@pytest.mark.parametrize("hashed", [True, False])
def test_without_a_type_in_common_the_offer_must_be_proved(hashed: bool) -> None:
    """XEP-0474 section 6, new rule 6."""
    theirs = {"tls-exporter": b"e"}
    client, server = client_end(secure=True, bindings=BINDINGS), server_end(bindings=theirs)
    if hashed:
        talk(client, server)
        assert isinstance(client.events[-1], Ready)
        return
    scram = ScramClient("SCRAM-SHA-1", "boiler", offered="x", must_prove=True)
    plain = ScramServer("SCRAM-SHA-1")
    plain.first(scram.first())
    with pytest.raises(AuthError, match="does not prove it"):
        scram.challenge(plain.challenge(KEYS["SCRAM-SHA-1"]))


def test_wrong_hash_among_right_ones_is_refused() -> None:
    scram, server = (
        ScramClient("SCRAM-SHA-1", "boiler", offered="AAAA"),
        ScramServer("SCRAM-SHA-1", offered="AAAA,h=BBBB"),
    )
    server.first(scram.first())
    with pytest.raises(AuthError, match="changed on the way"):
        scram.challenge(server.challenge(KEYS["SCRAM-SHA-1"]))


# XEP-0440 section 3: what cannot be.


@pytest.mark.security(row=37, statement=47)
def test_with_sasl2_plus_without_types_is_a_downgrade() -> None:
    client = client_end(secure=True, bindings=BINDINGS)
    server = server_end(policy(extra=SASL2), bindings=BINDINGS)
    offer = server.feed(client.stream.data_to_send())
    client.feed(re.sub(rb"<sasl-channel.*?sasl-channel-binding>", b"", offer))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"


def test_old_server_that_tells_no_types_is_not_bound_to_those_it_may_not_know() -> None:
    """ejabberd 23.01 is one; that it has -PLUS at all is remembered once it was used, and the offer's hash covers the rest."""
    client, server = client_end(secure=True, bindings=BINDINGS), server_end(bindings=BINDINGS)
    offer = server.feed(client.stream.data_to_send())
    answer = client.feed(re.sub(rb"<sasl-channel.*?sasl-channel-binding>", b"", offer))
    assert b"mechanism='SCRAM-SHA-256'" in answer


# What is remembered.


def learn(server: End, client: End) -> Known:
    talk(client, server)
    assert isinstance(client.events[-1], Ready)
    known: Known = client.stream.known  # type: ignore[union-attr]
    return known


def test_a_login_teaches_what_the_server_can() -> None:
    known = learn(server_end(bindings=BINDINGS), client_end(secure=True, bindings=BINDINGS))
    assert known == Known(tls=True, plus=True, mechanism="SCRAM-SHA-256")


@pytest.mark.security(row=35)
def test_a_weaker_login_takes_nothing_back() -> None:
    known = Known(tls=True, plus=True, mechanism="SCRAM-SHA-256")
    assert known.after("SCRAM-SHA-1", secure=True) == known
    assert known.after("HT-SHA-256-NONE", secure=True) == known
    assert Known().after("PLAIN", secure=False) == Known(mechanism="PLAIN")


@pytest.mark.parametrize("sasl2", [False, True])
@pytest.mark.parametrize(
    ("known", "mechanisms", "why"),
    [
        (Known(plus=True), ("SCRAM-SHA-256", "SCRAM-SHA-1"), "bind the login to the channel"),
        (Known(mechanism="SCRAM-SHA-256"), ("SCRAM-SHA-1",), "took SCRAM-SHA-256 before"),
        (Known(mechanism="SCRAM-SHA-1"), ("PLAIN",), "took SCRAM-SHA-1 before"),
    ],
)
@pytest.mark.security(row=(35, 37))
def test_server_that_lost_what_it_had_gets_nothing(
    known: Known, mechanisms: tuple[str, ...], why: str, sasl2: bool
) -> None:
    client = client_end(secure=True, known=known)
    sent = talk(client, server_end(policy(mechanisms=mechanisms, extra={"sasl2_offered": sasl2})))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"
    assert why in str(client.error)
    assert b"<auth" not in sent


@pytest.mark.security(row=25, statement=35)
def test_once_tls_always_tls() -> None:
    """Also where the caller would do without."""
    client = client_end(tls="optional", known=Known(tls=True))
    sent = talk(client, server_end(policy(starttls="off"), secure=False))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"
    assert b"<auth" not in sent


def test_who_wants_less_gets_less() -> None:
    """The caller chose the mechanisms: that is no downgrade by the server."""
    known = Known(tls=True, plus=True, mechanism="SCRAM-SHA-256")
    client = client_end(secure=True, known=known, mechanisms=("SCRAM-SHA-1",))
    talk(client, server_end())
    assert isinstance(client.events[-1], Ready)
