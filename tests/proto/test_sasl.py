# SPDX-License-Identifier: Apache-2.0
"""The SASL mechanisms step by step, and their elements."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from xiot.core import JID, Element
from xiot.errors import AuthError
from xiot.proto import SaslPolicy, sasl
from xiot.proto.events import CheckPassword, LoginFailed, NeedKeys, NeedPassword, NeedSaltedPassword
from xiot.proto.sasl import CONDITIONS, Challenge, Response, SaslClient, SaslServer, Success, choose
from xiot.proto.scram import ScramClient, check_password, fake_keys, salted_password

from .ends import BINDINGS, KEYS, SASL

BOILER = JID("boiler@plant.example")
SCRAM = ("SCRAM-SHA-1", "SCRAM-SHA-256")
PLUS = tuple(f"{name}-PLUS" for name in SCRAM)
ALL = (*PLUS, *SCRAM, "PLAIN", "ANONYMOUS")


def server_of(
    *, secure: bool = True, required: bool = False, bindings: dict[str, bytes] | None = None, **policy: Any
) -> SaslServer:
    return SaslServer(
        SaslPolicy(b"server secret", **policy),
        "plant.example",
        secure=secure,
        tls_required=required,
        bindings=bindings or {},
    )


def nonza(name: str, text: str | None = None, **attributes: str) -> Element:
    return Element(f"{{{SASL}}}{name}", attributes, text)


def log_in(
    client: SaslClient, server: SaslServer, password: str = "pencil", late: bool = False
) -> Success | LoginFailed:
    """Let both talk; if `late`, the data that go with success come as a challenge before it, as RFC 4422 3.6 allows."""
    step = client.start()
    answer: Any = None
    while True:
        if isinstance(step, NeedPassword):
            step = client.provide_password(password)
        elif isinstance(step, NeedSaltedPassword):
            step = client.provide_salted_password(salted_password(step.mechanism, password, step.salt, step.iterations))
        else:
            answer = server.start(step.mechanism, step.data) if step.mechanism else server.respond(step.data)
            if isinstance(answer, NeedKeys):
                answer = server.provide_keys(KEYS[answer.mechanism] if answer.username == "boiler" else None)
            elif isinstance(answer, CheckPassword):
                answer = server.password_checked(check_password("SCRAM-SHA-1", answer.password, KEYS["SCRAM-SHA-1"]))
            if isinstance(answer, LoginFailed):
                return answer
            if isinstance(answer, Success):
                if late:
                    assert answer.data is not None
                    assert client.challenge(answer.data) == Response(b"")
                client.success(None if late else answer.data)
                return answer
            assert isinstance(answer, Challenge)
            step = client.challenge(answer.data)


@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.security(statement=37)
def test_both_ends_log_in(mechanism: str) -> None:
    server = server_of(mechanisms=ALL, bindings=BINDINGS)
    binding = next(iter(BINDINGS.items())) if mechanism in PLUS else None
    success = log_in(SaslClient(mechanism, "boiler", binding=binding), server)
    assert isinstance(success, Success)
    assert success.mechanism == mechanism
    assert success.jid == BOILER or mechanism == "ANONYMOUS"


@pytest.mark.parametrize("mechanism", SCRAM)
def test_server_may_prove_itself_in_a_challenge_before_success(mechanism: str) -> None:
    assert isinstance(log_in(SaslClient(mechanism, "boiler"), server_of(), late=True), Success)


@pytest.mark.parametrize("mechanism", [*SCRAM, "PLAIN"])
def test_wrong_password_is_not_authorized(mechanism: str) -> None:
    failed = log_in(SaslClient(mechanism, "boiler"), server_of(), "pen")
    assert isinstance(failed, LoginFailed)
    assert (failed.username, failed.condition) == ("boiler", "not-authorized")


@pytest.mark.parametrize("mechanism", SCRAM)
@pytest.mark.security(row=40)
def test_unknown_user_gets_the_answer_to_a_wrong_password(mechanism: str) -> None:
    known = log_in(SaslClient(mechanism, "boiler"), server_of(), "pen")
    unknown = log_in(SaslClient(mechanism, "toaster"), server_of(), "pen")
    assert isinstance(known, LoginFailed)
    assert isinstance(unknown, LoginFailed)
    assert (unknown.condition, unknown.text) == (known.condition, known.text)


@pytest.mark.parametrize("mechanism", SCRAM)
@pytest.mark.security(row=40)
def test_unknown_user_gets_the_same_salt_each_time(mechanism: str) -> None:
    challenges = set()
    for _ in range(2):
        server = server_of(iterations=5000)
        assert server.start(mechanism, b"n,,n=toaster,r=x") == NeedKeys("toaster", mechanism)
        challenge = server.provide_keys(None)
        assert isinstance(challenge, Challenge)
        challenges.add(b",".join(challenge.data.split(b",")[1:3]))
    salt = base64.b64encode(fake_keys(mechanism, "toaster", b"server secret", 5000).salt)
    assert challenges == {b"s=" + salt + b",i=5000"}


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "SCRAM-SHA-1-PLUS", "EXTERNAL", "DIGEST-MD5", "plain", ""])
@pytest.mark.security(row=41, statement=37)
def test_mechanism_not_offered_is_invalid(mechanism: str) -> None:
    server = server_of()
    assert mechanism not in server.offered
    assert server.start(mechanism, b"") == LoginFailed(None, "invalid-mechanism", None)


@pytest.mark.security(statement=29)
def test_plain_is_not_offered_without_tls() -> None:
    server = server_of(secure=False)
    assert server.offered == ["SCRAM-SHA-256", "SCRAM-SHA-1"]
    assert server.start("PLAIN", b"\0boiler\0pencil") == LoginFailed(None, "encryption-required", None)
    allowed = server_of(secure=False, plain_without_tls=True)
    assert "PLAIN" in allowed.offered
    assert allowed.start("PLAIN", b"\0boiler\0pencil") == CheckPassword("boiler", "pencil")


@pytest.mark.parametrize("mechanism", [*SCRAM, "PLAIN"])
@pytest.mark.security(row=26)
def test_nothing_is_offered_or_taken_while_tls_is_required_and_off(mechanism: str) -> None:
    server = server_of(secure=False, required=True)
    assert server.offered == []
    assert server.start(mechanism, b"n,,n=boiler,r=x") == LoginFailed(None, "encryption-required", None)
    assert server.start("EXTERNAL", None) == LoginFailed(None, "invalid-mechanism", None)


def test_plus_mechanisms_are_offered_where_there_is_something_to_bind_to() -> None:
    assert server_of(bindings=BINDINGS).offered == [
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
    ]
    assert server_of().offered == ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]


@pytest.mark.parametrize(
    ("authzid", "allowed"),
    [
        ("boiler@plant.example", True),
        ("Boiler@PLANT.example", True),
        ("toaster@plant.example", False),
        ("boiler@other.example", False),
        ("boiler@plant.example/oven", False),
        ("plant.example", False),
        ("@", False),
    ],
)
@pytest.mark.security(statement=41)
def test_authzid_has_to_be_the_account_itself(authzid: str, allowed: bool) -> None:
    server = server_of()
    server.start("PLAIN", f"{authzid}\0boiler\0pencil".encode())
    plain = server.password_checked(True)
    assert plain == (Success(BOILER, "PLAIN", None) if allowed else LoginFailed("boiler", "invalid-authzid", None))


@pytest.mark.parametrize("authzid", [None, "boiler@plant.example", "toaster@plant.example"])
@pytest.mark.security(statement=41)
def test_authzid_in_scram_is_looked_at_after_the_proof(authzid: str | None) -> None:
    server, client = server_of(), ScramClient("SCRAM-SHA-1", "boiler", authzid=authzid)
    server.start("SCRAM-SHA-1", client.first())
    challenge = server.provide_keys(KEYS["SCRAM-SHA-1"])
    assert isinstance(challenge, Challenge)
    client.challenge(challenge.data)
    end = server.respond(client.final(salted_password("SCRAM-SHA-1", "pencil", b"0123456789abcdef", 4096)))
    if authzid == "toaster@plant.example":
        assert end == LoginFailed("boiler", "invalid-authzid", None)
    else:
        assert isinstance(end, Success)


@pytest.mark.parametrize(
    "message", [b"", b"boiler", b"\0boiler", b"\0\0pencil", b"\0boiler\0", b"\0boiler\0pencil\0", b"\0boiler\0\xff"]
)
def test_malformed_plain(message: bytes) -> None:
    assert server_of().start("PLAIN", message) == LoginFailed(None, "malformed-request", None)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
@pytest.mark.parametrize("name", ["a b", "a@b", "a/b", "\u0001", "<script>"])
def test_name_that_no_account_can_have_is_not_authorized_unasked(mechanism: str, name: str) -> None:
    message = f"\0{name}\0pencil" if mechanism == "PLAIN" else f"n,,n={name},r=x"
    failed = server_of().start(mechanism, message.encode())
    assert failed == LoginFailed(None, "not-authorized", None)


def test_user_name_is_prepared_before_the_shell_sees_it() -> None:
    assert server_of().start("PLAIN", b"\0BOILER\0pencil") == CheckPassword("boiler", "pencil")
    assert server_of().start("SCRAM-SHA-1", b"n,,n=BOILER,r=x") == NeedKeys("boiler", "SCRAM-SHA-1")


def test_scram_of_an_unknown_form_is_malformed() -> None:
    assert server_of().start("SCRAM-SHA-1", b"hello") == LoginFailed(None, "malformed-request", "other-error")


@pytest.mark.parametrize(
    ("mechanism", "message"), [("PLAIN", b"\0boiler\0pencil"), ("SCRAM-SHA-1", b"n,,n=boiler,r=x")]
)
def test_without_initial_response_an_empty_challenge_asks_for_it(mechanism: str, message: bytes) -> None:
    server = server_of()
    assert server.start(mechanism, None) == Challenge(b"")
    assert isinstance(server.respond(message), (CheckPassword, NeedKeys))


def test_anonymous_gets_a_new_name_each_time() -> None:
    names = set()
    for trace in (b"", b"sensor 17", "ä".encode() * 255):
        success = server_of(mechanisms=("ANONYMOUS",)).start("ANONYMOUS", trace)
        assert isinstance(success, Success)
        assert success.jid.domain == "plant.example"
        names.add(success.jid.local)
    assert len(names) == 3


@pytest.mark.parametrize("trace", [b"x" * 256, b"\xff"])
def test_anonymous_trace_is_limited(trace: bytes) -> None:
    """RFC 4505 section 2."""
    server = server_of(mechanisms=("ANONYMOUS",))
    assert server.start("ANONYMOUS", trace) == LoginFailed(None, "malformed-request", None)


def test_anonymous_without_a_trace_waits_for_no_challenge() -> None:
    server = server_of(mechanisms=("ANONYMOUS",))
    assert isinstance(sasl.receive(server, nonza("auth", None, mechanism="ANONYMOUS")), Success)


def test_response_without_login_is_malformed() -> None:
    assert server_of().respond(b"x") == LoginFailed(None, "malformed-request", None)


def test_response_after_failure_is_malformed() -> None:
    server = server_of()
    server.start("SCRAM-SHA-1", b"n,,n=boiler,r=x")
    server.provide_keys(KEYS["SCRAM-SHA-1"])
    assert server.respond(b"nonsense") == LoginFailed("boiler", "malformed-request", "other-error")
    assert server.respond(b"nonsense") == LoginFailed(None, "malformed-request", None)


def test_second_auth_begins_anew() -> None:
    server = server_of()
    server.start("SCRAM-SHA-1", b"n,,n=boiler,r=x")
    server.provide_keys(KEYS["SCRAM-SHA-1"])
    assert server.start("PLAIN", b"\0toaster\0crumbs") == CheckPassword("toaster", "crumbs")
    assert server.password_checked(False) == LoginFailed("toaster", "not-authorized", None)


def test_shell_may_refuse_by_any_condition_of_the_rfc() -> None:
    for condition in CONDITIONS:
        server = server_of()
        server.start("PLAIN", b"\0boiler\0pencil")
        assert server.fail(condition, "why") == LoginFailed("boiler", condition, "why")
        assert not server.asking
    with pytest.raises(ValueError, match="made-up"):
        server_of().fail("made-up")


def test_answer_without_question_is_a_misuse() -> None:
    server = server_of()
    with pytest.raises(RuntimeError):
        server.provide_keys(None)
    server.start("PLAIN", b"\0boiler\0pencil")
    with pytest.raises(RuntimeError):
        server.provide_keys(None)
    client = SaslClient("PLAIN", "boiler")
    with pytest.raises(RuntimeError):
        client.provide_password("pencil")


def test_secrets_do_not_show_in_reprs() -> None:
    assert "pencil" not in repr(CheckPassword("boiler", "pencil"))
    assert "secret" not in repr(SaslPolicy(b"server secret")).replace("fake_salt_secret", "")


# The client.


@pytest.mark.parametrize(
    ("offered", "secure", "chosen"),
    [
        (ALL, True, "SCRAM-SHA-256"),
        (("PLAIN", "SCRAM-SHA-1"), True, "SCRAM-SHA-1"),
        (("PLAIN", "SCRAM-SHA-1"), False, "SCRAM-SHA-1"),
        (("PLAIN", "X-OAUTH2"), True, "PLAIN"),
    ],
)
def test_client_takes_the_best_mechanism(offered: tuple[str, ...], secure: bool, chosen: str) -> None:
    assert choose(offered, sasl.MECHANISMS, secure=secure) == (chosen, None)


@pytest.mark.security(row=25, statement=29)
def test_client_never_sends_the_password_in_the_clear_unless_told_so() -> None:
    with pytest.raises(AuthError) as caught:
        choose(["PLAIN"], sasl.MECHANISMS, secure=False)
    assert caught.value.condition == "encryption-required"
    assert choose(["PLAIN"], sasl.MECHANISMS, secure=False, plain_without_tls=True) == ("PLAIN", None)


@pytest.mark.parametrize("offered", [(), ("EXTERNAL",), ("ANONYMOUS",), ("SCRAM-SHA-1-PLUS",)])
def test_client_gives_up_without_a_mechanism_in_common(offered: tuple[str, ...]) -> None:
    with pytest.raises(AuthError) as caught:
        choose(offered, sasl.MECHANISMS, secure=True)
    assert caught.value.condition == "invalid-mechanism"


@pytest.mark.security(row=36, statement=45)
def test_client_binds_to_the_channel_where_both_can() -> None:
    ours = {"tls-exporter": b"e", "tls-server-end-point": b"p"}
    offered = ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"]
    args: dict[str, Any] = {"secure": True, "bindings": ours}
    assert choose(offered, sasl.MECHANISMS, **args) == ("SCRAM-SHA-1-PLUS", ("tls-exporter", b"e"))
    theirs = ["tls-unique", "tls-server-end-point"]
    bound = choose(offered, sasl.MECHANISMS, binding_types=theirs, **args)
    assert bound == ("SCRAM-SHA-1-PLUS", ("tls-server-end-point", b"p"))
    # They offer -PLUS, so "y" would be a lie that ends the login.
    assert choose(offered, sasl.MECHANISMS, binding_types=["tls-unique"], **args) == ("SCRAM-SHA-1", None)
    # They offer none: say that we could have.
    assert choose(["SCRAM-SHA-1"], sasl.MECHANISMS, **args) == ("SCRAM-SHA-1", ("tls-exporter", b"e"))


@pytest.mark.parametrize("data", [None, b"", b"v=AAAA", b"r=xyz,s=AAAA,i=4096"])
@pytest.mark.security(statement=43)
def test_client_takes_no_success_without_proof(data: bytes | None) -> None:
    client = SaslClient("SCRAM-SHA-1", "boiler")
    client.start()
    with pytest.raises(AuthError):
        client.success(data)


def test_client_takes_no_challenge_for_the_data_of_success() -> None:
    client = SaslClient("SCRAM-SHA-1", "boiler")
    first = client.start()
    assert isinstance(first, Response)
    nonce = first.data.rpartition(b"r=")[2]
    with pytest.raises(AuthError) as caught:
        client.success(b"r=" + nonce + b"more,s=AAAA,i=4096")
    assert caught.value.condition == "bad-server-signature"


@pytest.mark.security(statement=43)
def test_client_takes_no_success_without_signature_after_its_own_proof() -> None:
    server, client = server_of(), SaslClient("SCRAM-SHA-1", "boiler")
    first = client.start()
    assert isinstance(first, Response)
    server.start("SCRAM-SHA-1", first.data)
    challenge = server.provide_keys(KEYS["SCRAM-SHA-1"])
    assert isinstance(challenge, Challenge)
    client.challenge(challenge.data)
    client.provide_salted_password(salted_password("SCRAM-SHA-1", "pencil", b"0123456789abcdef", 4096))
    with pytest.raises(AuthError):
        client.success(None)


def test_client_takes_no_challenge_after_the_proof() -> None:
    server, client = server_of(), SaslClient("SCRAM-SHA-1", "boiler")
    log_in(client, server)
    with pytest.raises(AuthError):
        client.challenge(b"")


def test_client_of_an_account_needs_its_name() -> None:
    with pytest.raises(ValueError, match="user name"):
        SaslClient("PLAIN", None)


# The elements of RFC 6120 section 6.4.


@pytest.mark.parametrize("text", ["AA", "A===", "AA==\n", " AA==", "ä", "AB==", "===="])
@pytest.mark.parametrize("name", ["auth", "response"])
@pytest.mark.security(statement=38)
def test_malformed_base64_is_incorrect_encoding(name: str, text: str) -> None:
    failed = sasl.receive(server_of(), nonza(name, text, mechanism="PLAIN"))
    assert failed == LoginFailed(None, "incorrect-encoding", None)


def test_elements_where_base64_should_be_are_incorrect_encoding() -> None:
    auth = nonza("auth", None, mechanism="PLAIN")
    auth.append(nonza("auth"))
    assert sasl.receive(server_of(), auth) == LoginFailed(None, "incorrect-encoding", None)


@pytest.mark.security(statement=39)
def test_equals_sign_is_an_empty_initial_response() -> None:
    server = server_of(mechanisms=("ANONYMOUS",))
    assert isinstance(sasl.receive(server, nonza("auth", "=", mechanism="ANONYMOUS")), Success)


@pytest.mark.security(statement=40)
def test_abort_is_aborted() -> None:
    server = server_of()
    sasl.receive(server, nonza("auth", None, mechanism="PLAIN"))
    assert sasl.receive(server, nonza("abort")) == LoginFailed(None, "aborted", None)
    assert sasl.receive(server, nonza("response")) == LoginFailed(None, "malformed-request", None)


@pytest.mark.parametrize("name", ["success", "challenge", "failure", "mechanisms", "hello"])
def test_element_that_no_client_sends_is_malformed(name: str) -> None:
    assert sasl.receive(server_of(), nonza(name)) == LoginFailed(None, "malformed-request", None)


def test_auth_without_mechanism_is_invalid_mechanism() -> None:
    assert sasl.receive(server_of(), nonza("auth")) == LoginFailed(None, "invalid-mechanism", None)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (sasl.render(Challenge(b"")), f"<challenge xmlns='{SASL}'/>"),
        (sasl.render(Challenge(b"abc")), f"<challenge xmlns='{SASL}'>YWJj</challenge>"),
        (sasl.render(Success(BOILER, "PLAIN", None)), f"<success xmlns='{SASL}'/>"),
        (sasl.render(Success(BOILER, "SCRAM-SHA-1", b"v=x")), f"<success xmlns='{SASL}'>dj14</success>"),
        (sasl.render(LoginFailed("boiler", "aborted", None)), f"<failure xmlns='{SASL}'><aborted/></failure>"),
        (
            sasl.render(LoginFailed(None, "account-disabled", "a < b")),
            f"<failure xmlns='{SASL}'><account-disabled/><text xml:lang='en'>a &lt; b</text></failure>",
        ),
        (sasl.render(NeedKeys("boiler", "SCRAM-SHA-1")), ""),
        (sasl.render_response(Response(b"", "ANONYMOUS")), f"<auth xmlns='{SASL}' mechanism='ANONYMOUS'>=</auth>"),
        (sasl.render_response(Response(b"abc")), f"<response xmlns='{SASL}'>YWJj</response>"),
        (sasl.render_response(Response(b"")), f"<response xmlns='{SASL}'/>"),
    ],
)
def test_elements_as_written(written: bytes, expected: str) -> None:
    assert written.decode() == expected


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_client_reads_the_failure_that_the_server_writes(condition: str) -> None:
    failure = Element.fromstring(sasl.render(LoginFailed(None, condition, "why")))
    error = sasl.parse_failure(failure)
    assert (error.condition, error.text) == (condition, "why")


def test_unknown_failure_is_not_authorized() -> None:
    failure = Element.fromstring(f"<failure xmlns='{SASL}'><later-invention/></failure>")
    assert sasl.parse_failure(failure).condition == "not-authorized"
