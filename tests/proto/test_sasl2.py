# SPDX-License-Identifier: Apache-2.0
"""SASL2, Bind 2 and FAST, octets in and events out (XEP-0388, XEP-0386, XEP-0484)."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any

import pytest

from xiot.core import JID, Element
from xiot.errors import AuthError, StreamError
from xiot.proto import bind2, fast, sasl2
from xiot.proto.events import (
    Authenticated,
    CheckToken,
    Event,
    LoginFailed,
    NeedSession,
    Ready,
    RestartStream,
    StanzaReceived,
)
from xiot.proto.known import Known

from .ends import BINDINGS, HEADER, SASL, Answer, End, client_end, policy, server_end, talk

NS = "urn:xmpp:sasl:2"
ID = "d4565fa7-4d72-4749-b3d3-740edbf87770"
BOILER = JID("boiler@plant.example")
TOKEN = fast.Token("HT-SHA-256-ENDP", "a secret token", "2026-12-24T00:00:00Z")
PING = "<iq type='get' id='p1'><ping xmlns='urn:xmpp:ping'/></iq>"


def site(*, answers: dict[type, Answer] | None = None, chunk: int = 0, extra: Any = None, **options: Any) -> End:
    """A server's end with SASL2."""
    tokens = options.pop("tokens", False)
    mechanisms = {key: options.pop(key) for key in ("mechanisms", "max_failures") if key in options}
    host = policy(extra={"sasl2_offered": True, **(extra or {})}, tokens=tokens, **mechanisms)
    return server_end(host, answers=answers, chunk=chunk, **options)


def authenticate(mechanism: str, data: bytes | None, inside: str = "", **attributes: str) -> str:
    """The client's first element."""
    initial = "" if data is None else f"<initial-response>{base64.b64encode(data).decode()}</initial-response>"
    return f"<authenticate xmlns='{NS}' mechanism='{mechanism}'>{initial}{inside}</authenticate>"


PLAIN = authenticate("PLAIN", b"\0boiler\0pencil")
BIND = f"<bind xmlns='{bind2.NS}'><tag>test</tag></bind>"
AGENT = f"<user-agent id='{ID}'><software>test</software><device>bench</device></user-agent>"


def opened(end: End) -> End:
    end.feed(HEADER)
    end.take()
    return end


# ---- both ends together ----


@pytest.mark.parametrize("chunk", [0, 1, 7], ids=["whole", "octets", "sevens"])
@pytest.mark.parametrize(
    "mechanism", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "ANONYMOUS"]
)
def test_client_logs_in_and_has_its_resource_without_a_restart(mechanism: str, chunk: int) -> None:
    bindings = BINDINGS if mechanism.endswith("-PLUS") else {}
    server = site(mechanisms=(mechanism,), bindings=bindings, chunk=chunk)
    account = "plant.example" if mechanism == "ANONYMOUS" else str(BOILER)
    client = client_end(account, secure=True, bindings=bindings, chunk=chunk)
    sent = talk(client, server)
    for end in (client, server):
        kinds = [type(event) for event in end.events]
        assert kinds[-2:] == [Authenticated, Ready]
        assert RestartStream not in kinds
        assert end.events[-2].mechanism == mechanism  # type: ignore[union-attr]
        assert end.stream.jid is not None
        assert end.stream.jid.resource == "chosen"
    assert sent.count(b"<stream:stream") == 1
    server.feed(client_says(client, PING))
    assert isinstance(server.events[-1], StanzaReceived)


def client_says(client: End, text: str) -> bytes:
    client.stream.send(Element.fromstring(text.replace("<iq", "<iq xmlns='jabber:client'")))
    return client.stream.data_to_send()


def test_client_that_wants_a_certain_resource_binds_it_afterwards() -> None:
    client, server = client_end("boiler@plant.example/cellar", secure=True), site()
    sent = talk(client, server)
    assert client.stream.jid == server.stream.jid == JID("boiler@plant.example/cellar")
    assert sent.count(b"<stream:stream") == 1
    assert bind2.NS.encode() not in sent


def test_wrong_password_leaves_the_stream_as_it_was() -> None:
    """XEP-0388 section 2.6.2."""
    server = opened(site())
    sent = server.feed(authenticate("PLAIN", b"\0boiler\0pen"))
    assert sent == f"<failure xmlns='{NS}'><not-authorized xmlns='{SASL}'/></failure>".encode()
    assert [type(event) for event in server.take()][-1] is LoginFailed
    assert b"<success" in server.feed(PLAIN)


def test_client_is_told_why() -> None:
    client, server = client_end(secure=True, password="pen"), site()
    talk(client, server)
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "not-authorized"


@pytest.mark.security(row=43, statement=(42, 47))
def test_too_many_failures_end_the_stream_in_either_profile() -> None:
    """They count together."""
    server = opened(site(max_failures=3))
    server.feed(authenticate("PLAIN", b"\0boiler\0pen"))
    server.feed(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{base64.b64encode(b'0boiler').decode()}</auth>")
    server.feed(authenticate("PLAIN", b"\0boiler\0pen"))
    assert isinstance(server.error, StreamError)
    assert server.error.condition == "policy-violation"


# ---- the server ----


@pytest.mark.security(statement=47)
def test_offer_is_not_made_without_tls() -> None:
    """XEP-0388 section 3."""
    assert NS.encode() not in site(secure=False).feed(HEADER)
    host = policy(starttls="optional", extra={"sasl2_offered": True})
    end = server_end(host, secure=False)
    assert NS.encode() not in end.feed(HEADER)
    end.feed(PLAIN)
    assert isinstance(end.error, StreamError)


def test_offer_lists_mechanisms_and_what_can_be_had_inline() -> None:
    carbons = sasl2.Inline("urn:xmpp:carbons:2", "urn:xmpp:carbons:2", lambda session, wish: None)
    resume = sasl2.Inline("urn:xmpp:sm:3", Element("{urn:xmpp:sm:3}sm"), lambda session, wish: None)
    end = site(tokens=True, bindings=BINDINGS, extra={"bind_inline": (carbons,), "inline": (resume,)})
    sent = end.feed(HEADER)
    begin = sent.index(b"<stream:features>")
    element = Element.fromstring(sent[begin:].replace(b"<stream:features>", b"<stream:features xmlns:stream='s'>"))
    offer = sasl2.parse_offer(element.find(f"{{{NS}}}authentication"))
    assert offer == sasl2.Offer(
        ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
        ("HT-SHA-256-ENDP", "HT-SHA-256-NONE"),
        ("urn:xmpp:carbons:2",),
        frozenset((bind2.NS, fast.NS, "urn:xmpp:sm:3")),
    )


def test_success_names_the_account_and_features_follow_at_once() -> None:
    sent = opened(site()).feed(PLAIN)
    success = (
        f"<success xmlns='{NS}'><authorization-identifier>boiler@plant.example</authorization-identifier></success>"
    )
    assert sent.startswith(success.encode() + b"<stream:features>")
    assert b"urn:ietf:params:xml:ns:xmpp-bind" in sent
    assert b"mechanism" not in sent


def test_success_with_a_resource_names_it_and_offers_no_other() -> None:
    sent = opened(site()).feed(authenticate("PLAIN", b"\0boiler\0pencil", BIND))
    assert b"<authorization-identifier>boiler@plant.example/chosen</authorization-identifier>" in sent
    assert f"<bound xmlns='{bind2.NS}'/></success><stream:features></stream:features>".encode() in sent


def test_shell_gets_all_that_the_client_wishes() -> None:
    server = opened(site(answers={NeedSession: lambda stream, event: []}))
    server.feed(
        authenticate(
            "PLAIN",
            b"\0boiler\0pencil",
            f"{AGENT}<bind xmlns='{bind2.NS}'><tag>t</tag><enable xmlns='urn:xmpp:carbons:2'/></bind>"
            f"<request-token xmlns='{fast.NS}' mechanism='HT-SHA-256-NONE'/><resume xmlns='urn:xmpp:sm:3' h='1'/>",
        )
    )
    event = server.events[-1]
    assert isinstance(event, NeedSession)
    request = event.request
    assert request.user_agent == sasl2.UserAgent(ID, "test", "bench")
    assert request.bind is not None
    assert (request.bind.tag, [child.name for child in request.bind.inline]) == ("t", ["enable"])
    assert request.token_for == "HT-SHA-256-NONE"
    assert [(child.ns, child.name) for child in request.inline] == [("urn:xmpp:sm:3", "resume")]
    assert server.stream.jid == BOILER
    with pytest.raises(RuntimeError):  # nothing goes on before it has answered
        server.feed(PING)


def test_resumed_session_gets_no_features() -> None:
    """XEP-0198 section 9.1."""
    resumed = Element("{urn:xmpp:sm:3}resumed", {"h": "1"})
    answers: dict[type, Answer] = {
        NeedSession: lambda stream, event: stream.established(BOILER.with_resource("old"), [resumed], resumed=True)
    }
    server = opened(site(answers=answers))
    sent = server.feed(authenticate("PLAIN", b"\0boiler\0pencil", BIND + "<resume xmlns='urn:xmpp:sm:3'/>"))
    assert sent.endswith(b"<resumed xmlns='urn:xmpp:sm:3' h='1'/></success>")
    assert server.stream.jid == BOILER.with_resource("old")


def test_shell_that_fails_after_the_proof_refuses_the_login() -> None:
    answers: dict[type, Answer] = {NeedSession: lambda stream, event: stream.refuse_login("temporary-auth-failure")}
    server = opened(site(answers=answers))
    assert b"<temporary-auth-failure" in server.feed(PLAIN)
    assert server.stream.jid is None
    assert isinstance(server.take()[-1], LoginFailed)
    server.feed(PING)
    assert isinstance(server.error, StreamError)


def test_inline_features_are_answered_in_their_own_order() -> None:
    def echo(session: str, wish: Element) -> Element:
        return Element(f"{{{wish.ns}}}done", {"by": session})

    features = [sasl2.Inline(ns, ns, echo) for ns in ("urn:a", "urn:b")]
    wishes = [Element("{urn:b}x"), Element("{urn:c}x"), Element("{urn:a}x")]
    answers = list(sasl2.answers(features, "me", wishes))
    assert [answer.ns for answer in answers if isinstance(answer, Element)] == ["urn:a", "urn:b"]


@pytest.mark.parametrize(
    "between",
    [
        PING,
        PLAIN,
        "<message/>",
        f"<auth xmlns='{SASL}' mechanism='PLAIN'/>",
        f"<response xmlns='{SASL}'/>",
        f"<abort xmlns='{SASL}'/>",
        f"<success xmlns='{NS}'/>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ],
)
def test_nothing_else_may_come_during_a_login(between: str) -> None:
    """XEP-0388 section 2.4."""
    server = opened(site())
    assert b"<challenge" in server.feed(authenticate("SCRAM-SHA-1", b"n,,n=boiler,r=abc"))
    server.feed(between)
    assert isinstance(server.error, StreamError)


def test_second_authenticate_is_a_stream_error() -> None:
    """XEP-0388 section 5.9."""
    for inside in ("", BIND):
        server = opened(site())
        server.feed(authenticate("PLAIN", b"\0boiler\0pencil", inside))
        server.feed(PLAIN)
        assert isinstance(server.error, StreamError)


def test_authenticate_during_the_other_profile_is_a_stream_error() -> None:
    server = opened(site())
    server.feed(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'/>")
    server.feed(PLAIN)
    assert isinstance(server.error, StreamError)


@pytest.mark.parametrize(
    ("element", "condition"),
    [
        (authenticate("DIGEST-MD5", b""), "invalid-mechanism"),
        (authenticate("ANONYMOUS", b""), "invalid-mechanism"),
        (authenticate("EXTERNAL", b""), "invalid-mechanism"),
        (authenticate("HT-SHA-256-NONE", b"boiler\0x"), "invalid-mechanism"),
        (f"<authenticate xmlns='{NS}'/>", "invalid-mechanism"),
        (authenticate("PLAIN", b"boiler"), "malformed-request"),
        (authenticate("PLAIN", b"juliet@x\0boiler\0pencil"), "invalid-authzid"),
        (authenticate("PLAIN", b"", "<user-agent id='me'/>"), "malformed-request"),
        (f"<authenticate xmlns='{NS}' mechanism='PLAIN'><initial-response>=</initial-response></authenticate>",
         "incorrect-encoding"),
        (f"<authenticate xmlns='{NS}' mechanism='PLAIN'><initial-response><a/></initial-response></authenticate>",
         "incorrect-encoding"),
    ],
)  # fmt: skip
@pytest.mark.security(statement=47)
def test_bad_request_gets_the_failure_it_deserves(element: str, condition: str) -> None:
    assert f"<{condition} xmlns=".encode() in opened(site()).feed(element)


def test_login_as_another_than_the_stream_began_with_is_refused() -> None:
    """XEP-0388 section 2.3."""
    server = site()
    server.feed(HEADER.replace("<stream:stream ", "<stream:stream from='toaster@plant.example' "))
    assert b"<invalid-authzid" in server.feed(PLAIN)


@pytest.mark.security(statement=47)
def test_abort_is_aborted() -> None:
    server = opened(site())
    server.feed(authenticate("SCRAM-SHA-1", b"n,,n=boiler,r=abc"))
    assert b"<aborted" in server.feed(f"<abort xmlns='{NS}'><text>no</text></abort>")
    assert b"<success" in server.feed(PLAIN)


def test_empty_initial_response_is_an_empty_element_and_none_is_no_element() -> None:
    anonymous = f"<authenticate xmlns='{NS}' mechanism='ANONYMOUS'><initial-response/></authenticate>"
    assert b"<success" in opened(site(mechanisms=("ANONYMOUS",))).feed(anonymous)
    assert b"<challenge" in opened(site()).feed(authenticate("PLAIN", None))


# ---- resources ----


def test_resource_is_the_same_for_the_same_client_and_tag() -> None:
    """XEP-0386 section 3.2.1."""
    first = bind2.full_jid(BOILER, "app", ID, b"secret")
    assert first == bind2.full_jid(BOILER, "app", ID, b"secret")
    others = {
        bind2.full_jid(BOILER, "web", ID, b"secret"),
        bind2.full_jid(BOILER, None, ID, b"secret"),
        bind2.full_jid(BOILER, "app", ID.replace("d", "e"), b"secret"),
        bind2.full_jid(JID("toaster@plant.example"), "app", ID, b"secret"),
        bind2.full_jid(BOILER, "app", ID, b"another secret"),
        bind2.full_jid(BOILER, "app", None, b"secret"),
        bind2.full_jid(BOILER, "app", None, b"secret"),
    }
    assert len(others | {first}) == 8
    assert str(first).startswith("boiler@plant.example/app/")
    assert all(ID not in str(jid) for jid in others)


@pytest.mark.parametrize("tag", ["", "\u0001", "x" * 1023, " \u00a0"])
def test_tag_that_cannot_be_in_a_resource_is_left_out(tag: str) -> None:
    resource = bind2.full_jid(BOILER, tag, ID, b"secret").resource
    assert resource is not None
    assert len(resource) <= 20


# ---- FAST ----


def tokens(token: fast.Token = TOKEN, seen: list[CheckToken] | None = None) -> dict[type, Answer]:
    """A server's answer to the question for this token."""

    def check(stream: Any, event: CheckToken) -> list[Event]:
        if seen is not None:
            seen.append(event)
        good = (event.username, event.mechanism, event.client) == ("boiler", token.mechanism, ID)
        if good and fast.initiator(token.token, event.binding) == event.proof:
            reply: list[Event] = stream.token_checked(fast.responder(token.token, event.binding))
            return reply
        refused: list[Event] = stream.token_checked(None, "credentials-expired")
        return refused

    return {CheckToken: check}


@pytest.mark.parametrize("chunk", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("mechanism", ["HT-SHA-256-ENDP", "HT-SHA-256-NONE"])
def test_token_logs_in_in_one_round_trip(mechanism: str, chunk: int) -> None:
    seen: list[CheckToken] = []
    token = replace(TOKEN, mechanism=mechanism, count=4)
    server = site(tokens=True, bindings=BINDINGS, chunk=chunk, answers=tokens(token, seen))
    client = client_end(secure=True, bindings=BINDINGS, chunk=chunk, known=Known(client=ID, token=token), tokens=True)
    login = client.feed(server.feed(client.stream.data_to_send()))
    assert client.feed(server.feed(login)) == b""
    assert isinstance(client.events[-1], Ready)
    assert seen[0].how == fast.Request(count=5, invalidate=False)
    assert client.stream.known.token == replace(token, count=5)  # type: ignore[union-attr]
    assert client.stream.known.tls  # type: ignore[union-attr]


def test_first_login_asks_for_a_token_and_keeps_it() -> None:
    fresh = replace(TOKEN, token="fresh")
    answers: dict[type, Answer] = {
        NeedSession: lambda stream, event: stream.established(
            stream.jid.with_resource("r"), [bind2.bound([]), fast.render_token(fresh)]
        )
    }
    client = client_end(secure=True, bindings=BINDINGS, known=Known(client=ID), tokens=True)
    sent = talk(client, site(tokens=True, bindings=BINDINGS, answers=answers))
    assert f"<request-token xmlns='{fast.NS}' mechanism='HT-SHA-256-ENDP'/>".encode() in sent
    assert client.stream.known.token == fresh  # type: ignore[union-attr]


def test_token_that_was_not_asked_for_is_ignored() -> None:
    answers: dict[type, Answer] = {
        NeedSession: lambda stream, event: stream.established(stream.jid, [fast.render_token(TOKEN)])
    }
    client = client_end(secure=True, known=Known(client=ID))
    talk(client, site(answers=answers))
    assert client.stream.known.token is None  # type: ignore[union-attr]


def test_client_whose_token_is_refused_proves_its_password_on_the_same_stream() -> None:
    """XEP-0484 section 4.1."""
    stale = replace(TOKEN, token="stale")
    client = client_end(secure=True, bindings=BINDINGS, known=Known(client=ID, token=stale), tokens=True)
    server = site(tokens=True, bindings=BINDINGS, answers=tokens())
    sent = talk(client, server)
    assert isinstance(client.events[-1], Ready)
    assert client.stream.known.token is None  # type: ignore[union-attr]
    assert sent.count(b"<stream:stream") == 1
    assert b"mechanism='HT-SHA-256-ENDP'" in sent.partition(b"SCRAM-SHA-256-PLUS")[2]  # and asks for another


def test_server_that_is_busy_does_not_cost_the_token() -> None:
    answers: dict[type, Answer] = {CheckToken: lambda stream, event: stream.refuse_login("temporary-auth-failure")}
    client = client_end(secure=True, bindings=BINDINGS, known=Known(client=ID, token=TOKEN))
    talk(client, site(tokens=True, bindings=BINDINGS, answers=answers))
    assert isinstance(client.error, AuthError)
    assert client.stream.known.token == replace(TOKEN, count=1)  # type: ignore[union-attr]


def test_server_that_does_not_know_the_token_is_found_out() -> None:
    answers: dict[type, Answer] = {CheckToken: lambda stream, event: stream.token_checked(b"anything")}
    client = client_end(secure=True, bindings=BINDINGS, known=Known(client=ID, token=TOKEN))
    talk(client, site(tokens=True, bindings=BINDINGS, answers=answers))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "bad-server-signature"


@pytest.mark.security(row=35)
def test_token_is_not_sent_through_somebody_elses_tls() -> None:
    """Row 35: the proof is bound to the certificate that the client saw."""
    client = client_end(
        secure=True, bindings={"tls-server-end-point": b"in the middle"}, known=Known(client=ID, token=TOKEN)
    )
    server = site(tokens=True, bindings=BINDINGS, answers=tokens())
    server.feed(client.feed(server.feed(client.stream.data_to_send())))
    failed = [event for event in server.events if isinstance(event, LoginFailed)]
    assert [event.condition for event in failed] == ["credentials-expired"]


def test_bound_token_is_not_used_where_the_server_offers_no_binding() -> None:
    """XEP-0484 section 3.4: and a downgrade of the password's login is noticed as ever."""
    client = client_end(secure=True, bindings=BINDINGS, known=Known(client=ID, token=TOKEN, plus=True))
    server = site(tokens=True, bindings=BINDINGS, answers=tokens())
    offer = server.feed(client.stream.data_to_send())
    cut = re.sub(rb"<mechanism>[\w-]*-(PLUS|ENDP)</mechanism>|<sasl-channel.*?sasl-channel-binding>", b"", offer)
    assert b"authenticate" not in client.feed(cut)
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "downgrade"


@pytest.mark.parametrize(
    ("mechanism", "data", "inside", "condition"),
    [
        ("HT-SHA-256-NONE", b"boiler\0x", f"<fast xmlns='{fast.NS}'/>", "malformed-request"),  # no user agent
        ("HT-SHA-256-NONE", None, AGENT + f"<fast xmlns='{fast.NS}'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"boiler", AGENT + f"<fast xmlns='{fast.NS}'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"\xff\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"a@b\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "not-authorized"),
        ("HT-SHA-256-NONE", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "credentials-expired"),
        ("HT-SHA-256-NONE", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}' count='0'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}' count='٣'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}' invalidate='x'/>", "malformed-request"),
        ("HT-SHA-256-NONE", b"boiler\0x", AGENT, "invalid-mechanism"),  # without <fast/>
        ("HT-SHA-256-UNIQ", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "invalid-mechanism"),
        ("HT-SHA-256-EXPR", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "invalid-mechanism"),
        ("HT-SHA-256-ENDP", b"boiler\0x", AGENT + f"<fast xmlns='{fast.NS}'/>", "invalid-mechanism"),  # no binding
        ("PLAIN", b"\0boiler\0pencil", AGENT + f"<fast xmlns='{fast.NS}'/>", "invalid-mechanism"),
    ],
)
def test_bad_login_by_token_gets_the_failure_it_deserves(
    mechanism: str, data: bytes | None, inside: str, condition: str
) -> None:
    server = opened(site(tokens=True, answers=tokens(replace(TOKEN, mechanism="HT-SHA-256-NONE"))))
    assert f"<{condition} xmlns=".encode() in server.feed(authenticate(mechanism, data, inside))


def test_tokens_do_not_show_in_reprs() -> None:
    assert TOKEN.token not in repr(TOKEN)
    assert "proof" not in repr(CheckToken("boiler", "HT-SHA-256-NONE", ID, b"secret proof", b"", fast.Request()))


# ---- the client ----


def said(client: End, text: str) -> None:
    """Let the server say this in answer to the login."""
    server = site()
    client.feed(server.feed(client.stream.data_to_send()))
    client.feed(text)


@pytest.mark.parametrize(
    ("answer", "condition"),
    [
        (f"<success xmlns='{NS}'/>", "malformed-request"),
        (f"<success xmlns='{NS}'><authorization-identifier>a@b/</authorization-identifier></success>", "malformed-request"),
        (f"<success xmlns='{NS}'><authorization-identifier>boiler@plant.example</authorization-identifier></success>",
         "malformed-challenge"),
        (f"<challenge xmlns='{NS}'>=</challenge>", "incorrect-encoding"),
        (f"<continue xmlns='{NS}'><tasks><task>TOTP-EXAMPLE</task></tasks></continue>", "aborted"),
        (f"<failure xmlns='{NS}'><account-disabled xmlns='{SASL}'/><text>gone</text></failure>", "account-disabled"),
        (f"<failure xmlns='{NS}'/>", "not-authorized"),
    ],
)  # fmt: skip
@pytest.mark.security(statement=47)
def test_client_takes_no_answer_that_proves_nothing(answer: str, condition: str) -> None:
    client = client_end(secure=True)
    said(client, answer)
    assert isinstance(client.error, AuthError)
    assert client.error.condition == condition


def test_client_reads_the_text_of_a_failure() -> None:
    client = client_end(secure=True)
    said(client, f"<failure xmlns='{NS}'><aborted xmlns='{SASL}'/><text>a terrible example</text></failure>")
    assert isinstance(client.error, AuthError)
    assert client.error.text == "a terrible example"


def test_answer_in_the_other_profile_is_a_stream_error() -> None:
    client = client_end(secure=True)
    said(client, f"<success xmlns='{SASL}'/>")
    assert isinstance(client.error, StreamError)


def test_client_keeps_what_came_with_the_login() -> None:
    results = Element("{urn:xmpp:sm:3}failed", {"h": "3"})
    answers: dict[type, Answer] = {
        NeedSession: lambda stream, event: stream.established(
            stream.jid.with_resource("r"), [bind2.bound([Element("{urn:xmpp:sm:3}enabled", {"id": "1"})]), results]
        )
    }
    wished: list[sasl2.Offer] = []

    def wishes(offer: sasl2.Offer) -> list[Element]:
        wished.append(offer)
        return [Element("{urn:xmpp:sm:3}resume")]

    client = client_end(secure=True, wishes=wishes, bind_wishes=lambda offer: [Element("{urn:xmpp:sm:3}enable")])
    sent = talk(client, site(answers=answers))
    assert b"<enable xmlns='urn:xmpp:sm:3'/></bind>" in sent
    assert b"<resume xmlns='urn:xmpp:sm:3'/></authenticate>" in sent
    assert wished[0].bind == ()
    outcome = client.stream.outcome  # type: ignore[union-attr]
    assert outcome is not None
    assert [child.name for child in outcome.bound or ()] == ["enabled"]
    assert [child.name for child in outcome.results] == ["failed"]


def test_client_falls_back_to_the_first_profile() -> None:
    client, server = client_end(secure=True, known=Known(client=ID, token=TOKEN), tokens=True), server_end()
    talk(client, server)
    assert isinstance(client.events[-1], Ready)
    assert client.stream.known.token == TOKEN  # type: ignore[union-attr]
